"""Edits of a solution, kept as hunks: the catalogued mistakes, and the mutants that no test can tell from it. Layer 0.

A file of blocks, `mistakes.diff` or `equivalent.diff`: `## heading`, prose, and unified hunks against the solution. A
hunk's place is where its context and removed lines stand, which must be exactly once; its line numbers are a reader's.
"""

from __future__ import annotations

import difflib
import functools
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unidiff.errors import UnidiffParseError
from unidiff.patch import PatchSet

from grader.errors import Fault

ALONE = " (alone)"  # after a mistake's name
Span = tuple[int, int, str]  # from and to in the solution's text, and what stands there instead


@dataclass(frozen=True)
class Edit:
    """Whole lines of the solution, context included, and what they become."""

    old: str
    new: str

    def spans(self, solution: str) -> list[Span]:
        """What really changes, word by word, so that edits of neighbouring places can be made together.

        Raises ValueError when the old lines do not occur exactly once.
        """
        start = self.start(solution)
        return [(start + first, start + last, text) for first, last, text in _changes(self.old, self.new)]

    def start(self, solution: str) -> int:
        places = [match.start() for match in re.finditer(f"(?=\n{re.escape(self.old)})", f"\n{solution}")]
        if len(places) != 1:
            raise ValueError(f"{len(places)} places instead of one hold these lines:\n{self.old.rstrip()}")
        return places[0]


@dataclass(frozen=True)
class Mistake:
    """One way people get the exercise wrong.

    name   kebab-case, unique in the exercise
    says   what the learner is told: what was done, and what is right, in one sentence
    edits  made together
    alone  where the exercise `composes`: it shares its place with another mistake, and is planted by itself
    """

    name: str
    says: str
    edits: tuple[Edit, ...]
    alone: bool = False


@dataclass(frozen=True)
class Equivalent:
    """Mechanical edits of the solution that no test can tell from it, found by `grade dev mutate`.

    reason  why the result is the same, in one sentence
    edits   each a mutant of its own
    """

    reason: str
    edits: tuple[Edit, ...]


@functools.lru_cache(4096)
def spans(mistake: Mistake, solution: str) -> tuple[Span, ...]:
    """Where a mistake changes the solution's text. Raises ValueError, which names it, where an edit does not fit."""
    try:
        return tuple(span for edit in mistake.edits for span in edit.spans(solution))
    except ValueError as error:
        raise ValueError(f"`{mistake.name}`: {error}") from None


def plant(solution: str, *mistakes: Mistake) -> str:
    """The solution with mistakes in it. Raises ValueError when an edit does not fit, or two of them meet."""
    found = sorted(span for mistake in mistakes for span in spans(mistake, solution))
    pieces: list[str] = []
    end = 0
    last: tuple[int, int] | None = None
    for start, stop, text in found:
        if start < end or (start, start) == last == (stop, stop):  # two insertions at one place have no order
            raise ValueError(f"two edits meet in line {solution.count(chr(10), 0, start) + 1} of the solution")
        pieces += [solution[end:start], text]
        end, last = stop, (start, stop)
    return "".join([*pieces, solution[end:]])


def edited(solution: str, edit: Edit) -> str:
    """The solution with one edit. Raises ValueError when its old lines do not occur exactly once."""
    start = edit.start(solution)
    return solution[:start] + edit.new + solution[start + len(edit.old) :]


def read_mistakes(file: Path) -> tuple[Mistake, ...]:
    """The catalogue in `mistakes.diff`. Raises Fault when it cannot be read."""
    return tuple(
        Mistake(heading.removesuffix(ALONE), prose, edits, heading.endswith(ALONE))
        for heading, prose, edits in _blocks(file)
    )


def read_equivalents(file: Path) -> tuple[Equivalent, ...]:
    """What `equivalent.diff` lists; nothing where there is no such file. Raises Fault when it cannot be read."""
    blocks = _blocks(file) if file.exists() else ()
    return tuple(Equivalent(f"{heading} {prose}".rstrip(), edits) for heading, prose, edits in blocks)


def _blocks(file: Path) -> Iterator[tuple[str, str, tuple[Edit, ...]]]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Fault(f"{file} cannot be read: {error}") from error
    for block in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        prose, _, hunks = block.partition("\n@@")
        heading, _, says = prose.partition("\n")
        try:
            edits = tuple(_edits(f"@@{hunks}"))
        except UnidiffParseError as error:
            raise Fault(f"{file}: the hunks of `{heading}` cannot be read: {error}") from error
        if not hunks or not all(edit.old for edit in edits):
            raise Fault(f"{file}: `{heading}` needs hunks that hold lines of the solution")
        yield heading.strip(), " ".join(says.split()), edits


def _edits(hunks: str) -> Iterator[Edit]:
    text = "--- solution\n+++ edited\n" + hunks.rstrip("\n") + "\n"
    for hunk in PatchSet(io.StringIO(text))[0]:
        old = [line.value for line in hunk if not line.is_added]
        new = [line.value for line in hunk if not line.is_removed]
        yield Edit("".join(old), "".join(new))


def _changes(old: str, new: str) -> Iterator[Span]:
    before, after = (re.findall(r"\w+|\W", text) for text in (old, new))
    places = [0, *itertools.accumulate(map(len, before))]
    for tag, i, j, k, m in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag != "equal":
            yield places[i], places[j], "".join(after[k:m])
