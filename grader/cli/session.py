"""What the commands share: the workspace, the store, and the words that name exercises. Layer 5."""

from __future__ import annotations

import contextlib
import difflib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from grader import catalog, workspace
from grader.cli.screen import Screen
from grader.errors import UnknownExercise, UsageError
from grader.exercise import Exercise
from grader.store import Standing, Store, StoreUnavailable
from grader.workspace import Workspace

json_option = click.option("--json", "as_json", is_flag=True, help="print JSON on stdout")


@dataclass
class Session:
    """One command's surroundings. Without a workspace there is no store, and nothing is kept."""

    workspace: Workspace | None
    screen: Screen = field(default_factory=Screen.here)
    complained: bool = False

    @staticmethod
    def anywhere() -> Session:
        """For commands that also work outside a workspace."""
        try:
            return Session(workspace.find(Path.cwd()))
        except UsageError:
            return Session(None)

    @staticmethod
    def inside() -> Session:
        """For commands that need a workspace. Raises UsageError outside one."""
        return Session(workspace.find(Path.cwd()))

    @property
    def store(self) -> Store | None:
        return Store(self.workspace.database, clock=time.time) if self.workspace else None

    def complain(self, error: StoreUnavailable) -> None:
        """Say once that nothing can be kept or recalled; the command goes on."""
        if not self.complained:
            self.screen.error(str(error))
        self.complained = True

    def keep(self, write: Callable[[Store], None]) -> None:
        """Write to the store where there is one; a store that cannot be written costs a complaint and no more."""
        if self.workspace is None or self.store is None:
            return
        with contextlib.suppress(OSError):  # the store says it better
            self.workspace.make_state()
        try:
            write(self.store)
        except StoreUnavailable as error:
            self.complain(error)

    def standings(self) -> dict[str, Standing]:
        """Where each exercise stands; empty, with a complaint, when the store cannot be read."""
        try:
            return self.store.standings() if self.store else {}
        except StoreUnavailable as error:
            self.complain(error)
            return {}

    def passed(self) -> set[str]:
        return {exercise for exercise, standing in self.standings().items() if standing.passed}

    def shown(self, path: Path) -> str:
        return workspace.shown(path)


def find(name: str) -> Exercise:
    """One exercise by slug, `track/slug` or the path of its stub. Raises UnknownExercise."""
    (exercise,) = _select(name, many=False)
    return exercise


def select(name: str) -> tuple[Exercise, ...]:
    """The exercises a word means, tracks and `all` included. Raises UnknownExercise."""
    return _select(name, many=True)


def _select(name: str, *, many: bool) -> tuple[Exercise, ...]:
    path = Path(name)
    try:
        if many and path.name in catalog.tracks() and os.path.isdir(path):
            return catalog.select(path.name)  # `exercises/attention/`, as a shell completes it
        if is_python_file(name):
            return (_of_file(path),)
        return catalog.select(name) if many else (catalog.find(name),)
    except UnknownExercise as error:
        raise UnknownExercise(name, [*_near_commands(name), *error.near][:3]) from None


def is_python_file(name: str) -> bool:
    """Whether a word names a file that is there; `Path.is_file` raises for a word too long for a name."""
    return name.endswith(".py") and os.path.isfile(name)


def _of_file(path: Path) -> Exercise:
    """The exercise that a file answers: by its place, else by its name."""
    try:
        return catalog.find(str(path.resolve()))
    except UnknownExercise:
        return catalog.find(path.stem)


def _near_commands(name: str) -> list[str]:
    from grader.cli import COMMANDS

    return difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.7)


class ExerciseName(click.ParamType):
    """A word of the command line that names one exercise; completes slugs."""

    name = "slug"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Exercise:
        return value if isinstance(value, Exercise) else find(str(value))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(e.slug, help=e.card.title) for e in catalog.exercises() if e.slug.startswith(incomplete)]


def complete_names(incomplete: str) -> list[CompletionItem]:
    """Slugs, tracks and `all`, and files where none of these fits."""
    slugs = [CompletionItem(e.slug, help=e.card.title) for e in catalog.exercises() if e.slug.startswith(incomplete)]
    tracks = [CompletionItem(t, help="track") for t in (*catalog.tracks(), "all") if t.startswith(incomplete)]
    return slugs + tracks or [CompletionItem(incomplete, type="file")]


def describe(exercise: Exercise, standing: Standing | None) -> dict[str, Any]:
    """An exercise and where it stands, as JSON."""
    card = exercise.card
    return {
        "exercise": exercise.path,
        "title": card.title,
        "level": card.level,
        "minutes": card.minutes,
        "after": list(card.after),
        "file": str(exercise.stub_path),
        "passed": bool(standing and standing.passed),
        "attempts": standing.attempts if standing else 0,
        "best_points": standing.best if standing else 0,
        "max_points": standing.max_points if standing else None,
    }
