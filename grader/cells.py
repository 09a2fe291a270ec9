"""Enough of two arrays for a heat map of where they differ. Layer 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from grader.pattern import as_numpy
from grader.verdict import Cells

MOST = 64  # rows, and columns
DIGITS = 12  # more than the tightest tolerance asks for


def of(got: Any, expected: Any, worst: Sequence[int]) -> Cells | None:
    """The cells of two arrays of one shape, `worst` among them. None for what is no array, or a single number.

    Where there are too many rows, those of the last two axes around the worst element are taken, and of these
    or of the columns every so many.
    """
    if not hasattr(expected, "shape") or not hasattr(got, "shape") or math.prod(expected.shape) < 2:
        return None
    a, b, place = as_numpy(got), as_numpy(expected), list(worst)
    if a.dtype.kind == "c" or b.dtype.kind == "c":
        a, b = _parts(a), _parts(b)
        place.append(0 if _apart(a, b, (*worst, 0)) >= _apart(a, b, (*worst, 1)) else 1)
    length = b.shape[-1]
    count, own = b.size // length, _row(place, b.shape)
    around = range(count)
    if count > MOST and b.ndim > 2:
        first = own - own % b.shape[-2]
        around = range(first, first + b.shape[-2])
    rows, columns = _sample(around, own), _sample(range(length), place[-1])
    return Cells(
        shape=list(b.shape),
        rows=rows,
        columns=columns,
        worst=place,
        expected=_table(b.reshape(count, length), rows, columns),
        got=_table(a.reshape(count, length), rows, columns),
        sampled=len(rows) < count or len(columns) < length,
    )


def _parts(array: Any) -> Any:
    """Complex numbers as pairs of real ones, on an axis of their own."""
    import numpy as np

    return np.stack([array.real, array.imag], -1)


def _apart(a: Any, b: Any, index: tuple[int, ...]) -> float:
    distance = abs(float(a[index]) - float(b[index]))
    return math.inf if distance != distance else distance


def _row(index: Sequence[int], shape: Sequence[int]) -> int:
    """The number of the row that holds an element."""
    row = 0
    for place, size in zip(index[:-1], shape[:-1], strict=True):
        row = row * size + place
    return row


def _sample(numbers: range, kept: int) -> list[int]:
    """At most MOST of them, evenly; the first, the last and `kept` always."""
    if len(numbers) <= MOST:
        return list(numbers)
    others = MOST - 1
    chosen = {numbers[round(i * (len(numbers) - 1) / (others - 1))] for i in range(others)}
    return sorted(chosen | {kept})


def _table(matrix: Any, rows: list[int], columns: list[int]) -> list[list[float | str]]:
    return [[_cell(number) for number in row] for row in matrix[rows][:, columns].tolist()]


def _cell(number: float) -> float | str:
    if not math.isfinite(number):
        return str(number)
    rounded = float(f"{number:.{DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
