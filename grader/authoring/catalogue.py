"""Records what an author found: a mistake, from an edit of the solution, and a mutant that no test can kill."""

from __future__ import annotations

import re
from pathlib import Path

from grader.authoring import blocks, git, keys, record
from grader.authoring.mutants import mutants
from grader.authoring.problem import shown
from grader.errors import UsageError
from grader.exercise import Exercise

KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def mistake(exercise: Exercise, name: str, says: str) -> Path:
    """Write the edit that stands in the solution as a block of `mistakes.diff`, and take it out of the solution.

    Returns the file. Raises UsageError, and changes nothing, where there is no edit or it is no mistake.
    """
    file = exercise.folder / "mistakes.diff"
    if not KEBAB.fullmatch(name):
        raise UsageError(f"`{name}` is no name for a mistake; write it in kebab-case, as `decay-after-step`")
    if file.exists() and name in {known.name for known in exercise.mistakes}:
        raise UsageError(f"{exercise.path} has a mistake called `{name}` already")
    if not says.strip():
        raise UsageError("say what the learner is told: what was done, and what is right")
    solution = git.committed(exercise.solution)
    if solution is None:
        raise UsageError(f"git has no {shown(exercise.solution)} to compare with: commit the solution first")
    _compiles(exercise)
    if keys.syntax(solution) == keys.syntax(exercise.text):
        raise UsageError(f"{shown(exercise.solution)} does what git's does: make the mistake in it first")
    blocks.append(file, blocks.MISTAKES, blocks.mistake(name, says, solution, exercise.text))
    exercise.solution.write_text(solution, encoding="utf-8")
    return file


def equivalent(exercise: Exercise, key: str, reason: str) -> Path:
    """Write a survivor into `equivalent.diff`, to those of the same reason if there are any. Raises UsageError."""
    again = f"`grade dev mutate {exercise.slug}` prints the survivors with their keys"
    if not reason.strip():
        raise UsageError("say why no test can tell the mutant from the solution")
    found = {mutant.key: mutant for mutant in mutants(exercise.text)}
    if key not in found:
        raise UsageError(f"{exercise.path} has no mutant `{key}`\n\nhint: {again}")
    known = record.score(exercise)
    if known is None or not record.same_mutants(known["hashes"], record.hashes(exercise)):
        raise UsageError(f"the mutants of {exercise.path} are not measured\n\nhint: {again}")
    if key not in known["survivors"]:
        raise UsageError(f"the mutant `{key}` is {'listed already' if key in known['equivalent'] else 'killed'}")
    file = exercise.folder / "equivalent.diff"
    blocks.join(file, " ".join(reason.split()), exercise.text, found[key].text)
    return file


def _compiles(exercise: Exercise) -> None:
    try:
        compile(exercise.text, exercise.solution.name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"the edited solution does not compile: {error}") from None
