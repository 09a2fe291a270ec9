"""The wire: plain data as JSON, arrays as raw bytes beside it. Used on both sides.

A frame is two lengths, a JSON text and a blob. JSON holds None, bool, int, float, str and
list as they are; everything else is an object with one key that names its type. Arrays point
into the blob by offset, with dtype and shape; dtypes come from a fixed list. Decoding builds
plain values only, executes nothing, and raises WireError on anything malformed or too large:
each byte of the blob is taken once, and no array spans more than a blob may hold.
"""

from __future__ import annotations

import base64
import json
import math
import struct
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

MAX_JSON = 64 << 20
MAX_BLOB = 1 << 30
MAX_DEPTH = 64
MAX_SHARING = 64  # keys of one hash
MAX_ITEMS = 1 << 21  # an empty list is two bytes of JSON, and eighty in memory
HEADER = struct.Struct("<QQ")

# dtype -> bytes an element
TENSOR_DTYPES = {
    "bool": 1, "uint8": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8,
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex64": 8, "complex128": 16,
}  # fmt: skip
ARRAY_DTYPES = {
    "bool": 1, "uint8": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8, "uint16": 2, "uint32": 4, "uint64": 8,
    "float16": 2, "float32": 4, "float64": 8, "complex64": 8, "complex128": 16,
}  # fmt: skip
OTHER_DTYPES = ("float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64")  # may be named, not sent


class WireError(ValueError):
    """Data that the wire does not carry, or a frame that is not one."""


class Encoder:
    """Turns values into a JSON-able tree and a blob.

    keep_layout  keep strides and `requires_grad` of tensors, as for arguments; results are values only
    describe     turns an object that is not plain data into a short description
    """

    def __init__(self, *, keep_layout: bool = False, describe: Callable[[Any], str] | None = None) -> None:
        self.keep_layout = keep_layout
        self.describe = describe
        self.chunks: list[Any] = []
        self.offset = 0
        self.characters = 0

    def encode(self, value: Any, depth: int = 0) -> Any:
        kind = type(value)
        if kind is str:
            return self._text(value)
        if value is None or kind is bool or kind is int or kind is float:
            return value
        if depth > MAX_DEPTH:
            raise WireError(f"nested more than {MAX_DEPTH} levels deep")
        if kind is list or kind is tuple:
            return self._sequence(value, depth)
        module = kind.__module__.split(".")[0]
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Tensor):
            return self._tensor(torch, value)
        if torch is not None and isinstance(value, torch.dtype):
            return {"dtype": str(value).removeprefix("torch.")}
        if module == "numpy" and hasattr(value, "dtype") and value.dtype.name in ARRAY_DTYPES:
            return {"array": self._place(value.dtype.name, value.shape, value.tobytes())}
        return self._builtin(value, depth)

    def _text(self, value: str) -> str:
        self.characters += len(value)
        if self.characters > MAX_JSON:
            raise WireError(f"larger than {MAX_JSON >> 20} MiB")
        return value

    def _sequence(self, value: Any, depth: int) -> Any:
        if depth and len(value) > 64 and all(type(item) is int for item in value):
            items = list(value)
        else:
            items = [self.encode(item, depth + 1) for item in value]
        return items if isinstance(value, list) else {"tuple": items}

    def _builtin(self, value: Any, depth: int) -> Any:
        """Sets, dicts, bytes and complex numbers; subclasses of builtins count as the builtin."""
        if isinstance(value, dict):
            items = [[self.encode(k, depth + 1), self.encode(v, depth + 1)] for k, v in dict.items(value)]
            return {"dict": items}
        if isinstance(value, set | frozenset):
            items = sorted((self.encode(item, depth + 1) for item in value), key=json.dumps)
            return {"frozenset" if isinstance(value, frozenset) else "set": items}
        if isinstance(value, bytes | bytearray):
            return {"bytes": base64.b64encode(bytes(value)).decode()}
        if isinstance(value, complex):
            return {"complex": [complex.real.__get__(value), complex.imag.__get__(value)]}
        if isinstance(value, list):
            return self._sequence(list(list.__iter__(value)), depth)
        if isinstance(value, tuple):
            return self._sequence(tuple(tuple.__iter__(value)), depth)
        if isinstance(value, bool | int):
            return int.__add__(value, 0)
        if isinstance(value, float):
            return float.__add__(value, 0.0)
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if self.describe is None:
            raise WireError(f"a {type(value).__name__} is not plain data")
        return {"opaque": [type(value).__name__[:100], self.describe(value)[:200]]}

    def _tensor(self, torch: Any, value: Any) -> Any:
        name = str(value.dtype).removeprefix("torch.")
        if name not in TENSOR_DTYPES or value.layout != torch.strided or value.is_meta or value.is_quantized:
            if self.describe is None:
                raise WireError(f"a tensor of dtype {name} and layout {value.layout} does not cross")
            return {"opaque": ["Tensor", f"of dtype {name}, layout {value.layout}, device {value.device.type}"]}
        plain = value.detach().as_subclass(torch.Tensor)
        stored = plain
        layout: dict[str, Any] = {}
        if self.keep_layout:
            layout = {"grad": bool(value.requires_grad)}
            if not plain.is_contiguous():
                layout["stride"] = list(plain.stride())
                for axis, (size, stride) in enumerate(zip(plain.shape, plain.stride(), strict=True)):
                    if stride == 0 and size > 1:
                        stored = stored.narrow(axis, 0, 1)
        stored = stored.cpu().resolve_conj().resolve_neg().contiguous()
        # a single element counts as contiguous whatever its strides, and `view` then minds them
        flat = stored.as_strided((stored.numel(),), (1,))
        data = flat.view(torch.uint8).numpy().tobytes() if stored.numel() else b""
        place = self._place(name, tuple(plain.shape), data)
        return {"tensor": [*place, layout]}

    def _place(self, dtype: str, shape: Any, data: bytes) -> list[Any]:
        place = [dtype, [int(n) for n in shape], self.offset, len(data)]
        self.chunks.append(data)
        self.offset += len(data)
        if self.offset > MAX_BLOB:
            raise WireError(f"larger than {MAX_BLOB >> 20} MiB")
        return place

    def blob(self) -> bytes:
        return b"".join(self.chunks)


