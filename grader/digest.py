"""Content hashes: of what was graded, of what it was graded by, and of the engine that did it. Layer 1."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from grader.exercise import Exercise
from grader.source import fingerprint

PACKAGE = Path(__file__).resolve().parent
# folders of the package that no verdict of an exercise depends on: other exercises, and how a verdict is shown
APART = {"suites", "content", "demo", "cli", "render"}


def engine_files() -> list[Path]:
    """The modules that a verdict may depend on, in the order of their names."""
    found = []
    for folder, folders, files in os.walk(PACKAGE):
        folders[:] = [name for name in folders if name not in APART]
        found += [Path(folder, name) for name in files if name.endswith(".py")]
    return sorted(found)


@functools.cache
def engine() -> str:
    """Of the engine's modules: read once, as what runs was read once."""
    texts = (text for file in engine_files() for text in (str(file.relative_to(PACKAGE)), file.read_text("utf-8")))
    return fingerprint(*texts)


def exercise(which: Exercise) -> str:
    """Of the solution, the card, the suite, and the mistakes. A file that is not there counts as empty."""
    files = [which.suite, *(which.folder / name for name in ("card.toml", "mistakes.diff"))]
    return fingerprint(which.text, *(file.read_text("utf-8") if file.is_file() else "" for file in files))


def submission(text: str) -> str:
    whole = text.encode(errors="backslashreplace").decode()  # a notebook may hold half a character
    return fingerprint(whole)
