"""What the gate complains of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grader import catalog


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and what mends it."""

    exercise: str
    what: str
    mend: str


def shown(path: Path) -> str:
    """A path as the author knows it, from the top of the clone."""
    return str(path.relative_to(catalog.content())) if path.is_relative_to(catalog.content()) else str(path)