class Decoder:
    """Turns a tree and a blob back into values. `opaque(type_name, description)` builds stand-ins."""

    def __init__(self, blob: bytes, *, opaque: Callable[[str, str], Any], device: str = "cpu") -> None:
        self.blob = memoryview(blob)
        self.opaque = opaque
        self.device = device
        self.taken = 0

    def decode(self, tree: Any, depth: int = 0) -> Any:
        if tree is None or isinstance(tree, bool | int | float | str):
            return tree
        if depth > MAX_DEPTH + 1:
            raise WireError("nested too deeply")
        if isinstance(tree, list):
            return [self.decode(item, depth + 1) for item in tree]
        if not isinstance(tree, dict) or len(tree) != 1:
            raise WireError("not a value")
        ((kind, inner),) = tree.items()
        build = getattr(self, f"_{kind}", None) if kind in KINDS else None
        if build is None:
            raise WireError(f"unknown kind {kind!r:.50}")
        try:
            return build(inner, depth)
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError, RuntimeError) as error:
            raise WireError(f"a malformed {kind}: {error}") from None

    def _items(self, inner: Any, depth: int) -> list[Any]:
        if not isinstance(inner, list):
            raise WireError("not a list")
        return [self.decode(item, depth + 1) for item in inner]

    def _tuple(self, inner: Any, depth: int) -> tuple[Any, ...]:
        return tuple(self._items(inner, depth))

    def _set(self, inner: Any, depth: int) -> set[Any]:
        return set(_scattered(self._items(inner, depth)))

    def _frozenset(self, inner: Any, depth: int) -> frozenset[Any]:
        return frozenset(_scattered(self._items(inner, depth)))

    def _dict(self, inner: Any, depth: int) -> dict[Any, Any]:
        items = [(self.decode(key, depth + 1), self.decode(value, depth + 1)) for key, value in inner]
        _scattered([key for key, _ in items])
        return dict(items)

    def _bytes(self, inner: Any, depth: int) -> bytes:
        return base64.b64decode(inner, validate=True)

    def _complex(self, inner: Any, depth: int) -> complex:
        real, imag = inner
        return complex(float(real), float(imag))

    def _opaque(self, inner: Any, depth: int) -> Any:
        name, description = inner
        return self.opaque(str(name)[:100], str(description)[:200])

    def _dtype(self, inner: Any, depth: int) -> Any:
        import torch

        if inner not in TENSOR_DTYPES and inner not in OTHER_DTYPES:
            raise WireError("unknown dtype")
        return getattr(torch, inner)

    def _bytes_of(self, place: list[Any], dtypes: dict[str, int], stored: list[int]) -> bytearray:
        dtype, shape, offset, length = place
        if not all(type(n) is int and 0 <= n < 1 << 40 for n in (*shape, offset, length)) or len(shape) > MAX_DEPTH:
            raise WireError("not a shape")
        if length != dtypes[dtype] * math.prod(stored) or offset + length > len(self.blob):
            raise WireError("length and shape disagree")
        self.taken += length
        if self.taken > len(self.blob):
            raise WireError("arrays overlap")
        if dtypes[dtype] * math.prod(shape) > MAX_BLOB:  # an axis of stride 0 is as long as it says
            raise WireError(f"larger than {MAX_BLOB >> 20} MiB")
        return bytearray(self.blob[offset : offset + length])

    def _array(self, inner: Any, depth: int) -> Any:
        import numpy as np

        data = self._bytes_of(inner, ARRAY_DTYPES, inner[1])
        if inner[0] == "bool":
            return np.frombuffer(data, dtype=np.uint8).reshape(inner[1]) != 0
        return np.frombuffer(data, dtype=inner[0]).reshape(inner[1])

    def _tensor(self, inner: Any, depth: int) -> Any:
        import torch

        *place, layout = inner
        name, shape, _, _ = place
        stride = layout.get("stride")
        stored = list(shape)
        if stride is not None:
            stored = [1 if step == 0 and size > 1 else size for size, step in zip(shape, stride, strict=True)]
        data = self._bytes_of(place, TENSOR_DTYPES, stored)
        if not data:
            value = torch.empty(stored, dtype=getattr(torch, name))
        elif name == "bool":  # any byte but 0 is True: never a bool of another value
            value = torch.frombuffer(data, dtype=torch.uint8).reshape(stored) != 0
        else:
            value = torch.frombuffer(data, dtype=getattr(torch, name)).reshape(stored)
        if stride is not None and data:
            value = _strided(torch, value, stored, stride).expand(shape)
        if self.device != "cpu":
            value = value.to(self.device)
        return value.requires_grad_(True) if layout.get("grad") else value


