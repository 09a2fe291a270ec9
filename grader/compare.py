"""Compares what came back with what was expected, and says what is wrong. Layer 1.

Everything here runs in the trusted process on plain data. A failed check raises `Mismatch`, whose details hold what
the learner is told: expected, got, where, how far off against how much is allowed, the shape of the error where one is
recognised, and enough of two arrays for a heat map.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NoReturn

from grader import cells, pattern
from grader.failure import Failure, cut
from grader.values import Opaque, describe, dtype_name, family, is_array, is_number, kind, shape, size, type_name
from grader.verdict import Details

# One table of tolerances, by the dtype of the result: relative and absolute. They hold a few
# hundred roundings of that dtype; what needs more carries its reason at the call.
TOLERANCES = {
    "float64": (1e-9, 1e-11),
    "float": (1e-9, 1e-11),
    "complex128": (1e-9, 1e-11),
    "complex": (1e-9, 1e-11),
    "float32": (1e-4, 1e-5),
    "complex64": (1e-4, 1e-5),
    "float16": (5e-3, 1e-3),
    "bfloat16": (3e-2, 1e-2),
}


class Mismatch(Failure):
    """A result is not what the statement asks for."""


def fail(headline: str, *, expected: str = "", got: str = "", note: str = "", example: str = "") -> NoReturn:
    """Raise a Mismatch that says this much."""
    raise Mismatch(Details(cut(headline), cut(example), expected=cut(expected), got=cut(got), note=note))


def assert_that(condition: object, what: str, *, got: object = "") -> None:
    """Check a property. `what` says what must hold."""
    if condition is not True and not _is_true(condition):
        fail(f"must hold: {what}", got=describe(got) if not isinstance(got, str) else got)


def _is_true(condition: object) -> bool:
    if type(condition).__name__ in ("bool_", "bool"):
        return bool(condition)
    return is_array(condition) and size(condition) == 1 and "bool" in dtype_name(condition) and bool(condition)


def assert_equal(got: Any, expected: Any, *, what: str = "result") -> None:
    """Check exact equality, types included (True is not 1, a tuple is not a list, NaN equals NaN)."""
    if (first := _first_difference(got, expected, "")) is not None:
        raise Mismatch(lambda: _unequal(got, expected, what, *first))


def _unequal(got: Any, expected: Any, what: str, place: str, inner_got: Any, inner_expected: Any) -> Details:
    where, found = "", None
    if is_array(inner_got) and is_array(inner_expected) and shape(inner_got) == shape(inner_expected):
        where, index = _elements(inner_got, inner_expected, place)
        found = cells.of(inner_got, inner_expected, index) if index is not None else None
    elif place:
        where = f"{place}: expected {describe(inner_expected)}, got {describe(inner_got)}"
    return Details(
        headline=cut(f"{what} differs"),
        expected=cut(describe(expected)),
        got=cut(describe(got)),
        where=cut(where),
        note=_kind_hint(inner_got, inner_expected),
        cells=found,
    )


def _first_difference(got: Any, expected: Any, place: str) -> tuple[str, Any, Any] | None:
    if is_array(got) and is_array(expected):
        same = dtype_name(got) == dtype_name(expected) and shape(got) == shape(expected)
        return None if same and _array_equal(got, expected) else (place, got, expected)
    if type(got) is not type(expected):
        return place, got, expected
    if isinstance(expected, list | tuple):
        for i, (a, b) in enumerate(zip(got, expected, strict=False)):
            if found := _first_difference(a, b, f"{place}[{i}]"):
                return found
        return None if len(got) == len(expected) else (place, got, expected)
    if isinstance(expected, dict):
        for key in expected:
            if key in got and (found := _first_difference(got[key], expected[key], f"{place}[{key!r}]")):
                return found
        return None if got.keys() == expected.keys() else (place, got, expected)
    equal = got == expected or (isinstance(got, float) and math.isnan(got) and math.isnan(expected))
    return None if equal else (place, got, expected)


def _elements(got: Any, expected: Any, place: str) -> tuple[str, list[int] | None]:
    """How many elements differ and the first of them, in words; and its index. Without one only the dtypes differ."""
    pairs = list(zip(got.reshape(-1).tolist(), expected.reshape(-1).tolist(), strict=True))
    differing = [i for i, (a, b) in enumerate(pairs) if a != b and not (a != a and b != b)]
    if not differing:
        return f"{place}: expected {dtype_name(expected)}, got {dtype_name(got)}".removeprefix(": "), None
    index: list[int] = []
    rest = differing[0]
    for length in reversed(shape(expected)):
        rest, remainder = divmod(rest, length)
        index.insert(0, remainder)
    a, b = pairs[differing[0]]
    return f"{len(differing)} of {len(pairs)} elements differ, first at {place}{index}: expected {b}, got {a}", index


def _array_equal(got: Any, expected: Any) -> bool:
    if type(got).__module__.startswith("torch"):
        return bool(((got == expected) | ((got != got) & (expected != expected))).all())
    import numpy as np

    return bool(np.array_equal(got, expected, equal_nan=got.dtype.kind in "fc"))


def assert_close(
    got: Any,
    expected: Any,
    *,
    what: str = "result",
    dtype: Any = None,
    rtol: float | None = None,
    atol: float | None = None,
    reason: str = "",
) -> None:
    """Check numbers, arrays, or lists, tuples and dicts of them, up to rounding.

    dtype       what the arrays of the result must have; otherwise floating is compared with floating
    rtol, atol  in place of the table's; looser ones need a `reason`, which the learner is shown
    """
    if (rtol or atol) and not reason:
        raise ValueError("a tolerance of its own needs a reason")
    for place, a, b in _leaves(got, expected, what):
        _check_leaf(place, a, b, dtype, (rtol, atol), reason)


def _leaves(got: Any, expected: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Pairs of leaves, with where they are. Raises Mismatch when the structures differ."""
    if isinstance(expected, list | tuple):
        if not isinstance(got, list | tuple):
            wrong_type(place, got, expected)
        if len(got) != len(expected):
            fail(
                f"{place} has the wrong length",
                expected=f"{len(expected)} items",
                got=f"{len(got)} items: {describe(got)}",
            )
        for i, (a, b) in enumerate(zip(got, expected, strict=True)):
            yield from _leaves(a, b, f"{place}[{i}]")
    elif isinstance(expected, dict):
        if not isinstance(got, dict):
            wrong_type(place, got, expected)
        if got.keys() != expected.keys():
            fail(f"{place} has the wrong keys", expected=describe(list(expected)), got=describe(list(got)))
        for key in expected:
            yield from _leaves(got[key], expected[key], f"{place}[{key!r}]")
    else:
        yield place, got, expected


