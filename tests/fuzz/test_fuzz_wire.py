"""The wire under any input: values come back as they were, all else is a WireError, in bounded memory."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
import torch
from effort import effort, mutated_bytes
from hypothesis import example, given
from hypothesis import strategies as st

from grader.sandbox.inside import wire
from grader.values import Opaque

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**60), 10**60), st.floats(), st.complex_numbers(), st.text(max_size=9),
    st.binary(max_size=9), st.sampled_from([getattr(torch, name) for name in [*wire.TENSOR_DTYPES, *wire.OTHER_DTYPES]]),
)  # fmt: skip
HASHABLE = st.one_of(st.booleans(), st.integers(), st.text(max_size=4), st.tuples(st.integers(), st.none()))
SHAPES = st.lists(st.integers(0, 4), max_size=4)


@st.composite
def tensors(draw) -> torch.Tensor:
    """Of any dtype and layout that a suite can hand over."""
    dtype = getattr(torch, draw(st.sampled_from(sorted(wire.TENSOR_DTYPES))))
    shape = draw(SHAPES)
    value = (torch.arange(math.prod(shape)).reshape(shape) % 7).to(dtype)
    if shape and draw(st.booleans()):
        value = value.transpose(0, -1)
    if shape and draw(st.booleans()):
        value = value[..., ::2]
    if draw(st.booleans()):
        value = value.unsqueeze(0).expand(draw(st.integers(2, 3)), *value.shape)
    return value.requires_grad_(dtype.is_floating_point and draw(st.booleans()))


@st.composite
def arrays(draw) -> np.ndarray:
    shape = draw(SHAPES)
    name = draw(st.sampled_from(sorted(wire.ARRAY_DTYPES)))
    return (np.arange(math.prod(shape)).reshape(shape) % 7).astype(name)


VALUES = st.recursive(
    st.one_of(LEAVES, tensors(), arrays()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(HASHABLE, inner, max_size=3),
        st.sets(HASHABLE, max_size=4),
        st.frozensets(HASHABLE, max_size=4),
    ),
    max_leaves=12,
)


def form(value):
    """A value with the types of everything in it, comparable with ==, NaN and -0.0 included."""
    if isinstance(value, torch.Tensor):
        plain = value.detach().clone(memory_format=torch.contiguous_format).reshape(-1)
        raw = plain.view(torch.uint8).tolist() if value.numel() else []
        return "tensor", str(value.dtype), tuple(value.shape), value.requires_grad, raw
    if isinstance(value, np.ndarray | np.generic):
        return "array", str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, list | tuple):
        return type(value), [form(item) for item in value]
    if isinstance(value, dict):
        return dict, [(form(key), form(item)) for key, item in value.items()]
    if isinstance(value, set | frozenset):
        return type(value), value
    return type(value), repr(value)


def frame_of(value) -> bytes:
    encoder = wire.Encoder(keep_layout=True)
    return wire.dump({"v": encoder.encode(value)}, encoder.blob())


def value_of(frame: bytes):
    """What stands in a frame, read as both sides read it. Raises WireError."""
    if len(frame) < wire.HEADER.size:
        raise wire.WireError("too short")
    text, blob = wire.lengths(frame[: wire.HEADER.size])
    start = wire.HEADER.size
    if len(frame) != start + text + blob:
        raise wire.WireError("not of the length it announces")
    message = wire.parse(frame[start : start + text])
    return wire.Decoder(frame[start + text :], opaque=Opaque).decode(message.get("v"))


@effort(250)
@given(VALUES)
@example(torch.arange(6.0)[::5][:1])  # one element, of stride 5
@example(torch.zeros(1, dtype=torch.bfloat16).expand(2))
def test_every_kind_of_value_comes_back_as_it_was(value):
    assert form(value_of(frame_of(value))) == form(value)


SAMPLE = [
    (1, "two", 3.5, None, b"four", 5j), {"key": {1, 2}, 2: [frozenset({3})]}, torch.arange(6.0).reshape(2, 3).T,
    torch.ones(3, dtype=torch.bool).expand(2, 3), np.arange(4, dtype="int16"), torch.float16,
]  # fmt: skip
FRAME = frame_of(SAMPLE)


@effort(400)
@given(mutated_bytes(FRAME))
def test_a_damaged_frame_is_a_value_or_a_wire_error(frame):
    with contextlib.suppress(wire.WireError):
        value_of(frame)


TEXT_LENGTH, BLOB_LENGTH = wire.lengths(FRAME[: wire.HEADER.size])
TEXT = FRAME[wire.HEADER.size : wire.HEADER.size + TEXT_LENGTH]


@effort(400)
@given(mutated_bytes(TEXT), st.binary(max_size=64))
def test_a_frame_of_the_right_length_with_damaged_text(text, blob):
    """The lengths fit, so that the damage reaches the JSON and the tree."""
    with contextlib.suppress(wire.WireError):
        value_of(wire.HEADER.pack(len(text), len(blob)) + text + blob)


NUMBERS = st.one_of(
    st.integers(-2, 9), st.sampled_from([1 << 20, 1 << 39, 1 << 40, 1 << 63, 1 << 64, -(1 << 63), True, 2.0, None])
)
PLACES = st.tuples(
    st.sampled_from([*wire.ARRAY_DTYPES, "bfloat16", "object", "", None, 3, []]), st.one_of(st.lists(NUMBERS, max_size=5), st.text(max_size=2)),
    NUMBERS, NUMBERS,
)  # fmt: skip
LAYOUTS = st.one_of(
    st.fixed_dictionaries(
        {}, optional={"stride": st.one_of(st.lists(NUMBERS, max_size=5), st.just("xy")), "grad": st.booleans()}
    ),
    NUMBERS,
)
TENSORS = st.one_of(
    st.builds(lambda place, layout: {"tensor": [*place, layout]}, PLACES, LAYOUTS),
    st.builds(lambda place: {"array": list(place)}, PLACES),
)
TREES = st.recursive(
    st.one_of(TENSORS, NUMBERS, st.text(max_size=4), st.floats()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from([*sorted(wire.KINDS), "decode", "__class__"]), inner, max_size=2),
        st.builds(lambda items: {"dict": items}, st.lists(st.tuples(inner, inner).map(list), max_size=3)),
    ),
    max_leaves=10,
)


def elements(value) -> int:
    """The bytes of all arrays in a value, counted as if none shared memory."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, dict):
        return sum(elements(key) + elements(item) for key, item in value.items())
    return sum(map(elements, value)) if isinstance(value, list | tuple | set | frozenset) else 0


