"""What a call cost, counted, and checks of how that grows. Layer 1."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

from grader.failure import Failure
from grader.verdict import Details, Limit

WORDS = {
    "operators": "operators",
    "flops": "floating-point operations",
    "peak_bytes": "bytes at the peak",
    "largest_bytes": "bytes in the largest tensor",
    "saved_bytes": "bytes saved for backward",
    "held_bytes": "bytes alive after the call",
    "lines": "lines executed",
    "calls": "functions entered",
    "comparisons": "comparisons",
    "reads": "reads",
    "writes": "writes",
}


@dataclass(frozen=True)
class Cost:
    """Counts of one metered call; those that were not counted are None."""

    operators: int | None = None
    flops: int | None = None
    peak_bytes: int | None = None
    largest_bytes: int | None = None
    saved_bytes: int | None = None
    held_bytes: int | None = None
    lines: int | None = None
    calls: int | None = None
    comparisons: int | None = None
    reads: int | None = None
    writes: int | None = None
    by_name: dict[str, int] = field(default_factory=dict)  # operators by name, such as aten::cos
    checks: list[Limit] = field(default_factory=list, compare=False, repr=False)  # that it went through, on our side

    @classmethod
    def from_plain(cls, data: Any) -> Cost:
        """From what the sandbox sent. Raises ValueError unless it is a dict of counts."""
        names = {f.name for f in fields(cls)} - {"checks"}
        if not isinstance(data, dict) or not data.keys() <= names:
            raise ValueError("not a cost")
        by_name = data.get("by_name", {})
        if not isinstance(by_name, dict):
            raise ValueError("not a cost")
        counts = [*by_name.values(), *(v for k, v in data.items() if k != "by_name")]
        if not all(type(count) is int and 0 <= count < 1 << 62 for count in counts):
            raise ValueError("not a count")
        return cls(**data)

    def figures(self) -> dict[str, int]:
        """The metrics that were counted."""
        return {name: getattr(self, name) for name in WORDS if getattr(self, name) is not None}


@dataclass(frozen=True)
class Measured:
    """The result of a metered call, and what it cost."""

    value: Any
    cost: Cost


class TooCostly(Failure):
    """A right answer that costs more than the statement allows."""


def assert_growth(small: Cost, large: Cost, metric: str, *, at_most: float, when: str, slack: int = 0) -> None:
    """Check that a metric grows by a factor of at most `at_most` between two calls.

    slack  counts that are forgiven, for fixed costs that only the larger call has
    """
    before, after = _figure(small, metric), _figure(large, metric)
    factor = after / max(before, 1)
    large.checks.append(Limit(metric, at_most, round(factor, 4), when=when))
    if after - slack > at_most * before:
        _costly(
            f"{WORDS[metric]}: too steep when {when}",
            allowed=f"{at_most:g} times as many",
            got=f"{factor:.3g} times as many: {before:,} became {after:,}",
        )


def assert_cost(cost: Cost, metric: str, *, at_most: float, why: str) -> None:
    """Check that a metric is at most a number. `why` says where that number comes from."""
    figure = _figure(cost, metric)
    cost.checks.append(Limit(metric, at_most, figure, why=why))
    if figure > at_most:
        _costly(f"too many {WORDS[metric]}", allowed=f"{at_most:,.0f}: {why}", got=f"{figure:,}")


def _figure(cost: Cost, metric: str) -> int:
    figure = getattr(cost, metric)
    if figure is None:
        raise ValueError(f"`{metric}` was not counted in this call")
    return int(figure)


def _costly(headline: str, allowed: str, got: str) -> NoReturn:
    raise TooCostly(Details(headline=headline, allowed=allowed, got=got))
