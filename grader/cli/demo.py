"""`grade demo`: what a wrong answer looks like, without writing one."""

from __future__ import annotations

from pathlib import Path

import click

from grader import catalog
from grader.cli.dashboard import dashboard
from grader.cli.grading import Display, grade_one, present, warm_engine
from grader.cli.session import Session
from grader.errors import Fault
from grader.order import Order
from grader.verdict import Status

FILE = Path(__file__).resolve().parent.parent / "demo" / "adamw.py"
SLUG = "adamw"
MEMORY = 4096  # MiB


@click.command()
def demo() -> None:
    """Grade a bundled attempt at `adamw` that has one mistake, then show where to begin. Nothing is kept."""
    session = Session.anywhere()
    session.screen.result(f"a bundled attempt at `{SLUG}`, as a learner might write it: {FILE}\n")
    with warm_engine(session, MEMORY) as engine:
        report = grade_one(engine, Order(catalog.find(SLUG), FILE), session)
    present(report, Display(), session)
    verdict = report.verdict
    if verdict.status is not Status.FAILED:
        raise Fault(f"the demo should have failed its tests, and the verdict is `{verdict.status}`")
    session.screen.result("\n" + "-" * min(72, session.screen.width) + "\n")
    dashboard(as_json=False)
