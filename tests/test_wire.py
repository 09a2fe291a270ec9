"""The wire: what crosses keeps its value and form, and nothing malformed or malicious gets through."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grader.sandbox.inside import wire
from grader.values import Opaque


def through(value, **options):
    """A value as the other side sees it, through real bytes."""
    encoder = wire.Encoder(**options)
    frame = wire.dump({"v": encoder.encode(value)}, encoder.blob())
    text, blob = wire.lengths(frame[: wire.HEADER.size])
    start = wire.HEADER.size
    assert len(frame) == start + text + blob
    return wire.Decoder(frame[start + text :], opaque=Opaque).decode(wire.parse(frame[start : start + text])["v"])


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(),
    st.binary(),
)
HASHABLE = st.one_of(st.booleans(), st.integers(), st.text(), st.tuples(st.integers(), st.text()))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(HASHABLE, inner, max_size=4),
    ),
    max_leaves=20,
)


def form(value):
    """A value with the types of everything in it: 1, True and 1.0 are equal in Python."""
    if isinstance(value, list | tuple):
        return type(value), [form(item) for item in value]
    if isinstance(value, dict):
        return dict, [(form(k), form(v)) for k, v in value.items()]
    return type(value), value


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_plain_values_come_back_as_they_were(value):
    assert form(through(value)) == form(value)


def test_sets_and_values_that_are_not_finite():
    assert through({1, 2, 3}) == {1, 2, 3}
    assert through(frozenset({"a"})) == frozenset({"a"})
    nan, inf = through([float("nan"), float("-inf")])
    assert nan != nan and inf == float("-inf")


@pytest.mark.parametrize("name", sorted(wire.TENSOR_DTYPES))
def test_tensors_of_every_dtype(name):
    dtype = getattr(torch, name)
    value = (torch.arange(24).reshape(2, 3, 4) % 5).to(dtype)
    got = through(value)
    assert got.dtype == dtype and got.shape == value.shape and torch.equal(got, value)


@pytest.mark.parametrize("name", sorted(wire.ARRAY_DTYPES))
def test_arrays_of_every_dtype(name):
    value = (np.arange(6).reshape(3, 2) % 4).astype(name)
    got = through(value)
    assert got.dtype == value.dtype and np.array_equal(got, value)
    assert through(np.float64(2.5)).shape == ()


LAYOUTS = {
    "transposed": lambda: torch.arange(6.0).reshape(2, 3).T,
    "expanded": lambda: torch.arange(3.0).expand(4, 3),
    "strided": lambda: torch.arange(12.0).reshape(3, 4)[:, ::2],
    "empty": lambda: torch.empty(0, 3),
    "scalar": lambda: torch.tensor(2.0),
    "gradient": lambda: torch.ones(2, requires_grad=True),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_arguments_keep_their_layout(case):
    value = LAYOUTS[case]()
    got = through(value, keep_layout=True)
    assert torch.equal(got, value)
    assert got.requires_grad == value.requires_grad
    assert got.is_contiguous() == value.is_contiguous()
    assert [s for s, n in zip(got.stride(), got.shape, strict=True) if n > 1 and s == 0] == [
        s for s, n in zip(value.stride(), value.shape, strict=True) if n > 1 and s == 0
    ]


def test_what_is_not_plain_data():
    with pytest.raises(wire.WireError, match="a object is not plain data"):
        through(object())
    got = through((i for i in range(3)), describe=lambda value: "three of them")
    assert got == Opaque("generator") and got.description == "three of them"
    with pytest.raises(wire.WireError, match="more than 64 levels"):
        deep = []
        for _ in range(100):
            deep = [deep]
        through(deep)


def test_subclasses_arrive_as_the_builtin_they_are():
    class Loud(int):
        def __repr__(self):
            raise ValueError

        def __add__(self, other):
            raise ValueError

    class Tensor(torch.Tensor):
        pass

    assert form(through([Loud(3)])) == (list, [(int, 3)])
    assert type(through(torch.ones(2).as_subclass(Tensor))) is torch.Tensor


def tensor(*place):
    return {"tensor": [*place, {}]}


MALFORMED = {
    "two keys": {"tuple": [], "set": []},
    "no key": {},
    "unknown kind": {"pickle": "x"},
    "a method of the decoder": {"items": []},
    "tuple of a number": {"tuple": 3},
    "dict of singles": {"dict": [[1]]},
    "unhashable key": {"dict": [[[1], 2]]},
    "unhashable member": {"set": [[1]]},
    "not base64": {"bytes": "%%%"},
    "complex of text": {"complex": ["a", "b"]},
    "dtype by path": {"dtype": "nn"},
    "tensor of objects": tensor("object", [1], 0, 8),
    "length is not shape": tensor("float32", [3], 0, 8),
    "beyond the blob": tensor("float32", [2], 4, 8),
    "negative shape": tensor("float32", [-1], 0, 4),
    "huge shape": tensor("float32", [1 << 50], 0, 4),
    "bool as size": tensor("float32", [True], 0, 4),
    "no layout": {"tensor": ["float32", [2], 0, 8]},
    "stride of text": {"tensor": ["float32", [2], 0, 8, {"stride": "xy"}]},
    "array of objects": {"array": ["object", [1], 0, 8]},
    "opaque of one": {"opaque": ["x"]},
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_trees_are_wire_errors(case):
    with pytest.raises(wire.WireError):
        wire.Decoder(bytes(8), opaque=Opaque).decode(MALFORMED[case])


TREES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 1 << 70), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.sampled_from(sorted(wire.KINDS)) | st.text(max_size=6), inner, max_size=2),
    ),
    max_leaves=25,
)


@settings(max_examples=400, deadline=None)
@given(TREES, st.binary(max_size=64))
def test_any_tree_decodes_or_is_a_wire_error(tree, blob):
    with contextlib.suppress(wire.WireError):  # the only exception there is
        wire.Decoder(blob, opaque=Opaque).decode(tree)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_a_wire_error(data):
    with contextlib.suppress(wire.WireError):
        assert isinstance(wire.parse(data), dict)


def test_frames_announce_their_size():
    with pytest.raises(wire.WireError, match="too large"):
        wire.lengths(wire.HEADER.pack(wire.MAX_JSON + 1, 0))
    with pytest.raises(wire.WireError, match="too large"):
        wire.lengths(wire.HEADER.pack(2, wire.MAX_BLOB + 1))
    assert wire.lengths(wire.dump({"a": 1}, b"xyz")[:16]) == (len(json.dumps({"a": 1})), 3)


def test_a_bool_tensor_holds_only_bools():
    got = wire.Decoder(bytes([0, 1, 2, 255]), opaque=Opaque).decode({"tensor": ["bool", [4], 0, 4, {}]})
    assert got.view(torch.uint8).tolist() == [0, 1, 1, 1]
