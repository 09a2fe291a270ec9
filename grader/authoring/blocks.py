"""Writes the blocks of `mistakes.diff` and `equivalent.diff`; `grader.mistake` reads them."""

from __future__ import annotations

import difflib
import re
import textwrap
from pathlib import Path

from grader.errors import UsageError
from grader.mistake import Edit, read_equivalents

MISTAKES = """\
What people get wrong, one block a mistake: `## name`, what the learner is told, and a hunk against the solution.
A hunk's place is where its lines stand; `grade dev mistake` writes a block.
"""
EQUIVALENT = """\
Mechanical edits that no test can tell from the solution: `## why`, and hunks, each a mutant of its own.
`grade dev mutate --equivalent` writes a block.
"""
WIDTH = 118


def hunks(solution: str, edited: str, *, context: int) -> str:
    """Unified hunks from the solution to an edited one, with so much context that each fits in one place only.

    context  lines around a hunk, at least. Raises UsageError when nothing differs.
    """
    if solution == edited:
        raise UsageError("the edited solution is the solution")
    for lines in range(context, solution.count("\n") + 1):
        found = _grouped(solution.splitlines(keepends=True), edited.splitlines(keepends=True), lines)
        if all(_fits(old, solution) for _, old in found):
            return "".join(text for text, _ in found)
    raise UsageError("the edit fits more than one place, however much stands around it")


def mistake(name: str, says: str, solution: str, edited: str) -> str:
    """A block of `mistakes.diff`."""
    return f"## {name}\n{textwrap.fill(says, WIDTH, break_on_hyphens=False)}\n{hunks(solution, edited, context=1)}"


def equivalent(reason: str, solution: str, mutants: list[str]) -> str:
    """A block of `equivalent.diff`."""
    return f"## {reason}\n" + "".join(hunks(solution, mutant, context=0) for mutant in mutants)


def join(file: Path, reason: str, solution: str, mutant: str) -> None:
    """Add a mutant to the block of `equivalent.diff` that has this reason, or in a block of its own."""
    reasons = [item.reason for item in read_equivalents(file)]
    if reason not in reasons:
        append(file, EQUIVALENT, equivalent(reason, solution, [mutant]))
        return
    parts = re.split(r"^(?=## )", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    place = reasons.index(reason) + 1  # after the file's head
    block = parts[place].rstrip("\n")
    parts[place] = f"{block}\n{hunks(solution, mutant, context=0)}" + ("\n" if place + 1 < len(parts) else "")
    file.write_text("".join(parts), encoding="utf-8")


def append(file: Path, head: str, block: str) -> None:
    """Add a block to a file, which begins with `head` when it is new."""
    text = file.read_text(encoding="utf-8") if file.exists() else head
    text = text.rstrip("\n")  # a hunk may end with an empty line of the solution, which is a space there
    file.write_text(f"{text}\n\n{block}", encoding="utf-8")


def _grouped(old: list[str], new: list[str], context: int) -> list[tuple[str, str]]:
    """Hunks as text, each with the old lines that it holds. Not `difflib.unified_diff`, which takes lines that a long
    file repeats for junk.
    """
    found = []
    for group in difflib.SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(context):
        _, i, _, k, _ = group[0]
        _, _, j, _, m = group[-1]
        lines = [f"@@ -{_range(i, j)} +{_range(k, m)} @@\n"]
        for tag, a, b, c, d in group:
            if tag == "equal":
                lines += [f" {line}" for line in old[a:b]]
            else:
                lines += [f"-{line}" for line in old[a:b]] + [f"+{line}" for line in new[c:d]]
        found.append(("".join(lines), "".join(old[i:j])))
    return found


def _range(start: int, stop: int) -> str:
    return f"{start + 1},{stop - start}" if stop > start else f"{start},0"


def _fits(old: str, solution: str) -> bool:
    if not old:
        return False
    try:
        Edit(old, "").start(solution)
    except ValueError:
        return False
    return True
