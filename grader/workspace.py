"""The learner's folder: where the stubs lie and `.grade/` keeps what the kit remembers. Layer 3.

A workspace is a folder that holds `.grade/`, or both `exercises/` and `leetcode/`: a clone is one
as it stands. Nothing here ever overwrites or deletes a learner's file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from grader import catalog
from grader.errors import UsageError
from grader.exercise import STUBS, Exercise

STATE = ".grade"


@dataclass(frozen=True)
class Workspace:
    root: Path

    @property
    def state(self) -> Path:
        """The kit's own folder; it may not exist yet."""
        return self.root / STATE

    @property
    def database(self) -> Path:
        return self.state / "progress.db"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where the stubs lie."""
        return tuple(self.root / name for name in STUBS)

    def file(self, exercise: Exercise) -> Path:
        """Where the learner's answer to an exercise lies, whether or not it is there."""
        return self.root / exercise.stub_path

    def make_state(self) -> Path:
        """Create `.grade/`, which ignores itself in git. Raises OSError."""
        self.state.mkdir(parents=True, exist_ok=True)
        _write_new(self.state / ".gitignore", "*\n")
        return self.state


def shown(path: Path) -> str:
    """A path as messages show it: relative to the current directory where that is shorter."""
    try:
        return min(os.path.relpath(path), str(path), key=len)
    except (OSError, ValueError):
        return str(path)


def find(start: Path) -> Workspace:
    """The workspace that holds a folder. Raises UsageError when there is none above it."""
    start = start.absolute()
    for folder in (start, *start.parents):
        if (folder / STATE).is_dir() or all(place.is_dir() for place in Workspace(folder).folders):
            return Workspace(folder)
    folders = " next to ".join(f"`{name}/`" for name in STUBS)
    raise UsageError(
        f"no workspace in `{start}` or above it: no `{STATE}/`, and no {folders}\n\n"
        "hint: `grade init DIR` writes the stubs into a new one, or change into the one you have"
    )


@dataclass
class Initialised:
    """What `init` did: the stubs it wrote, and the files that were there and stayed as they are."""

    workspace: Workspace
    written: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)


def init(folder: Path, exercises: Iterable[Exercise] | None = None) -> Initialised:
    """Write the stubs that are not there yet. Raises UsageError when the folder cannot be written."""
    done = Initialised(Workspace(folder.absolute()))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        done.workspace.make_state()
        for exercise in catalog.exercises() if exercises is None else exercises:
            path = done.workspace.file(exercise)
            (done.written if _write_new(path, exercise.stub_text) else done.kept).append(path)
    except OSError as error:
        raise _cannot_write(Path(error.filename or folder), error) from None
    return done


@dataclass(frozen=True)
class Reset:
    """What `reset` did. `backup` is None when there was no file; `changed` is False when it was the stub already."""

    path: Path
    backup: Path | None
    changed: bool


def reset(workspace: Workspace, exercise: Exercise) -> Reset:
    """Bring the stub back and keep the old file as `adamw.py.bak`, `.bak1`, ... Raises UsageError."""
    path, stub = workspace.file(exercise), exercise.stub_text
    try:
        if path.is_dir():
            raise UsageError(f"`{shown(path)}` is a folder; move it away first")
        backup = None
        if path.exists() or path.is_symlink():
            if path.is_file() and path.read_bytes() == stub.encode():
                return Reset(path, None, changed=False)
            backup = _free_name(path)
            path.rename(backup)
        try:
            _write_new(path, stub)
        except OSError:
            if backup is not None:
                backup.rename(path)
            raise
    except OSError as error:
        raise _cannot_write(path, error) from None
    return Reset(path, backup, changed=True)


def _free_name(path: Path) -> Path:
    backup, number = path.with_name(f"{path.name}.bak"), 0
    while backup.exists() or backup.is_symlink():
        number += 1
        backup = path.with_name(f"{path.name}.bak{number}")
    return backup


def _write_new(path: Path, text: str) -> bool:
    """Whether the file was written: one that is there stays. Mode "x" leaves no moment between look and write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = path.open("x", encoding="utf-8", newline="\n")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(text)
    except OSError:
        path.unlink()  # half a stub would be kept for ever, as the learner's own
        raise
    return True


def _cannot_write(path: Path, error: OSError) -> UsageError:
    return UsageError(f"`{path}` cannot be written: {error.strerror or error}")