def _check_leaf(
    place: str, got: Any, expected: Any, dtype: Any, own: tuple[float | None, float | None], reason: str
) -> None:
    if is_array(expected):
        if not is_array(got) or family(got) != family(expected):
            wrong_type(place, got, expected)
    elif isinstance(expected, bool | int | float | complex) and not is_number(got):
        wrong_type(place, got, expected)
    elif not isinstance(expected, bool | int | float | complex):
        return assert_equal(got, expected, what=place)
    if is_array(got) and shape(got) != (shape(expected) if is_array(expected) else ()):
        wrong_shape(place, got, expected)
    tolerance = _tolerance(got, expected, own)
    found = pattern.Difference.of(got, expected, *tolerance)
    if is_array(got):
        _check_dtype(place, got, expected, dtype, values_match=found is None)
    if found is not None:
        raise Mismatch(lambda: _wrong_values(place, got, expected, found, tolerance, reason))
    return None


def _tolerance(got: Any, expected: Any, own: tuple[float | None, float | None]) -> tuple[float, float]:
    name = dtype_name(got)
    if dtype_name(expected) in TOLERANCES and TOLERANCES.get(name, (0.0, 0.0)) < TOLERANCES["float64"]:
        name = "float64"  # whole numbers where floats are expected are compared as floats
    rtol, atol = TOLERANCES.get(name, (0.0, 0.0))
    return (rtol if own[0] is None else own[0], atol if own[1] is None else own[1])


def _check_dtype(place: str, got: Any, expected: Any, dtype: Any, *, values_match: bool) -> None:
    want = str(dtype).rsplit(".", 1)[-1] if dtype is not None else ""
    have = dtype_name(got)
    if want and have != want:
        match = f"the values match after conversion to {want}" if values_match else "the values differ as well"
        fail(f"{place} has the wrong dtype", expected=want, got=have, note=match)
    if not want and is_array(expected) and kind(have) != kind(dtype_name(expected)):
        match = "the values match after conversion" if values_match else "the values differ as well"
        fail(f"{place} has the wrong dtype", expected=dtype_name(expected), got=have, note=match)


def _wrong_values(
    place: str, got: Any, expected: Any, found: pattern.Difference, tolerance: tuple[float, float], reason: str
) -> Details:
    rtol, atol = tolerance
    off = f"at most {found.largest:.3g} off" if math.isfinite(found.largest) else "not finite where it should be"
    return Details(
        headline=cut(f"{place} is wrong"),
        expected=describe(expected),
        got=describe(got),
        where=found.where(),
        how_far=f"{off}; {atol:.0e} + {rtol:.0e} times the expected value is allowed",
        tolerance=reason,
        looks_like=pattern.recognise(got, expected, rtol, atol) or "",
        cells=cells.of(got, expected, found.index),
    )


def wrong_shape(place: str, got: Any, expected: Any) -> NoReturn:
    want = shape(expected) if is_array(expected) else ()
    note = ""
    if math.prod(shape(got)) == math.prod(want):
        note = "the number of elements is the same: is an axis squeezed, missing or swapped?"
    fail(f"{place} has the wrong shape", expected=str(tuple(want)), got=str(tuple(shape(got))), note=note)


def wrong_type(place: str, got: Any, expected: Any) -> NoReturn:
    note = _kind_hint(got, expected)
    fail(f"{place} has the wrong type", expected=describe(expected), got=describe(got), note=note)


def _kind_hint(got: Any, expected: Any) -> str:
    """Whether the obvious conversion would make it right."""
    if got is None:
        return "the function returned None: is a `return` missing?"
    if isinstance(got, Opaque):
        wanted = "tuple(...)" if isinstance(expected, tuple) else "list(...)"
        return f"return {wanted} of it" if got.type_name == "generator" else ""
    if isinstance(got, list | tuple) and isinstance(expected, list | tuple) and type(got) is not type(expected):
        same = _first_difference(list(got), list(expected), "") is None
        return f"the values {'match' if same else 'differ as well'}; expected a {type(expected).__name__}"
    if _plain(got) is not None and _plain(expected) is not None and type(got) is not type(expected):
        converted = pattern.Difference.of_lists(_plain(got), _plain(expected), 1e-4, 1e-5)
        verb = "match" if converted is None else "differ as well"
        return f"as plain numbers the values {verb}; expected {type_name(expected)}, not {type_name(got)}"
    return ""


def _plain(value: Any) -> Any:
    """A value as nested lists of numbers, or None."""
    if is_array(value):
        return value.tolist()
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        inner = [_plain(item) for item in value]
        return None if any(item is None for item in inner) else inner
    return None
