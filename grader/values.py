"""Words for values, and what a value is: an array, a number, something that did not cross. Layer 1."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from typing import Any

SHOWN = 6  # values of an array in a message
WIDTH = 400  # characters of a value in a message


@dataclass(frozen=True)
class Opaque:
    """Something that came back and is not plain data: only its type and a short description crossed."""

    type_name: str
    description: str = field(default="", compare=False)  # may hold an address

    def __str__(self) -> str:
        return f"a {self.type_name}" + (f" ({self.description})" if self.description else "")


def is_array(value: object) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape") and hasattr(value, "tolist")


def is_number(value: Any) -> bool:
    if isinstance(value, bool | int | float | complex):
        return True
    return is_array(value) and len(shape(value)) == 0


def family(value: Any) -> str:
    """The package that a value's type comes from."""
    return type(value).__module__.split(".")[0]


def shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape)


def size(value: Any) -> int:
    return math.prod(shape(value))


def dtype_name(value: Any) -> str:
    return str(value.dtype).rsplit(".", 1)[-1] if is_array(value) else type(value).__name__


def kind(name: str) -> str:
    """What a dtype holds: complex, float, bool or int."""
    return next((kind for kind in ("complex", "float", "bool") if kind in name), "int")


def type_name(value: Any) -> str:
    if isinstance(value, Opaque):
        return f"a {value.type_name}"
    if is_array(value):
        return "a tensor" if "torch" in sys.modules and family(value) == "torch" else "a numpy array"
    if value is None:
        return "None"
    name = type(value).__name__
    return f"an {name}" if name == "int" else f"a {name}"


def describe(value: Any, width: int = WIDTH) -> str:
    """A value in words: short, never longer than `width`."""
    if is_array(value):
        numbers = [_number(item) for item in value.reshape(-1)[:SHOWN].tolist()]
        more = ", ..." if size(value) > SHOWN else ""
        return f"{type_name(value)[2:]} {shape(value)} {dtype_name(value)}: {', '.join(numbers)}{more}"
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
