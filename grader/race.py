"""Wall clock against wall clock: interleaved runs, an interval, and the benefit of the doubt. Layer 1."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

from grader.cost import TooCostly
from grader.verdict import Details

MIN_PAIRS, MAX_PAIRS = 6, 40  # with six pairs their whole range is a 95 % interval
BUDGET = 5.0  # seconds for one race


def clock(run: Callable[[], object]) -> float:
    """Seconds until the result has arrived, by the trusted side's clock."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def assert_not_slower(learner: Callable[[], float], reference: Callable[[], float], at_most: float) -> None:
    """Race two timed runs in turns until the interval of their ratio clears `at_most` or time is up.

    Fails only when the whole interval lies above: noise is in the learner's favour.
    """
    learner(), reference()  # the first run of each pays for what later ones find warm
    ratios: list[float] = []
    start = time.monotonic()
    while len(ratios) < MAX_PAIRS and (len(ratios) < MIN_PAIRS or time.monotonic() - start < BUDGET):
        ratios.append(_pair(learner, reference, learner_first=len(ratios) % 2 == 0))
        low, high = interval(ratios)
        if len(ratios) >= MIN_PAIRS and (high <= at_most or low > at_most):
            break
    low, high = interval(ratios)
    if low > at_most:
        middle = statistics.median(ratios)
        raise TooCostly(
            Details(
                headline="slower than allowed",
                allowed=f"{at_most:g} times as long as the kit's own solution",
                got=f"{middle:.3g} times as long ({low:.3g} to {high:.3g}, {len(ratios)} pairs of runs)",
            )
        )


def _pair(learner: Callable[[], float], reference: Callable[[], float], *, learner_first: bool) -> float:
    if learner_first:
        mine = learner()
        return mine / reference()
    base = reference()
    return learner() / base


def interval(ratios: list[float]) -> tuple[float, float]:
    """An interval of at least 95 % for the median: order statistics, no assumption about the noise."""
    ordered, n = sorted(ratios), len(ratios)
    total, skip = 0.0, 0
    while skip < n // 2 and total + math.comb(n, skip) / 2**n <= 0.025:
        total += math.comb(n, skip) / 2**n
        skip += 1
    low = max(0, skip - 1)
    return ordered[low], ordered[n - 1 - low]
