"""`grade watch`: regrade on save, in a warm engine."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from grader import catalog
from grader.cli import hint as hints
from grader.cli.grading import Display, Seed, find_device, grade_one, present, record, warm_engine
from grader.cli.session import ExerciseName, Session
from grader.curriculum import next_exercise
from grader.errors import GraderError, UsageError
from grader.exercise import Exercise
from grader.order import Order
from grader.render import overview
from grader.render.terminal import outcome
from grader.render.text import faint
from grader.watch import Watch, sources

if TYPE_CHECKING:
    from grader.engine import Engine


class TerminalActions:
    """What the loop asks for, in a terminal. A grading that cannot be done is said, and the loop goes on."""

    def __init__(self, session: Session, engine: Engine, display: Display, *, device: str, seed: int) -> None:
        self.session, self.engine, self.display, self.device, self.seed = session, engine, display, device, seed

    def grade(self, exercise: Exercise) -> None:
        session = self.session
        assert session.workspace is not None
        order = Order(exercise, session.workspace.file(exercise), device=self.device, seed=self.seed)
        file = session.shown(order.file)
        self._begin(exercise, file)
        try:
            report = grade_one(self.engine, order, session)
        except GraderError as error:
            session.screen.error(str(error))
            self._end(file, "not graded")
            return
        present(report, self.display, session)
        self._end(file, outcome(report.verdict))
        record(report, session)

    def _begin(self, exercise: Exercise, file: str) -> None:
        """A fresh page for a person, a mark for a program that reads along."""
        screen = self.session.screen
        if self.display.form != "text":
            screen.result(f"grading {file}")
            return
        if screen.live and sys.stdout.isatty():
            click.clear()
        screen.note(faint(f"{time.strftime('%H:%M:%S')}  {exercise.path}"))

    def _end(self, file: str, how: str) -> None:
        if self.display.form != "text":
            self.session.screen.result(f"graded {file}: {how}")

    def hint(self, exercise: Exercise) -> None:
        number = hints.choose(exercise, None, self.session)
        self.session.screen.result(hints.text(exercise, number, self.session.screen.width))

    def show_list(self) -> None:
        session = self.session
        session.screen.result(overview.listing(catalog.exercises(), session.standings(), session.screen.width))

    def choose(self, besides: Exercise | None) -> Exercise | None:
        return next_exercise(catalog.exercises(), self.session.passed(), besides=besides)

    def say(self, text: str) -> None:
        self.session.screen.note(faint(text))


@click.command()
@click.argument("exercise", type=ExerciseName(), metavar="[SLUG]", required=False)
@click.option("--device", type=click.Choice(["cpu", "cuda", "auto"]), default="cpu", show_default=True)
@click.option("--seed", type=Seed(), default="0", help="of the random inputs  [default: 0]")
@click.option(
    "--format", "form", type=click.Choice(["text", "gcc"]), default="text", show_default=True,
    help="gcc: for editors, between `grading FILE` and `graded FILE`",
)  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="every failing test in full, and the passing ones")
@click.option("--memory", metavar="MIB", type=click.IntRange(64), default=4096, show_default=True, help="limit in MiB")
def watch(exercise: Exercise | None, device: str, seed: int, form: str, verbose: bool, memory: int) -> None:
    """Grade SLUG, and again whenever you save it; without SLUG, whatever you save.

    Keys: h hint, n next exercise, l list, r grade again, q quit. Set WATCHFILES_FORCE_POLLING=1 where saving is not
    noticed, as on network drives.
    """
    session = Session.inside()
    assert session.workspace is not None
    if exercise and not session.workspace.file(exercise).exists():
        path = session.shown(session.workspace.file(exercise))
        raise UsageError(f"there is no file `{path}`\n\nhint: `grade reset {exercise.slug}` writes the stub")
    if form != "text":
        session.screen = session.screen.still()
    device = find_device(device)
    with warm_engine(session, memory) as engine:
        actions = TerminalActions(session, engine, Display(form, verbose), device=device, seed=seed)
        loop = Watch(session.workspace, catalog.exercises(), actions, exercise=exercise)
        with sources(loop, sys.stdin):
            loop.loop()