@effort(500)
@given(TREES, st.sampled_from([0, 1, 8, 64]))
@example({"tensor": ["float32", [1 << 39], 0, 4, {"stride": [0]}]}, 8)  # four bytes that became a tensor of 2 TiB
@example({"tensor": ["float32", [2], 0, 8, {"stride": [1 << 36]}]}, 8)  # and eight that lay 256 GiB apart
@example([{"array": ["uint8", [64], 0, 64]}] * 3, 64)  # one blob, copied again and again
@example({"tensor": ["uint8", [0, 1 << 39, 1 << 39], 0, 0, {}]}, 0)
def test_a_hostile_tree_is_a_small_value_or_a_wire_error(tree, size):
    with contextlib.suppress(wire.WireError):
        value = wire.Decoder(bytes(size), opaque=Opaque).decode(tree)
        assert elements(value) <= wire.MAX_BLOB


def test_a_tensor_takes_no_more_memory_than_came():
    for tree in (
        {"tensor": ["float32", [1 << 39], 0, 4, {"stride": [0]}]},
        {"tensor": ["float32", [2], 0, 8, {"stride": [1 << 36]}]},
        [{"array": ["uint8", [64], 0, 64]}] * 3,
    ):
        with pytest.raises(wire.WireError):
            wire.Decoder(bytes(64), opaque=Opaque).decode(tree)


@effort(100)
@given(
    st.sampled_from(["[", '{"v":', '{"tuple":[', '[{"dict":[[1,', '{"set":[']),
    st.sampled_from([50, 66, 900, 5000, 100_000]),
)
def test_any_depth_is_a_wire_error_at_most(opening, depth):
    closing = {"[": "]", "{": "}"}
    end = "".join(closing[c] for c in reversed(opening) if c in closing)
    text = ('{"v":' + opening * depth + "1" + end * depth + "}").encode()
    with contextlib.suppress(wire.WireError):
        value_of(wire.HEADER.pack(len(text), 0) + text)
