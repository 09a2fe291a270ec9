"""What goes into the engine. Layer 2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grader.exercise import Exercise


@dataclass(frozen=True)
class Order:
    """What to grade, and how.

    file         where the answer lies
    text         graded in place of what the file holds, which need not be there then
    seed         of the random inputs
    device       "cpu" or "cuda"
    part         this part's tests alone
    performance  with the performance tests
    diagnose     look for the mistake when something fails
    threads      that the submission's operators may use
    timeout      seconds for one call, in place of the card's
    remember     keep the results of the calls: this is a mistake of the catalogue
    first        tests to run first, in this order; the verdict lists them in the suite's
    stop         run nothing more after the first failure: only the status is wanted
    """

    exercise: Exercise
    file: Path
    text: str | None = None
    seed: int = 0
    device: str = "cpu"
    part: str | None = None
    performance: bool = True
    diagnose: bool = True
    threads: int = 1
    timeout: float | None = None
    remember: bool = False
    first: tuple[str, ...] = ()
    stop: bool = False