def _scattered(keys: list[Any]) -> list[Any]:
    """The keys themselves. Raises WireError where many share a hash: a table of them takes quadratic time."""
    if len(keys) > MAX_SHARING and max(Counter(map(hash, keys)).values()) > MAX_SHARING:
        raise WireError("keys that collide")
    return keys


KINDS = {"tuple", "set", "frozenset", "dict", "bytes", "complex", "opaque", "dtype", "array", "tensor"}


def _strided(torch: Any, value: Any, shape: list[int], stride: list[int]) -> Any:
    """A copy of `value` that lies in memory as the sender's did, as far as dense memory allows."""
    reach = sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if reach * value.element_size() > MAX_BLOB:
        raise WireError(f"a stride that reaches further than {MAX_BLOB >> 20} MiB")
    try:
        laid_out = torch.empty_strided(shape, [step or 1 for step in stride], dtype=value.dtype)
    except RuntimeError:
        return value
    return laid_out.copy_(value)


def _count(text: bytes) -> int:
    """At most so many items does a JSON text hold."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def dump(message: dict[str, Any], blob: bytes = b"") -> bytes:
    """A frame. `message` must be JSON-able. Raises WireError when it is too large."""
    try:
        text = json.dumps(message).encode("utf-8", "surrogatepass")
    except RecursionError:
        raise WireError("nested too deeply") from None
    except ValueError as error:  # an int of thousands of digits
        raise WireError(str(error)) from None
    if len(text) > MAX_JSON:
        raise WireError(f"larger than {MAX_JSON >> 20} MiB")
    if _count(text) > MAX_ITEMS:
        raise WireError(f"more than {MAX_ITEMS} items")
    return HEADER.pack(len(text), len(blob)) + text + blob


def lengths(header: bytes) -> tuple[int, int]:
    """The lengths of JSON text and blob that a header announces."""
    text, blob = HEADER.unpack(header)
    if text > MAX_JSON or blob > MAX_BLOB:
        raise WireError("a frame that is too large")
    return text, blob


def parse(text: bytes) -> dict[str, Any]:
    """The JSON object of a frame."""
    if _count(text) > MAX_ITEMS:
        raise WireError(f"more than {MAX_ITEMS} items")
    try:
        message = json.loads(text.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise WireError("not an object")
    return message
