"""Grading from a command: one answer, shown and kept. What `grade`, `watch` and `demo` share. Layer 5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from grader.cli.session import Session
from grader.errors import UsageError
from grader.order import Order
from grader.verdict import Status

if TYPE_CHECKING:
    from grader.engine import Engine
    from grader.report import Report


FORMS = ("text", "json", "gcc", "github", "junit")  # in which a verdict is printed


@dataclass(frozen=True)
class Display:
    """How a verdict is printed."""

    form: str = "text"
    verbose: bool = False
    alone: bool = True  # in full; several get a line each


class Seed(click.ParamType):
    name = "N|random"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "random":
            import secrets

            return secrets.randbelow(1 << 31)
        try:
            seed = int(value)
        except ValueError:
            seed = -1
        if not 0 <= seed < 1 << 63:
            self.fail(f"`{value}` is no seed: give a whole number from 0, or `random`", param, ctx)
        return seed


def find_device(device: str) -> str:
    """Turn `auto` into what is there. Raises UsageError when a GPU was asked for and there is none."""
    if device == "cpu":
        return device
    from grader.cli.device import gpu

    found = gpu()
    if device == "cuda" and found.name is None:
        raise UsageError(f"no GPU can be used: {found.why}\n\nhint: `--device auto` takes one where there is one")
    return "cuda" if found.name else "cpu"


def warm_engine(session: Session, memory: int) -> Engine:
    """An engine whose submissions may allocate so many MiB; importing what it needs takes a second."""
    with session.screen.status("starting"):
        from grader.engine import Engine

        return Engine(memory=memory << 20)


def grade_one(engine: Engine, order: Order, session: Session) -> Report:
    with session.screen.status(f"grading {order.exercise.slug}") as notify:
        return engine.grade(order, notify)


def present(report: Report, display: Display, session: Session) -> None:
    """One exercise in full, several with a line each; JSON always one object a line. A test report is for the end."""
    from grader.render.terminal import render, status_line

    verdict, order = report.verdict, report.order
    if display.form == "json":
        session.screen.json(verdict.to_json(), indent=None)
    elif display.form in ("gcc", "github"):
        from grader.render.formats import gcc, github

        lines = (gcc if display.form == "gcc" else github).render(verdict, session.shown(order.file))
        if lines:
            session.screen.result(lines)
    elif display.form != "text":
        return
    elif display.alone or display.verbose:
        page = render(
            verdict,
            width=session.screen.width,
            verbose=display.verbose,
            follow_ups=[question for question, _ in order.exercise.card.follow_ups],
            file=session.shown(order.file),
        )
        session.screen.result(page)
    else:
        session.screen.result(status_line(verdict, session.screen.width))


def present_all(reports: Sequence[Report], display: Display, session: Session) -> None:
    """What is printed at the end: how many passed, or the test report."""
    if display.form == "junit":
        from grader.render.formats import junit

        session.screen.result(junit.render((report.verdict, session.shown(report.order.file)) for report in reports))
    elif display.form == "text" and len(reports) > 1:
        passed = sum(report.verdict.passed for report in reports)
        session.screen.result(f"\n{passed} of {len(reports)} passed")


def record(report: Report, session: Session) -> None:
    """Keep the attempt, after the verdict was printed: a store that fails costs the learner nothing else.

    Grading a stub is no attempt.
    """
    verdict, order = report.verdict, report.order
    if verdict.status is Status.NOT_STARTED:
        return
    session.keep(lambda store: store.record(verdict, text=report.text, part=order.part, complete=order.performance))


def write_repro(report: Report, session: Session, *, to_stderr: bool) -> None:
    """Write the script that repeats the failing call beside the learner's files, and say where it is."""
    say, slug, script = (
        session.screen.note if to_stderr else session.screen.result,
        report.order.exercise.slug,
        report.repro,
    )
    if script is None:
        say(f"\nno call of `{slug}` failed, so there is nothing to repeat")
        return
    try:
        folder = session.workspace.make_state() / "repro" if session.workspace else Path.cwd()
        folder.mkdir(exist_ok=True)
        path = folder / (f"{slug}.py" if session.workspace else f"repro_{slug}.py")
        path.write_text(script, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        session.screen.error(f"the script cannot be written: {error}")
        return
    say(f"\nthe failing call as a script: {session.shown(path)}")
