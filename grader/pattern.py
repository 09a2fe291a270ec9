"""How far a result is from what was expected, where, and in which recognisable way. Layer 1.

Scalars are handled without numpy, which exercises in plain Python never import.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import Any

ENOUGH = 4  # elements below which a pattern is more likely a coincidence


@dataclass(frozen=True)
class Difference:
    """Which elements differ by more than is allowed."""

    count: int
    total: int
    index: tuple[int, ...]  # of the worst
    got: Any
    expected: Any
    largest: float

    @classmethod
    def of(cls, got: Any, expected: Any, rtol: float, atol: float) -> Difference | None:
        """None when every element is within atol + rtol * |expected|. NaN is only close to NaN."""
        if not hasattr(expected, "shape") and not hasattr(got, "shape"):
            return cls._of_numbers(got, expected, rtol, atol)
        a, b = as_numpy(got), as_numpy(expected)
        if a.size == 0:
            return None
        import numpy as np

        with np.errstate(all="ignore"):
            distance = np.abs(a - b)
            distance = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, distance)
            distance = np.where(np.isnan(distance), np.inf, distance)
            allowed = atol + rtol * np.where(np.isfinite(b), np.abs(b), 0.0)
            wrong = ~(distance <= allowed)
        if not wrong.any():
            return None
        place = np.unravel_index(int(np.argmax(np.where(wrong, distance, -1.0))), a.shape)
        index = tuple(int(i) for i in place)
        return cls(int(wrong.sum()), a.size, index, a[index].item(), b[index].item(), float(distance[index]))

    @classmethod
    def _of_numbers(cls, got: Any, expected: Any, rtol: float, atol: float) -> Difference | None:
        if got == expected or (got != got and expected != expected):
            return None
        try:
            distance = abs(got - expected)
            allowed = atol + rtol * abs(expected) if cmath.isfinite(expected) else 0.0
        except OverflowError:
            distance, allowed = math.inf, 0.0
        if distance <= allowed:
            return None
        return cls(1, 1, (), got, expected, math.inf if distance != distance else _as_float(distance))

    @classmethod
    def of_lists(cls, got: Any, expected: Any, rtol: float, atol: float) -> Difference | None:
        """The same for nested lists of numbers; a different form counts as different."""
        if isinstance(got, list) and isinstance(expected, list) and len(got) == len(expected):
            found = (cls.of_lists(a, b, rtol, atol) for a, b in zip(got, expected, strict=True))
            return next((f for f in found if f is not None), None)
        if isinstance(got, list) or isinstance(expected, list):
            return cls(1, 1, (), got, expected, math.inf)
        return cls._of_numbers(got, expected, rtol, atol)

    def where(self) -> str:
        if self.total == 1:
            return ""
        a, b = apart(self.expected, self.got)
        worst = f"worst at {list(self.index)}: expected {a}, got {b}"
        return f"{self.count} of {self.total} elements differ, {worst}"


def apart(x: Any, y: Any) -> tuple[str, str]:
    """Two numbers with as many digits as it takes to tell them apart, six at least."""
    for digits in (6, 9, 12, 17):
        if f"{x:.{digits}g}" != f"{y:.{digits}g}":
            break
    return f"{x:.{digits}g}", f"{y:.{digits}g}"


def as_numpy(value: Any) -> Any:
    """A tensor, array or number as a numpy array of float64 or complex128."""
    import numpy as np

    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.to_dense() if value.is_sparse else value).resolve_conj().resolve_neg()
        value = value.cdouble() if value.is_complex() else value.double()
        return value.numpy()
    array = np.asarray(_as_float(value) if isinstance(value, int) else value)
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _as_float(value: Any) -> float:
    """A real number as a float; an int that is too large for one is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def recognise(got: Any, expected: Any, rtol: float, atol: float) -> str | None:
    """The shape of an error in words, when one of the generic shapes fits."""
    if not hasattr(expected, "shape"):
        return _of_scalar(got, expected, rtol, atol)
    a, b = as_numpy(got), as_numpy(expected)
    if a.shape != b.shape or a.size < ENOUGH:
        return None

    def close(x: Any, y: Any) -> bool:
        return x.shape == y.shape and Difference.of(x, y, rtol, atol) is None

    import numpy as np

    with np.errstate(all="ignore"):  # what is tried here may divide a huge value by a tiny one
        for shape in (_not_finite, _trivial, _factor, _moved):
            if text := shape(a, b, close):
                return text
        return _confined(a, b, rtol, atol)


def _of_scalar(got: Any, expected: Any, rtol: float, atol: float) -> str | None:
    if isinstance(got, bool) or isinstance(expected, bool):
        return None
    if not (_is_finite(got) and _is_finite(expected)) or not expected or not got:
        return None
    if Difference.of(-got, expected, rtol, atol) is None:
        return "the right value with the opposite sign"
    for name, inverse in (
        ("1 / the right value", 1 / expected),
        ("the square of the right value", expected * expected),
    ):
        if Difference.of(got, inverse, rtol, atol) is None:
            return name
    if (
        not isinstance(expected, complex)
        and expected > 0
        and Difference.of(got, math.log(expected), rtol, atol) is None
    ):
        return "the logarithm of the right value"
    return None


def _is_finite(value: Any) -> bool:
    return cmath.isfinite(_as_float(value) if isinstance(value, int) else value)


Close = Callable[[Any, Any], bool]


