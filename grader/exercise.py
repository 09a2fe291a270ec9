"""What a suite declares: its card, its probes and its catalogue of mistakes.

Layer 0: plain data, no imports from the kit, nothing heavy. A suite's card holds
literals only, so that `grader.catalog` can read it as text without importing anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


class Level(StrEnum):
    WARM_UP = "warm-up"
    CORE = "core"
    STRETCH = "stretch"


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """The card of an exercise.

    title       what the exercise is called in lists
    level       "warm-up", "core" or "stretch"
    minutes     how long a prepared candidate needs for all parts
    hints       at least three, from a nudge to nearly the answer, no solution code
    follow_ups  (question, model answer) pairs, as an interviewer would go on
    after       slugs that are best solved first
    forbid      what the statement's rules exclude; see `grader.sandbox.inside.forbidden`
    needs       the pip packages that an answer may import ("torch", "numpy")
    timeout     seconds for one call of the learner's code
    composes    any of its mistakes may be planted together, for a bug hunt; all of them are named
    """

    title: str
    level: str
    minutes: int
    hints: tuple[str, ...]
    follow_ups: tuple[tuple[str, str], ...]
    after: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    needs: tuple[str, ...] = ("torch",)
    timeout: float = 5.0
    composes: bool = False


@dataclass(frozen=True)
class Mistake:
    """One way people get the exercise wrong, as an edit of the solution's text.

    name   kebab-case, unique in the suite
    says   what the learner is told: what was done, and what is right, in one sentence
    edits  {old: new}; each `old` occurs exactly once in the solution file
    alone  where the exercise `composes`: it shares its place with another mistake, and is planted by itself
    """

    name: str
    says: str
    edits: dict[str, str]
    alone: bool = False


@dataclass(frozen=True)
class Equivalent:
    """Mechanical edits of the solution that no test can tell from it, found by `grade dev mutate`.

    reason  why the result is the same, in one sentence
    edits   {old: new} or {old: (new, new)}; each is a mutant, and each `old` occurs exactly once in the solution file
    """

    reason: str
    edits: dict[str, str | tuple[str, ...]]


def probe(function: Function) -> Function:
    """Mark a function of a suite as one that runs beside the learner's code.

    Its source crosses into the sandbox: it must return plain data and hold no expectation.
    It sees the modules its suite imports (`torch`, `numpy as np`, `math`) and other probes.
    """
    function.__probe__ = True  # type: ignore[attr-defined]
    return function
