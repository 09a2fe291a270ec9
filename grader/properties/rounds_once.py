"""Half precision is computed in float32 and rounded once, at the end; and of mixed inputs, who gives the type."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from grader.compare import assert_close, assert_equal
from grader.properties.case import Drawn, Given
from grader.properties.computes_in_the_inputs_type import cast, in_type, largest
from grader.properties.property import Property, mapped
from grader.properties.subject import subject
from grader.suite import probe

HALVES = {"bfloat16": 2.0**-8, "float16": 2.0**-11}  # relative error of one rounding
SUMS = 1e-5  # what float32 sums are off by, beside values near 1


@probe
def in_float64(value: Any) -> list[Any]:
    """The type of each tensor in a value, and its numbers in float64, where roundings show."""
    if hasattr(value, "untyped_storage"):
        return [(value.dtype, value.detach().double() if value.is_floating_point() else value)]
    return [pair for item in value for pair in in_float64(item)] if isinstance(value, list | tuple) else []


@probe
def rounded_in_turn(module: Any, name: str, groups: list[Any]) -> list[list[Any]]:
    """The type of each result and its numbers in float64, for calls made one after another."""
    results = []
    for settings, calls in groups:
        called = subject(module, name, settings)
        results.append([in_float64(called(*args, **kwargs)) for args, kwargs in calls])
    return results


def check(submission: Any, case: Any, draw: Any, wide: tuple[int, ...] | None = (), kept: tuple[int, ...] = ()) -> None:
    """
    wide  the places of results that stay float32; None for all
    kept  the places of arguments that are float32 here too
    """
    drawn = case.draw(draw)
    halves = [_mixed(drawn, kept, "float32", name) if kept else cast(drawn, name) for name in HALVES]
    got = case.run(submission, rounded_in_turn, [half.plain() for half in halves])
    for name, half, results in zip(HALVES, halves, got, strict=True):
        exact = case.expected(cast(half, "float64"))
        for number, (a, b) in enumerate(zip(results, exact, strict=True), 1):
            _compare(a, b, f"result of call {number} in {name}", name, wide)


def _compare(got: Any, exact: Any, what: str, name: str, wide: tuple[int, ...] | None) -> None:
    """Tensor by tensor; those at the places `wide` stay float32, all of them for None."""
    right: list[Any] = []
    mapped(exact, right.append)
    kinds = ["float32" if wide is None or place in wide else name for place in range(len(right))]
    assert_equal(
        [kind for kind, _ in got],
        [in_type(x, kind).dtype for x, kind in zip(right, kinds, strict=True)],
        what=f"types of the {what}",
    )
    for place, ((_, a), b, kind) in enumerate(zip(got, right, kinds, strict=True)):
        rtol = HALVES.get(kind, SUMS)
        reason = f"one rounding to {kind} is allowed, at the end"
        here = what if len(right) == 1 else f"{what}, tensor {place}"
        assert_close(a, in_type(b, "float64"), what=here, rtol=rtol, atol=SUMS * largest(b), reason=reason)


def rounds_on_the_way(original: Any) -> Any:
    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        seen = []
        mapped((args, kwargs), lambda x: seen.append(x.dtype))
        half = [dtype for dtype in seen if str(dtype) in ("torch.bfloat16", "torch.float16")]

        def again(x: Any) -> Any:
            if not half or not x.is_floating_point():
                return x
            return 3 * x / 3 if x.dtype.itemsize == 2 else x.to(half[0]).to(x.dtype)

        return mapped(original(*args, **kwargs), again)

    return wrapped


rounds_once = Property(
    "rounds_once",
    "half precision is computed in float32 and rounded once",
    "tensors",
    "rounds-on-the-way",
    "In half precision something is rounded on the way; compute in float32 and round once, at the end.",
    rounds_on_the_way,
    check,
)


def check_mixed(submission: Any, case: Any, draw: Any, *which: int | str, wide: tuple[int, ...] = ()) -> None:
    drawn = case.draw(draw)
    ways = [
        (one, _mixed(drawn, which, one, other)) for one, other in (("float32", "bfloat16"), ("bfloat16", "float32"))
    ]
    got = case.run(submission, rounded_in_turn, [way.plain() for _, way in ways])
    for (name, way), results in zip(ways, got, strict=True):
        exact = case.expected(cast(way, "float64"))
        for number, (a, b) in enumerate(zip(results, exact, strict=True), 1):
            what = f"result of call {number}, where what gives it its type is {name} and all else is not"
            _compare(a, b, what, name, wide)


def _mixed(drawn: Drawn, which: Sequence[int | str], one: str, other: str) -> Drawn:
    """The arguments of `which` in one type, the others in another."""
    calls = []
    for call in drawn.calls:
        args = tuple(in_type(value, one if place in which else other) for place, value in enumerate(call.args))
        kwargs = {key: in_type(value, one if key in which else other) for key, value in call.kwargs.items()}
        calls.append(Given(args, kwargs))
    return Drawn(tuple(calls), in_type(drawn.settings, other))


def takes_the_first_type(original: Any) -> Any:
    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        seen: list[Any] = []
        own = list(args[0].parameters()) if args and hasattr(args[0], "parameters") else []
        mapped((own, args, kwargs), lambda x: seen.append(x.dtype) if x.is_floating_point() else None)
        result = original(*args, **kwargs)
        narrow = min(seen, key=lambda dtype: dtype.itemsize) if len(set(seen)) > 1 else None
        return mapped(result, lambda x: x.to(narrow) if narrow and x.is_floating_point() else x)

    return wrapped


type_follows = Property(
    "type_follows",
    "where types are mixed, the result has the type that the statement says",
    "tensors",
    "takes-another-type",
    "Of inputs of several types the result takes the wrong one's; the statement says which gives it.",
    takes_the_first_type,
    check_mixed,
)
