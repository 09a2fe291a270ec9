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


# --- several arrays in a frame ---


def test_arrays_beside_each_other():
    first, second = torch.arange(3.0), torch.arange(4).reshape(2, 2)
    array = np.arange(5, dtype=np.int16)
    got = through([first, array, {"again": (second, np.float32(2.5))}])
    assert torch.equal(got[0], first) and torch.equal(got[2]["again"][0], second)
    assert got[1].tolist() == array.tolist() and got[2]["again"][1].tolist() == 2.5


def test_a_value_may_be_changed_by_who_gets_it():
    tensor, array = through([torch.zeros(2), np.zeros(2)])
    tensor += 1
    array += 1
    assert (tensor.tolist(), array.tolist()) == ([1, 1], [1, 1])


def test_arrays_that_share_bytes_are_refused():
    decoder = wire.Decoder(bytes(8), opaque=Opaque)
    with pytest.raises(wire.WireError, match="arrays overlap"):
        decoder.decode([tensor("float32", [2], 0, 8), tensor("float32", [1], 4, 4)])
    assert wire.Decoder(bytes(8), opaque=Opaque).decode([tensor("float32", [1], 0, 4), tensor("float32", [1], 4, 4)])


@pytest.mark.parametrize("count", [64, 65])
def test_long_lists_of_anything(count):
    """Whole numbers go through at once, and only these."""
    for rest in ([True], [2.5], ["a"], [None], [torch.ones(2)]):
        values = [*range(count), *rest]
        got = through([values, tuple(values)])
        assert form(got[0][:count]) == form(values[:count])
        assert type(got[1]) is tuple and len(got[1]) == count + 1
        assert type(got[0][-1]) is type(rest[0])
    assert form(through([[*range(count)]])) == form([[*range(count)]])


# --- where it goes ---


def test_tensors_go_to_the_device():
    encoder = wire.Encoder()
    tree = encoder.encode([torch.ones(2), torch.empty(0)])
    decoder = wire.Decoder(encoder.blob(), opaque=Opaque, device="meta")
    assert [value.device.type for value in decoder.decode(tree)] == ["meta", "meta"]
    assert through(torch.ones(2)).device.type == "cpu"


def test_gradients_are_asked_for_arguments_only():
    leaf = torch.ones(2, requires_grad=True)
    assert through(leaf, keep_layout=True).requires_grad
    assert not through(leaf).requires_grad
    assert not through(torch.ones(2), keep_layout=True).requires_grad
    assert not through(leaf * 2).requires_grad


STRIDES = {
    "contiguous": ((2, 3), (3, 1), (3, 1)),
    "transposed": ((2, 3), (1, 2), (1, 2)),
    "expanded": ((4, 3), (0, 1), (0, 1)),
    "one, expanded": ((1, 3), (0, 1), (0, 1)),
    "with gaps": ((2, 3), (8, 2), (8, 2)),
}


@pytest.mark.parametrize("case", STRIDES)
def test_strides(case):
    shape, stride, expected = STRIDES[case]
    value = torch.arange(40.0).as_strided(shape, stride)
    got = through(value, keep_layout=True)
    assert torch.equal(got, value)
    assert [s for s, n in zip(got.stride(), shape, strict=True) if n > 1] == [
        s for s, n in zip(expected, shape, strict=True) if n > 1
    ]
    dense = through(value)
    assert dense.is_contiguous() and torch.equal(dense, value)


# --- limits ---


def test_bytes_are_bounded(monkeypatch):
    monkeypatch.setattr(wire, "MAX_BLOB", 16)
    through([torch.zeros(2), torch.zeros(2)])
    with pytest.raises(wire.WireError, match=r"^larger than 0 MiB$"):
        wire.Encoder().encode([torch.zeros(2), torch.zeros(3)])
    with pytest.raises(wire.WireError, match=r"larger than 0 MiB$"):
        wire.Decoder(bytes(4), opaque=Opaque).decode({"tensor": ["float32", [5], 0, 4, {"stride": [0]}]})
    wire.Decoder(bytes(4), opaque=Opaque).decode({"tensor": ["float32", [4], 0, 4, {"stride": [0]}]})
    with pytest.raises(wire.WireError, match="a stride that reaches further than 0 MiB"):
        wire.Decoder(bytes(8), opaque=Opaque).decode({"tensor": ["float32", [2], 0, 8, {"stride": [5]}]})
    wire.Decoder(bytes(8), opaque=Opaque).decode({"tensor": ["float32", [2], 0, 8, {"stride": [4]}]})
    assert wire.lengths(wire.HEADER.pack(0, 16)) == (0, 16)


def test_text_is_bounded(monkeypatch):
    monkeypatch.setattr(wire, "MAX_JSON", 12)
    with pytest.raises(wire.WireError, match=r"^larger than 0 MiB$"):
        wire.Encoder().encode(["abcdef", "ghijklm"])
    assert wire.Encoder().encode(["abcdef", "ghijkl"]) == ["abcdef", "ghijkl"]
    assert wire.dump({"v": "abc"}).endswith(b'{"v": "abc"}')
    with pytest.raises(wire.WireError, match=r"^larger than 0 MiB$"):
        wire.dump({"v": "abcd"})
    assert wire.lengths(wire.HEADER.pack(12, 0)) == (12, 0)