def _not_finite(a: Any, b: Any, close: Close) -> str | None:
    import numpy as np

    bad = ~np.isfinite(a) & np.isfinite(b)
    if not bad.any():
        return None
    rows = bad.reshape(-1, a.shape[-1])
    kind = "NaN" if np.isnan(a[bad]).all() else "infinite or NaN"
    right = close(np.where(bad, 0.0, a), np.where(bad, 0.0, b))
    rest = "" if bad.all() else "; the rest is right" if right else "; other elements are wrong too"
    whole = rows.all(-1) | ~rows.any(-1)
    if whole.all() and not rows.all():
        return f"{kind} in {int(rows.any(-1).sum())} whole rows of {len(rows)}{rest}"
    return f"{kind} in {int(bad.sum())} of {a.size} elements, first at {_first(bad)}{rest}"


def _trivial(a: Any, b: Any, close: Close) -> str | None:
    if not a.any() and b.any():
        return "all zeros"
    return None


def _factor(a: Any, b: Any, close: Close) -> str | None:
    import numpy as np

    if close(-a, b):
        return "the right values with the opposite sign"
    used = np.abs(b) > 1e-6 * max(float(np.abs(b).max()), 1e-300)
    if not used.any() or not np.isfinite(a).all() or not np.isfinite(b).all():
        return None
    factor = float(np.median((a[used] / b[used]).real))
    if factor and math.isfinite(factor) and abs(factor - 1) > 1e-3 and close(a / factor, b):
        return f"the right values times a constant factor of {factor:.4g}{_familiar(factor, b.shape)}"
    offset = float(np.median((a - b).real))
    if abs(offset) > 1e-3 * float(np.abs(b).max()) and close(a - offset, b):
        return f"the right values plus a constant of {offset:.4g}"
    return None


def _familiar(factor: float, shape: tuple[int, ...]) -> str:
    """What a factor may come from: all of the usual suspects that fit."""
    found: dict[int, str] = {}
    for size in dict.fromkeys(size for size in shape if size > 1):
        names = {
            "": float(size),
            f" = 1/{size}": 1 / size,
            f" = sqrt({size})": size**0.5,
            f" = 1/sqrt({size})": size**-0.5,
        }
        for name, value in names.items():
            if math.isclose(factor, value, rel_tol=1e-4):
                found[size] = name
    if not found:
        return ""
    where = " and ".join(map(str, found)) + (" are sizes of axes" if len(found) > 1 else " is the size of an axis")
    return f"{''.join(found.values())}, where {where}"


def _moved(a: Any, b: Any, close: Close) -> str | None:
    import numpy as np

    for axis in range(b.ndim):
        n = b.shape[axis]
        for shift in (1, -1):
            inner = [slice(None)] * b.ndim
            outer = [slice(None)] * b.ndim
            inner[axis] = slice(1, None) if shift == 1 else slice(None, -1)
            outer[axis] = slice(None, -1) if shift == 1 else slice(1, None)
            if n > 2 and close(a[tuple(inner)], b[tuple(outer)]):
                return f"the right values shifted by {shift} along axis {axis}"
        if n > 1 and close(np.flip(a, axis), b):
            return f"the right values in reverse order along axis {axis}"
    if b.ndim <= 4:
        for order in permutations(range(b.ndim)):
            if order != tuple(range(b.ndim)) and close(a.reshape([b.shape[i] for i in order]), b.transpose(order)):
                return f"the right values with axes in the order {order}: a transpose is missing, extra or a reshape"
    if close(np.sort(a, axis=None), np.sort(b, axis=None)) and not np.iscomplexobj(a):
        for axis in range(b.ndim):
            if close(np.sort(a, axis=axis), np.sort(b, axis=axis)):
                return f"the right values in another order along axis {axis}"
        return "the right values in another order"
    return None


def _confined(a: Any, b: Any, rtol: float, atol: float) -> str | None:
    """Wrong in one region only: the first or last index, every other one, above the diagonal."""
    import numpy as np

    wrong = ~(np.abs(a - b) <= atol + rtol * np.abs(b))
    if not wrong.any() or wrong.all():
        return None
    if b.ndim >= 2 and b.shape[-1] == b.shape[-2] > 2:
        upper = np.triu(np.ones(b.shape[-2:], bool), 1)
        if not (wrong & ~upper).any():
            return "wrong above the diagonal only"
        if not (wrong & upper).any():
            return "wrong on and below the diagonal only"
    for axis in range(b.ndim):
        n = b.shape[axis]
        hit = np.flatnonzero(wrong.any(axis=tuple(i for i in range(b.ndim) if i != axis)))
        if n < 3 or len(hit) == n:
            continue
        name = f"along axis {axis} (of size {n})"
        if len(hit) == 1:
            return f"wrong at index {hit[0]} {name} only"
        if hit.tolist() in (list(range(1, n, 2)), list(range(0, n, 2))):
            return f"wrong at {'odd' if hit[0] else 'even'} indices {name} only"
        if hit[-1] - hit[0] == len(hit) - 1 and hit[-1] == n - 1:
            return f"wrong from index {hit[0]} to the end {name}; right before"
        if hit[0] == 0 and len(hit) == hit[-1] + 1:
            return f"wrong up to index {hit[-1]} {name}; right after"
    return None


def _first(mask: Any) -> list[int]:
    import numpy as np

    return [int(i) for i in np.unravel_index(int(np.argmax(mask)), mask.shape)]
