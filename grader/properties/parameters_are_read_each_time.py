"""A module computes with the parameters that it has now: nothing made of them is kept from an earlier call."""

from __future__ import annotations

import functools
from typing import Any

from grader.compare import assert_close
from grader.properties.property import Property, size_of
from grader.properties.result_is_new import copied
from grader.properties.subject import subject
from grader.suite import probe


@probe
def trained(module: Any, name: str, settings: tuple[Any, ...], calls: list[Any]) -> list[Any]:
    """The results, those after the parameters changed, and those of an object that is called after the change alone."""
    results = []
    for called_before in (True, False):
        called = subject(module, name, settings)
        if called_before:
            results.append([copied(called(*args, **kwargs)) for args, kwargs in calls])
        for p in called.parameters():
            p.detach().mul_(1.5).add_(0.125)
        results.append([called(*args, **kwargs) for args, kwargs in calls])
    return results


def check(submission: Any, case: Any, draw: Any) -> None:
    drawn = case.draw(draw)
    before, got, expected = case.run(submission, trained, *drawn.plain())
    for number, (a, b) in enumerate(zip(got, expected, strict=True), 1):
        assert_close(a, b, what=f"result of call {number} after the parameters changed")
    case.check_right(drawn, before)


def remembers_its_results(original: Any) -> Any:
    kept: dict[str, Any] = {}

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        key = repr((id(args[0]), size_of(args[1:]), size_of(kwargs)))
        if key not in kept:
            kept[key] = original(*args, **kwargs), args  # kept, so that no other object gets its address
        return kept[key][0]

    return wrapped


parameters_are_read_each_time = Property(
    "parameters_are_read_each_time",
    "a change of the parameters counts from the next call on",
    "tensors",
    "keeps-what-parameters-made",
    "Something made of the parameters is kept from an earlier call; after a training step it is stale.",
    remembers_its_results,
    check,
)