def test_items_are_bounded(monkeypatch):
    monkeypatch.setattr(wire, "MAX_ITEMS", 4)
    text = b'{"v": [[1, 2]]}'  # an object, two lists and a comma
    assert wire.parse(text) == {"v": [[1, 2]]}
    assert wire.dump({"v": [[1, 2]]}).endswith(text)
    for more in ({"v": [[1, 2, 3]]}, {"v": [[[1, 2]]]}, {"v": [[{"w": 1}, 2]]}):
        with pytest.raises(wire.WireError, match="more than 4 items"):
            wire.dump(more)
        with pytest.raises(wire.WireError, match="more than 4 items"):
            wire.parse(json.dumps(more).encode())


def test_depth_is_bounded():
    def nested(levels):
        value = []
        for _ in range(levels - 1):
            value = [value]
        return value

    assert through(nested(wire.MAX_DEPTH + 1)) == nested(wire.MAX_DEPTH + 1)
    with pytest.raises(wire.WireError, match="nested more than 64 levels deep"):
        wire.Encoder().encode(nested(wire.MAX_DEPTH + 2))
    with pytest.raises(wire.WireError, match="nested too deeply"):
        wire.Decoder(b"", opaque=Opaque).decode(nested(wire.MAX_DEPTH + 4))


def test_axes_and_sizes_are_bounded():
    empty = {"tensor": ["float32", [1 << 40, 0], 0, 0, {}]}
    with pytest.raises(wire.WireError, match="not a shape"):
        wire.Decoder(b"", opaque=Opaque).decode(empty)
    empty["tensor"][1][0] -= 1
    assert wire.Decoder(b"", opaque=Opaque).decode(empty).shape == ((1 << 40) - 1, 0)
    for axes, fits in ((wire.MAX_DEPTH, True), (wire.MAX_DEPTH + 1, False)):
        tree = tensor("float32", [1] * axes, 0, 4)
        if fits:
            assert wire.Decoder(bytes(4), opaque=Opaque).decode(tree).dim() == axes
        else:
            with pytest.raises(wire.WireError, match="not a shape"):
                wire.Decoder(bytes(4), opaque=Opaque).decode(tree)


@pytest.mark.parametrize("kind", ["set", "frozenset", "dict"])
def test_keys_that_collide_are_few(kind):
    modulus = (1 << 61) - 1  # of the hash of an int
    for count, fits in ((wire.MAX_SHARING, True), (wire.MAX_SHARING + 1, False)):
        keys = [number * modulus for number in range(count)]
        tree = {kind: [[key, 1] for key in keys] if kind == "dict" else keys}
        if fits:
            assert len(wire.Decoder(b"", opaque=Opaque).decode(tree)) == count
        else:
            with pytest.raises(wire.WireError, match="keys that collide"):
                wire.Decoder(b"", opaque=Opaque).decode(tree)
    assert len(through(set(range(1000)))) == 1000


def test_long_names_are_cut():
    kind = type("k" * 300, (), {})
    got = through(kind(), describe=lambda value: "d" * 300)
    assert (got.type_name, got.description) == ("k" * 100, "d" * 200)
    with pytest.raises(wire.WireError) as caught:
        wire.Decoder(b"", opaque=Opaque).decode({"u" * 300: 1})
    assert len(str(caught.value)) < 80


MESSAGES = {
    "no JSON": (b"{", "not JSON: "),
    "no object": (b"[1]", "not an object"),
    "no text": (b'{"v": "\xff"}', "not JSON: "),
    "too deep": (b'{"v": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON: "),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_what_is_no_message(case):
    data, message = MESSAGES[case]
    with pytest.raises(wire.WireError) as caught:
        wire.parse(data)
    assert str(caught.value).startswith(message)


def test_what_cannot_be_a_message():
    with pytest.raises(wire.WireError, match="integer string conversion"):
        wire.dump({"v": 10**5000})
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(wire.WireError, match="nested too deeply"):
        wire.dump({"v": deep})
    assert wire.parse(wire.dump({"v": "\ud800"})[wire.HEADER.size :]) == {"v": "\ud800"}  # half a character


SENT = {
    "sparse": lambda: torch.eye(2).to_sparse(),
    "meta": lambda: torch.empty(2, device="meta"),
    "float8": lambda: torch.zeros(2).to(torch.float8_e5m2),
}


@pytest.mark.parametrize("case", SENT)
def test_tensors_that_do_not_cross(case):
    with pytest.raises(wire.WireError, match="does not cross"):
        wire.Encoder().encode(SENT[case]())
    got = through(SENT[case](), describe=str)
    assert got.type_name == "Tensor"
    assert got.description.startswith("of dtype float")


def test_dtypes_cross_by_name():
    for name in (*wire.TENSOR_DTYPES, *wire.OTHER_DTYPES):
        assert through(getattr(torch, name)) is getattr(torch, name)
    with pytest.raises(wire.WireError, match="unknown dtype"):
        wire.Decoder(b"", opaque=Opaque).decode({"dtype": "nn"})


def test_conjugated_and_negated_tensors_arrive_as_they_read():
    value = torch.tensor([1 + 2j])
    assert through(value.conj()).tolist() == [1 - 2j]
    assert through(value.conj().imag).tolist() == [-2.0]


def test_numpy_bools_hold_only_bools():
    got = wire.Decoder(bytes([0, 1, 2]), opaque=Opaque).decode({"array": ["bool", [3], 0, 3]})
    assert (got.dtype, got.tolist()) == (np.bool_, [False, True, True])
