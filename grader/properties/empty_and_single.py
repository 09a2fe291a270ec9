"""The edges: nothing at all, one of everything."""

from __future__ import annotations

import functools
from typing import Any

from grader.compare import assert_close
from grader.properties.property import Property, mapped


def check(submission: Any, case: Any, draw: Any) -> None:
    drawn = case.draw(draw)
    (got,) = case.results(submission, drawn)
    for number, (a, b) in enumerate(zip(got, case.expected(drawn), strict=True), 1):
        assert_close(a, b, what=f"result of call {number} of {len(got)}")


def forgets_the_edges(original: Any) -> Any:
    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        empty = any(type(value) in (list, tuple, dict, str) and not value for value in [*args, *kwargs.values()])
        return [] if empty else mapped(original(*args, **kwargs), lambda x: x.squeeze())

    return wrapped


empty_and_single = Property(
    "empty_and_single",
    "empty inputs and single elements",
    "anything",
    "forgets-the-edges",
    "An empty input is answered with an empty list, or an axis of length 1 is squeezed away.",
    forgets_the_edges,
    check,
)
