"""Checks and their messages: what passes, what fails, and what the learner is told."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from grader import pattern
from grader.compare import Mismatch, assert_close, assert_equal, assert_that
from grader.failure import text
from grader.values import Opaque
from grader.verdict import Details

X = torch.arange(12, dtype=torch.float64).reshape(3, 4) + 1


def message(check, *args, **kwargs):
    with pytest.raises(Mismatch) as caught:
        check(*args, **kwargs)
    return str(caught.value)


CLOSE = {
    "same": (X, X),
    "rounding": (X * (1 + 1e-10), X),
    "float32": (X.float() * (1 + 3e-5), X),
    "nested": ({"a": [X, 1.0]}, {"a": (X, 1.0)}),
    "nan for nan": (torch.tensor([math.nan, 1.0]), torch.tensor([math.nan, 1.0])),
    "inf for inf": (torch.tensor([math.inf]), torch.tensor([math.inf])),
    "scalar tensor for a number": (torch.tensor(2.0), 2.0),
    "int for float": (2, 2.0),
    "empty": (torch.empty(0, 3), torch.empty(0, 3)),
}


@pytest.mark.parametrize("case", CLOSE)
def test_close(case):
    assert_close(*CLOSE[case])


FAR = {
    "value": (
        X + 1e-6,
        X,
        ["result is wrong", "expected  ", "got  ", "12 of 12 elements differ", "how far", "is allowed"],
    ),
    "nan for a number": (X * math.nan, X, ["not finite where it should be", "NaN in 12 of 12 elements"]),
    "number for nan": (X, X * math.nan, ["result is wrong"]),
    "inf": (X + math.inf, X, ["result is wrong"]),
    "shape": (X.T, X, ["wrong shape", "(3, 4)", "(4, 3)", "is an axis squeezed, missing or swapped?"]),
    "broadcastable shape": (X[:1], X, ["wrong shape", "(1, 4)"]),
    "none": (None, X, ["wrong type", "is a `return` missing?"]),
    "list": (X.tolist(), X, ["wrong type", "as plain numbers the values match; expected a tensor, not a list"]),
    "numpy": (X.numpy(), X, ["wrong type", "not a numpy array"]),
    "int dtype": (
        X.long(),
        X,
        ["wrong dtype", "expected  float64", "got       int64", "the values match after conversion"],
    ),
    "length": ([X, X], [X], ["wrong length", "1 items", "2 items"]),
    "keys": ({"b": 1.0}, {"a": 1.0}, ["wrong keys", "['a']", "['b']"]),
    "generator": (Opaque("generator", "<generator>"), [1.0], ["wrong type", "return list(...) of it"]),
    "text": ("1.0", 1.0, ["wrong type", "got       '1.0'"]),
    "bool for float": ("True", 1.0, ["wrong type"]),
    "close but integers": (torch.tensor([3]), torch.tensor([2]), ["result is wrong"]),
    "large integers": (torch.tensor([10**6 + 1]), torch.tensor([10**6]), ["result is wrong"]),
    "number": (2.1, 2.0, ["expected  2\n", "got       2.1\n"]),
}


@pytest.mark.parametrize("case", FAR)
def test_far(case):
    got, expected, parts = FAR[case]
    said = message(assert_close, got, expected)
    for part in parts:
        assert part in said


def test_dtype_on_request():
    assert "expected  float32" in message(assert_close, X, X, dtype=torch.float32)
    assert_close(X.float(), X, dtype=torch.float32)


def test_tolerance_of_its_own_needs_a_reason():
    with pytest.raises(ValueError, match="needs a reason"):
        assert_close(X, X, rtol=1e-3)
    said = message(assert_close, X + 0.1, X, rtol=1e-3, reason="sampled values")
    assert "tolerance   sampled values" in said


EQUAL = [
    (1, 1),
    ([1, "a"], [1, "a"]),
    ({"a": None}, {"a": None}),
    (math.nan, math.nan),
    (torch.tensor([1]), torch.tensor([1])),
]
UNEQUAL = {
    "value": ([1, 2, 4], [1, 2, 3], "where     [2]: expected 3, got 4"),
    "bool": (True, 1, "got       True"),
    "tuple": ((1, 2), [1, 2], "the values match; expected a list"),
    "length": ([1], [1, 2], "expected  [1, 2]"),
    "mask": (
        torch.tensor([[True, False], [True, True]]),
        torch.ones(2, 2, dtype=torch.bool),
        "1 of 4 elements differ, first at [0, 1]: expected True, got False",
    ),
    "in a list": (
        [torch.tensor([1, 2, 3])],
        [torch.tensor([1, 5, 6])],
        "2 of 3 elements differ, first at [0][1]: expected 5, got 2",
    ),
    "key": ({"a": {"b": 1}}, {"a": {"b": 2}}, "where     ['a']['b']: expected 2, got 1"),
    "long": ([0] * 9999, [1] * 9999, "characters)"),
    "array": (np.array([1]), np.array([2]), "numpy array"[2:]),
    "tensor dtype": (torch.tensor([1.0]), torch.tensor([1]), "float32"),
}


@pytest.mark.parametrize("pair", EQUAL, ids=str)
def test_equal(pair):
    assert_equal(*pair)


@pytest.mark.parametrize("case", UNEQUAL)
def test_unequal(case):
    got, expected, part = UNEQUAL[case]
    assert part in message(assert_equal, got, expected)


@pytest.mark.parametrize(
    "condition", [False, 0, 1, "yes", None, [True], torch.tensor(False), np.bool_(False), Opaque("bool")], ids=str
)
def test_a_property_holds_only_when_it_is_true(condition):
    assert message(assert_that, condition, "rows sum to one", got="0.5") == "must hold: rows sum to one\ngot  0.5"


@pytest.mark.parametrize("condition", [True, torch.tensor(True), np.bool_(True)], ids=str)
def test_a_property_that_holds(condition):
    assert_that(condition, "it holds")


SQUARE = torch.arange(25, dtype=torch.float64).reshape(5, 5) + 1
EDGED = X.clone()
EDGED[:, -1] = 0
ODD = X.clone()
ODD[:, 1::2] = 7
NAN_ROW = X.clone()
NAN_ROW[1] = math.nan
SHAPES = {
    "factor": (X * 0.5, X, "times a constant factor of 0.5 = 1/sqrt(4), where 4 is the size of an axis"),
    "size": (X * 4, X, "times a constant factor of 4, where 4 is the size of an axis"),
    "two sizes": (X[:2] * 2, X[:2], "times a constant factor of 2 = sqrt(4), where 2 and 4 are sizes of axes"),
    "plain factor": (X * 0.7, X, "times a constant factor of 0.7"),
    "offset": (X + 2, X, "plus a constant of 2"),
    "sign": (-X, X, "with the opposite sign"),
    "zeros": (X * 0, X, "all zeros"),
    "shift": (torch.roll(X, 1, 0), X, "shifted by 1 along axis 0"),
    "shift back": (torch.roll(X, -1, 1), X, "shifted by -1 along axis 1"),
    "reverse": (X.flip(1), X, "in reverse order along axis 1"),
    "transpose": (SQUARE.T, SQUARE, "axes in the order (1, 0)"),
    "reshape": (X.T.reshape(3, 4), X, "axes in the order (1, 0)"),
    "permutation": (X[:, [2, 0, 3, 1]], X, "in another order along axis 1"),
    "edge": (EDGED, X, "wrong at index 3 along axis 1 (of size 4) only"),
    "odd": (ODD, X, "wrong at odd indices along axis 1 (of size 4) only"),
    "tail": (torch.cat([SQUARE[:3], SQUARE[3:] * 2 + 1]), SQUARE, "wrong from index 3 to the end along axis 0"),
    "above": (SQUARE + SQUARE.cos().triu(1), SQUARE, "wrong above the diagonal only"),
    "nan row": (NAN_ROW, X, "NaN in 1 whole rows of 3; the rest is right"),
    "log": (math.log(3.7), 3.7, "the logarithm of the right value"),
    "inverse": (1 / 3.7, 3.7, "1 / the right value"),
}


@pytest.mark.parametrize("case", SHAPES)
def test_shapes_of_errors_are_recognised(case):
    got, expected, words = SHAPES[case]
    assert words in message(assert_close, got, expected)


def test_nothing_is_said_of_the_rest_where_there_is_none():
    assert message(assert_close, X * math.nan, X).endswith("NaN in 12 of 12 elements, first at [0, 0]")


@pytest.mark.parametrize(("got", "expected"), [(X + SQUARE[:3, :4].sin(), X), (X * 1e300, X * 1e-300)])
def test_no_shape_is_claimed_where_none_fits(got, expected):
    assert "looks like" not in message(assert_close, got, expected)


def details(check, *args, **kwargs):
    with pytest.raises(Mismatch) as caught:
        check(*args, **kwargs)
    assert text(caught.value.details) == str(caught.value)
    return caught.value.details


def test_what_a_check_says_is_kept_field_by_field():
    found = details(assert_close, X * 0.5, X, what="the product")
    assert found.headline == "the product is wrong"
    assert found.expected == "tensor (3, 4) float64: 1, 2, 3, 4, 5, 6, ..."
    assert found.got == "tensor (3, 4) float64: 0.5, 1, 1.5, 2, 2.5, 3, ..."
    assert found.where == "12 of 12 elements differ, worst at [2, 3]: expected 12, got 6"
    assert found.how_far == "at most 6 off; 1e-11 + 1e-09 times the expected value is allowed"
    assert found.looks_like.startswith("the right values times a constant factor of 0.5")
    assert (found.note, found.tolerance, found.cells.worst) == ("", "", [2, 3])
    assert found.cells.expected == X.tolist()
    assert details(assert_close, X + 0.1, X, rtol=1e-3, reason="sampled").tolerance == "sampled"


def test_exact_checks_and_properties_too():
    found = details(assert_equal, [torch.tensor([1, 2, 3])], [torch.tensor([1, 5, 6])], what="order")
    assert (found.headline, found.expected) == ("order differs", "list of 1: tensor (3,) int64: 1, 5, 6")
    assert found.where == "2 of 3 elements differ, first at [0][1]: expected 5, got 2"
    assert (found.cells.worst, found.cells.got) == ([1], [[1, 2, 3]])
    assert details(assert_equal, torch.tensor([1.0]), torch.tensor([1])).cells is None
    assert details(assert_equal, (1, 2), [1, 2]).note == "the values match; expected a list"
    assert details(assert_that, False, "it holds", got=2) == Details("must hold: it holds", got="2")
    shape = details(assert_close, X.T, X)
    assert (shape.expected, shape.got) == ("(3, 4)", "(4, 3)")
    assert shape.note.startswith("the number of elements is the same")


def test_where_only_the_fact_counts_nobody_pays_for_the_words(monkeypatch):
    monkeypatch.setattr(pattern, "recognise", lambda *_: pytest.fail("the words were made"))
    with pytest.raises(Mismatch):
        assert_close(X * 2, X)


def test_a_long_field_is_cut():
    said = message(assert_that, False, "x" * 5000)
    assert said == f"must hold: {'x' * 3989} ... (5011 characters)"
