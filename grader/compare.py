"""Compares what came back with what was expected, and says what is wrong. Layer 1.

Everything here runs in the trusted process on plain data. A failed check raises `Mismatch`,
whose text is the message the learner reads: expected, got, where, how far off against how
much is allowed, and the shape of the error where one is recognised.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from grader import pattern

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
SHOWN = 6  # values of an array in a message
WIDTH = 400  # characters of a value in a message
ROW = 4000  # characters of a line of a message, whatever it quotes


class Mismatch(AssertionError):
    """A result is not what the statement asks for."""


@dataclass(frozen=True)
class Opaque:
    """Something that came back and is not plain data: only its type and a short description crossed."""

    type_name: str
    description: str = field(default="", compare=False)  # may hold an address

    def __str__(self) -> str:
        return f"a {self.type_name}" + (f" ({self.description})" if self.description else "")


def fail(what: str, **lines: object) -> None:
    """Raise a Mismatch: a headline, then one aligned line for each keyword."""
    width = max((len(name) for name in lines), default=0) + 2
    rows = [
        f"{name.replace('_', ' '):<{width}}{_indented(value, width)}" for name, value in lines.items() if value != ""
    ]
    raise Mismatch("\n".join([_cut(what), *rows]))


def _indented(value: object, width: int) -> str:
    return _cut(str(value)).replace("\n", "\n" + " " * width)


def _cut(text: str) -> str:
    return text if len(text) <= ROW else f"{text[:ROW]} ... ({len(text)} characters)"


def assert_that(condition: object, what: str, *, got: object = "") -> None:
    """Check a property. `what` says what must hold."""
    if condition is not True and not _is_true(condition):
        fail(f"must hold: {what}", got=describe(got) if not isinstance(got, str) else got)


def _is_true(condition: object) -> bool:
    if type(condition).__name__ in ("bool_", "bool"):
        return bool(condition)
    return is_array(condition) and _size(condition) == 1 and "bool" in dtype_name(condition) and bool(condition)


def assert_equal(got: Any, expected: Any, *, what: str = "result") -> None:
    """Check exact equality, types included (True is not 1, a tuple is not a list, NaN equals NaN)."""
    if (where := _first_difference(got, expected, "")) is None:
        return
    place, inner_got, inner_expected = where
    lines: dict[str, object] = {"expected": describe(expected), "got": describe(got)}
    if is_array(inner_got) and is_array(inner_expected) and _shape(inner_got) == _shape(inner_expected):
        lines["where"] = _elements(inner_got, inner_expected, place)
    elif place:
        lines["where"] = f"{place}: expected {describe(inner_expected)}, got {describe(inner_got)}"
    if hint := _kind_hint(inner_got, inner_expected):
        lines["note"] = hint
    fail(f"{what} differs", **lines)


def _first_difference(got: Any, expected: Any, place: str) -> tuple[str, Any, Any] | None:
    if is_array(got) and is_array(expected):
        same = dtype_name(got) == dtype_name(expected) and _shape(got) == _shape(expected)
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


def _elements(got: Any, expected: Any, place: str) -> str:
    """How many elements differ, and the first of them."""
    pairs = list(zip(got.reshape(-1).tolist(), expected.reshape(-1).tolist(), strict=True))
    differing = [i for i, (a, b) in enumerate(pairs) if a != b and not (a != a and b != b)]
    if not differing:
        return f"{place}: expected {dtype_name(expected)}, got {dtype_name(got)}".removeprefix(": ")
    index, rest = [], differing[0]
    for size in reversed(_shape(expected)):
        rest, remainder = divmod(rest, size)
        index.append(remainder)
    a, b = pairs[differing[0]]
    return f"{len(differing)} of {len(pairs)} elements differ, first at {place}{index[::-1]}: expected {b}, got {a}"


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
        if not is_array(got) or _family(got) != _family(expected):
            wrong_type(place, got, expected)
    elif isinstance(expected, bool | int | float | complex) and not _is_number(got):
        wrong_type(place, got, expected)
    elif not isinstance(expected, bool | int | float | complex):
        return assert_equal(got, expected, what=place)
    if is_array(got) and _shape(got) != (_shape(expected) if is_array(expected) else ()):
        wrong_shape(place, got, expected)
    tolerance = _tolerance(got, expected, own)
    found = pattern.Difference.of(got, expected, *tolerance)
    if is_array(got):
        _check_dtype(place, got, expected, dtype, values_match=found is None)
    if found is not None:
        _wrong_values(place, got, expected, found, tolerance, reason)
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
    if not want and is_array(expected) and _kind(have) != _kind(dtype_name(expected)):
        match = "the values match after conversion" if values_match else "the values differ as well"
        fail(f"{place} has the wrong dtype", expected=dtype_name(expected), got=have, note=match)


def _wrong_values(
    place: str, got: Any, expected: Any, found: pattern.Difference, tolerance: tuple[float, float], reason: str
) -> None:
    rtol, atol = tolerance
    off = f"at most {found.largest:.3g} off" if math.isfinite(found.largest) else "not finite where it should be"
    lines: dict[str, object] = {"expected": describe(expected), "got": describe(got)}
    lines["where"] = found.where()
    lines["how_far"] = f"{off}; {atol:.0e} + {rtol:.0e} times the expected value is allowed"
    lines["tolerance"] = reason
    lines["looks_like"] = pattern.recognise(got, expected, rtol, atol) or ""
    fail(f"{place} is wrong", **lines)


def wrong_shape(place: str, got: Any, expected: Any) -> None:
    want = _shape(expected) if is_array(expected) else ()
    note = ""
    if math.prod(_shape(got)) == math.prod(want):
        note = "the number of elements is the same: is an axis squeezed, missing or swapped?"
    fail(f"{place} has the wrong shape", expected=str(tuple(want)), got=str(tuple(_shape(got))), note=note)


def wrong_type(place: str, got: Any, expected: Any) -> None:
    lines: dict[str, object] = {"expected": describe(expected), "got": describe(got)}
    if got is None:
        lines["note"] = "the function returned None: is a `return` missing?"
    elif hint := _kind_hint(got, expected):
        lines["note"] = hint
    fail(f"{place} has the wrong type", **lines)


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


# --- words for values ---


def is_array(value: object) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape") and hasattr(value, "tolist")


def _family(value: Any) -> str:
    return type(value).__module__.split(".")[0]


def _is_number(value: Any) -> bool:
    if isinstance(value, bool | int | float | complex):
        return True
    return is_array(value) and len(_shape(value)) == 0


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape)


def _size(value: Any) -> int:
    return math.prod(_shape(value))


def dtype_name(value: Any) -> str:
    return str(value.dtype).rsplit(".", 1)[-1] if is_array(value) else type(value).__name__


def _kind(name: str) -> str:
    for kind in ("complex", "float", "bool"):
        if kind in name:
            return kind
    return "int"


def type_name(value: Any) -> str:
    if isinstance(value, Opaque):
        return f"a {value.type_name}"
    if is_array(value):
        return "a tensor" if "torch" in sys.modules and _family(value) == "torch" else "a numpy array"
    if value is None:
        return "None"
    name = type(value).__name__
    return f"an {name}" if name == "int" else f"a {name}"


def describe(value: Any, width: int = WIDTH) -> str:
    """A value in words: short, never longer than `width`."""
    if is_array(value):
        flat = value.reshape(-1)
        numbers = [_number(item) for item in flat[:SHOWN].tolist()]
        more = ", ..." if _size(value) > SHOWN else ""
        return f"{type_name(value)[2:]} {_shape(value)} {dtype_name(value)}: {', '.join(numbers)}{more}"
    if isinstance(value, Opaque):
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, list | tuple | dict | set) and any(is_array(v) for v in _items(value)):
        inner = "; ".join(describe(item, 100) for item in list(_items(value))[:4])
        return f"{type(value).__name__} of {len(value)}: {inner}"[:width]
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of more digits than Python prints, or a deep nest
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= width else f"{text[: width - 20]} ... ({len(text)} characters)"


def _items(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
