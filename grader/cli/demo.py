"""`grade demo`: what a wrong answer looks like, without writing one."""

from __future__ import annotations

from pathlib import Path

import click

from grader import catalog
from grader.cli.dashboard import dashboard
from grader.cli.grade import Options, Target, grade_one, present
from grader.cli.session import Session
from grader.errors import Fault
from grader.verdict import Status

FILE = Path(__file__).resolve().parent.parent / "demo" / "adamw.py"
SLUG = "adamw"


@click.command()
def demo() -> None:
    """Grade a bundled attempt at `adamw` that has one mistake, then show where to begin. Nothing is kept."""
    session = Session.anywhere()
    target = Target(catalog.find(SLUG), FILE)
    session.screen.result(f"a bundled attempt at `{SLUG}`, as a learner might write it: {FILE}\n")
    with session.screen.status("starting"):
        from grader.engine import Engine

        engine = Engine()
    with engine:
        verdict = grade_one(engine, target, Options(), session)
    present(verdict, target, Options(), session)
    if verdict.status is not Status.FAILED:
        raise Fault(f"the demo should have failed its tests, and the verdict is `{verdict.status}`")
    session.screen.result("\n" + "-" * min(72, session.screen.width) + "\n")
    dashboard(as_json=False)
