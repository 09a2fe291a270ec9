"""A call gives what it gives alone: with other sizes before it, and other numbers of the same size."""

from __future__ import annotations

import functools
from typing import Any

from grader.compare import assert_close
from grader.properties.case import Drawn
from grader.properties.property import Property, size_of


def check(submission: Any, case: Any, draw: Any) -> None:
    first, second = case.draw(draw), case.draw(draw)
    together = Drawn(first.calls + second.calls + first.calls, first.settings)
    if case.expect is not None:
        (got,) = case.results(submission, together)
        expected = case.expected(Drawn(first.calls + second.calls, first.settings))
        expected += expected[: len(first.calls)]
    else:
        alone = [Drawn((call,), first.settings) for call in together.calls]
        got, *each = case.results(submission, together, *alone)
        expected = [result for (result,) in each]
        case.check_right(together, got)
    for number, (a, b) in enumerate(zip(got, expected, strict=True), 1):
        assert_close(a, b, what=f"result of call {number} of {len(got)}")


def remembers(original: Any) -> Any:
    kept: dict[str, Any] = {}

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        key = repr((size_of(args), size_of(kwargs)))
        if key not in kept:
            kept[key] = original(*args, **kwargs), args  # kept, so that no other object gets its address
        return kept[key][0]

    return wrapped


no_state_between_calls = Property(
    "no_state_between_calls",
    "a call gives what it gives alone, whatever was called before",
    "anything",
    "keeps-state",
    "Something is kept from an earlier call and used in a later one; a result depends on the arguments alone.",
    remembers,
    check,
)
