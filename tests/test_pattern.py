"""How far off, where, and in which recognisable way: the differences and shapes of errors themselves."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch

from grader.pattern import Difference, apart, as_numpy, recognise

RTOL, ATOL = 1e-7, 1e-9
INF, NAN = math.inf, math.nan
X = np.arange(12.0).reshape(3, 4) + 1
S = np.arange(25.0).reshape(5, 5) + 1


def far(got, expected, rtol=RTOL, atol=ATOL):
    return Difference.of(got, expected, rtol, atol)


def looks(got, expected, rtol=RTOL, atol=ATOL):
    return recognise(got, expected, rtol, atol)


def changed(x, *places, to=None, by=None):
    """A copy with some elements set, or moved by something."""
    y = x.copy()
    for place in places:
        y[place] = to if by is None else y[place] + by
    return y


# --- differences ---

# got, expected, rtol, atol: whether they are close
CLOSE = {
    "equal": (1.0, 1.0, 0, 0, True),
    "just within atol": (1.5, 1.0, 0, 0.5, True),
    "just beyond atol": (1.5, 1.0, 0, 0.49, False),
    "just within rtol": (15.0, 10.0, 0.5, 0, True),
    "rtol is of what was expected": (10.0, 15.0, 0.34, 0, True),
    "not of what was got": (15.0, 10.0, 0.34, 0, False),
    "a negative number has a size": (-15.0, -10.0, 0.5, 0, True),
    "both": (16.0, 10.0, 0.5, 1.0, True),
    "more than both": (16.1, 10.0, 0.5, 1.0, False),
    "nan for nan": (NAN, NAN, 0, 0, True),
    "nan for a number": (NAN, 1.0, 1, 1, False),
    "a number for nan": (1.0, NAN, 1, 1, False),
    "infinity": (INF, INF, 0, 0, True),
    "the other infinity": (-INF, INF, 1, 1, False),
    "a number for infinity": (1.0, INF, 1, 1, False),
    "infinity for a number": (INF, 1.0, 1, 1, False),
    "complex": (1 + 1.5j, 1 + 1j, 0, 0.5, True),
    "complex, too far": (1 + 1.6j, 1 + 1j, 0, 0.5, False),
}


@pytest.mark.parametrize("form", [lambda x: x, np.asarray, lambda x: np.array([x])], ids=["number", "scalar", "array"])
@pytest.mark.parametrize("case", CLOSE)
def test_what_is_close(case, form):
    got, expected, rtol, atol, close = CLOSE[case]
    assert (far(form(got), form(expected), rtol, atol) is None) is close


def test_whole_numbers_of_any_size():
    assert far(10**400, 10**400) is None
    assert far(10**400, 10**400 + 1).largest == INF
    assert far(2**63, 2**63 + 1, 0, 0) == Difference(1, 1, (), 2**63, 2**63 + 1, 1.0)
    assert far(-(10**400), 1.5).largest == INF


def test_the_worst_element_is_named():
    got = changed(X, (0, 1), by=0.5)
    got = changed(got, (2, 3), by=-0.75)
    assert far(got, X) == Difference(2, 12, (2, 3), 11.25, 12.0, 0.75)
    assert far(got, X).where() == "2 of 12 elements differ, worst at [2, 3]: expected 12, got 11.25"
    assert far(changed(got, (1, 0), to=NAN), X).index == (1, 0)  # nothing is farther off
    assert far(changed(got, (1, 0), to=NAN), X).largest == INF
    assert far(changed(X, (1, 1), to=INF), X).largest == INF


def test_the_worst_is_one_that_is_not_allowed():
    """A larger distance that the tolerance covers is no error."""
    got, expected = np.array([1000.9, 1.5]), np.array([1000.0, 1.0])
    assert far(got, expected, 1e-2, 0) == Difference(1, 2, (1,), 1.5, 1.0, 0.5)


def test_a_single_number_has_no_place():
    assert far(1.0, 2.0).where() == ""
    assert far(np.array(1.0), np.array(2.0)) == Difference(1, 1, (), 1.0, 2.0, 1.0)
    assert far(1.0, np.array(2.0)) == Difference(1, 1, (), 1.0, 2.0, 1.0)
    assert far(NAN, 2.0).largest == INF
    assert far(1.0, 2.0).largest == 1.0


def test_nothing_differs_where_there_is_nothing():
    assert far(np.empty((0, 3)), np.empty((0, 3))) is None


def test_lists():
    of = Difference.of_lists
    assert of([[1, 2.0], [3]], [[1, 2.0], [3]], RTOL, ATOL) is None
    assert of([[1, 2.0], [4]], [[1, 2.0], [3]], RTOL, ATOL) == Difference(1, 1, (), 4, 3, 1.0)
    assert of([[1, 5.0], [4]], [[1, 2.0], [3]], RTOL, ATOL).got == 5.0
    for got, expected in (([1], 1), (1, [1]), ([1], [1, 2]), ([[1]], [1])):
        assert of(got, expected, 1, 1).largest == INF
    assert of([1], [1, 2], RTOL, ATOL) == Difference(1, 1, (), [1], [1, 2], INF)
    assert of(2, 1, RTOL, ATOL) == Difference(1, 1, (), 2, 1, 1.0)


@pytest.mark.parametrize(
    ("x", "y", "shown"),
    [
        (1.0, 2.0, ("1", "2")),
        (0.1234567, 0.1234568, ("0.1234567", "0.1234568")),
        (1.000001, 1.000002, ("1.000001", "1.000002")),
        (1.00001, 1.00002, ("1.00001", "1.00002")),
        (1 + 1e-10, 1.0, ("1.0000000001", "1")),
        (1 + 2**-52, 1.0, ("1.0000000000000002", "1")),
        (1.0, 1.0, ("1", "1")),
    ],
)  # fmt: skip
def test_as_many_digits_as_tell_numbers_apart(x, y, shown):
    assert apart(x, y) == shown


NUMPY = {
    "float32": (torch.tensor([1.5]), np.float64),
    "half": (torch.tensor([1.5], dtype=torch.bfloat16), np.float64),
    "integers": (torch.tensor([2]), np.float64),
    "complex": (torch.tensor([1 + 2j]), np.complex128),
    "conjugated": (torch.tensor([1 + 2j]).conj(), np.complex128),
    "a gradient": (torch.tensor([1.5], requires_grad=True), np.float64),
    "sparse": (torch.tensor([0.0, 1.5]).to_sparse(), np.float64),
    "negated": (torch.tensor([1 + 2j]).conj().imag, np.float64),
    "an array": (np.array([1, 2]), np.float64),
    "an array of complex": (np.array([1j], dtype=np.complex64), np.complex128),
    "a number": (3, np.float64),
    "a large number": (10**400, np.float64),
    "a truth": (True, np.float64),
}


@pytest.mark.parametrize("case", NUMPY)
def test_everything_becomes_double(case):
    value, dtype = NUMPY[case]
    got = as_numpy(value)
    assert got.dtype == dtype
    if hasattr(value, "detach"):
        assert got.tolist() == value.detach().to_dense().resolve_conj().resolve_neg().tolist()
    else:
        assert np.array_equal(got, INF if case == "a large number" else value)
    assert as_numpy(-(10**400)) == -INF


# --- shapes of errors ---

SCALARS = {
    "sign": (-3.7, 3.7, "the right value with the opposite sign"),
    "sign of a complex number": (-1 - 2j, 1 + 2j, "the right value with the opposite sign"),
    "inverse": (1 / 3.7, 3.7, "1 / the right value"),
    "square": (3.7**2, 3.7, "the square of the right value"),
    "logarithm": (math.log(3.7), 3.7, "the logarithm of the right value"),
    "none": (5.0, 3.7, None),
    "logarithm of a negative number": (math.log(3.7), -3.7, None),
    "zero": (0.0, 3.7, None),
    "for zero": (3.7, 0.0, None),
    "not finite": (INF, 3.7, None),
    "infinite, and so is the square": (INF, 1e200, None),
    "no logarithm": (2.5, -0.5, None),
    "for infinity": (3.7, INF, None),
    "nan": (NAN, 3.7, None),
    "truth": (True, -1, None),
    "for truth": (-1, True, None),
    "a number too large for a float": (-(10**400), 10**400, None),
    "whole": (-3, 3, "the right value with the opposite sign"),
    "the square of a complex number": ((1 + 2j) ** 2, 1 + 2j, "the square of the right value"),
    "another complex number": (3 + 1j, 1 + 2j, None),
}


@pytest.mark.parametrize("case", SCALARS)
def test_numbers(case):
    got, expected, words = SCALARS[case]
    assert looks(got, expected) == words


UPPER = np.triu(np.ones((5, 5), bool), 1)
ROWS, COLUMNS = np.arange(5)[:, None], np.arange(5)[None]
BATCH = np.stack([S, S + 30])  # (2, 5, 5)
WAVE = np.sin(np.arange(60.0)).reshape(3, 4, 5) + 2  # no two elements alike


def where(mask, x=S):
    """An array that is wrong where a mask says, by something else everywhere."""
    return np.where(mask, x + 1 + np.cos(x), x)


ARRAYS = {
    # not finite
    "nan in rows": (changed(X, 1, to=NAN), X, "NaN in 1 whole rows of 3; the rest is right"),
    "infinite rows": (changed(X, 1, to=INF), X, "infinite or NaN in 1 whole rows of 3; the rest is right"),
    "rows, and the rest is wrong": (changed(X, 1, to=NAN) * [[1], [1], [3]], X, "NaN in 1 whole rows of 3; other elements are wrong too"),
    "nan here and there": (changed(X, (0, 1), (2, 3), to=NAN), X, "NaN in 2 of 12 elements, first at [0, 1]; the rest is right"),
    "a row and one more": (changed(changed(X, 1, to=NAN), (2, 3), to=NAN), X, "NaN in 5 of 12 elements, first at [1, 0]; the rest is right"),
    "nan everywhere": (X * NAN, X, "NaN in 12 of 12 elements, first at [0, 0]"),
    "nan and infinity": (changed(changed(X, (0, 0), to=NAN), (1, 1), to=-INF), X, "infinite or NaN in 2 of 12 elements, first at [0, 0]; the rest is right"),
    "nan where there is nan": (changed(X, (0, 0), (1, 1), to=NAN), changed(X, (0, 0), to=NAN), "NaN in 1 of 12 elements, first at [1, 1]; the rest is right"),
    # all of it
    "zeros": (X * 0, X, "all zeros"),
    "sign": (-X, X, "the right values with the opposite sign"),
    "a factor of a size": (X * 3, X, "the right values times a constant factor of 3, where 3 is the size of an axis"),
    "one through a size": (X / 3, X, "the right values times a constant factor of 0.3333 = 1/3, where 3 is the size of an axis"),
    "the root of a size": (X * 3**0.5, X, "the right values times a constant factor of 1.732 = sqrt(3), where 3 is the size of an axis"),
    "one through the root": (X / 4**0.5, X, "the right values times a constant factor of 0.5 = 1/sqrt(4), where 4 is the size of an axis"),
    "a factor": (X * 0.7, X, "the right values times a constant factor of 0.7"),
    "a factor, where one is nothing": (changed(X, (0, 0), to=0) * 0.7, changed(X, (0, 0), to=0), "the right values times a constant factor of 0.7"),
    "nearly one": (X * 1.002, X, "the right values times a constant factor of 1.002"),
    "a negative factor": (X * -2.5, X, "the right values times a constant factor of -2.5"),
    "an offset": (X + 2.5, X, "the right values plus a constant of 2.5"),
    "a negative offset": (X - 2.5, X, "the right values plus a constant of -2.5"),
    "a factor of sizes": (np.ones((2, 4)) * 2 * np.arange(1, 5), np.ones((2, 4)) * np.arange(1, 5), "the right values times a constant factor of 2 = sqrt(4), where 2 and 4 are sizes of axes"),
    "no factor for a size of one": (X[:1] * 1.5, X[:1], "the right values times a constant factor of 1.5"),
    # moved
    "shifted": (np.roll(WAVE, 1, 1), WAVE, "the right values shifted by 1 along axis 1"),
    "shifted back": (np.roll(WAVE, -1, 2), WAVE, "the right values shifted by -1 along axis 2"),
    "shifted along the first axis": (np.roll(WAVE, 1, 0), WAVE, "the right values shifted by 1 along axis 0"),
    "reversed": (np.flip(WAVE, 2), WAVE, "the right values in reverse order along axis 2"),
    "two reversed": (np.flip(WAVE[:2], 0), WAVE[:2], "the right values in reverse order along axis 0"),
    "transposed": (S.T, S, "the right values with axes in the order (1, 0): a transpose is missing, extra or a reshape"),
    "axes of a cube": (BATCH.transpose(0, 2, 1), BATCH, "the right values with axes in the order (0, 2, 1): a transpose is missing, extra or a reshape"),
    "reshaped": (WAVE.transpose(2, 0, 1).reshape(3, 4, 5), WAVE, "the right values with axes in the order (2, 0, 1): a transpose is missing, extra or a reshape"),
    "mixed along an axis": (WAVE[:, [2, 0, 3, 1]], WAVE, "the right values in another order along axis 1"),
    "mixed along the last": (X[:, [2, 0, 3, 1]], X, "the right values in another order along axis 1"),
    "mixed": (S.ravel()[(np.arange(25) * 7) % 25].reshape(5, 5), S, "the right values in another order"),
    # wrong in one region only
    "above the diagonal": (where(UPPER), S, "wrong above the diagonal only"),
    "below": (where(~UPPER), S, "wrong on and below the diagonal only"),
    "some of it above": (where((ROWS == 1) & (COLUMNS > 2)), S, "wrong above the diagonal only"),
    "one index": (where(ROWS == 2), S, "wrong at index 2 along axis 0 (of size 5) only"),
    "one column": (where(COLUMNS == 1), S, "wrong at index 1 along axis 1 (of size 5) only"),
    "odd": (where(COLUMNS % 2 == 1), S, "wrong at odd indices along axis 1 (of size 5) only"),
    "even": (where(ROWS % 2 == 0), S, "wrong at even indices along axis 0 (of size 5) only"),
    "the end": (where(ROWS > 2), S, "wrong from index 3 to the end along axis 0 (of size 5); right before"),
    "the beginning": (where(COLUMNS < 2), S, "wrong up to index 1 along axis 1 (of size 5); right after"),
    "in a vector": (np.array([1, 2, 3, 4, 9.5, 8.25]), np.arange(6.0) + 1, "wrong from index 4 to the end along axis 0 (of size 6); right before"),
    # nothing that is known
    "three elements": (-X[0, :3], X[0, :3], None),
    "four elements": (-X[0], X[0], "the right values with the opposite sign"),
    "another shape": (-X.T, X, None),
    "something else": (np.cos(WAVE * 9), WAVE, None),
    "a gap in the middle": (where((ROWS == 1) | (ROWS == 2)), S, None),
    "two places apart": (where((ROWS == 0) | (ROWS == 3)), S, None),
}  # fmt: skip


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays(case):
    got, expected, words = ARRAYS[case]
    assert looks(got, expected) == words


@pytest.mark.parametrize("case", ["sign", "transposed", "nan in rows", "odd"])
def test_tensors_alike(case):
    got, expected, words = ARRAYS[case]
    assert looks(torch.from_numpy(got.copy()), torch.from_numpy(expected.copy())) == words


def test_two_indices_are_no_region_of_an_axis_of_two():
    got = WAVE[:2].copy()
    got[1, 3, 2] += 1
    got[1, 0, 0] += 2
    assert looks(got, WAVE[:2]) is None


def test_huge_and_tiny_values_are_tried_in_silence():
    assert looks(np.array([1e300, 2e300, 3e300, 5e300]), np.array([1e-300, 1e300, 7.0, -1e-300])) is None


# --- how close is close enough ---

# how a right value becomes a recognisable wrong one, and the words for that
WAYS = {
    "sign": (lambda x: -x, "the right value with the opposite sign"),
    "inverse": (lambda x: 1 / x, "1 / the right value"),
    "square": (lambda x: x * x, "the square of the right value"),
    "logarithm": (math.log, "the logarithm of the right value"),
}


@pytest.mark.parametrize("case", WAYS)
def test_a_number_is_recognised_within_the_tolerance(case):
    way, words = WAYS[case]
    right = way(7.3)
    assert looks(right * 1.39, 7.3, 0.4, 0.0) == words
    assert looks(right * 1.41, 7.3, 0.4, 0.0) != words  # of what it should be, not of what it is
    assert looks(right + math.copysign(0.39, right), 7.3, 0.0, 0.4) == words
    assert looks(right * 1.39, 7.3, 0.0, 0.01) != words


MOVES = {
    "sign": (lambda x: -x, "the right values with the opposite sign"),
    "factor": (lambda x: x * 2.5, "the right values times a constant factor of 2.5"),
    "offset": (lambda x: x + 7, "the right values plus a constant of 7"),
    "shift": (lambda x: np.roll(x, 1, 0), "the right values shifted by 1 along axis 0"),
    "flip": (lambda x: np.flip(x, 0), "the right values in reverse order along axis 0"),
    "transpose": (lambda x: x.T, "the right values with axes in the order (1, 0)"),
    "order along an axis": (lambda x: x[[2, 0, 4, 1, 3]], "the right values in another order along axis 0"),
    "order": (lambda x: x.ravel()[(np.arange(25) * 7) % 25].reshape(5, 5), "the right values in another order"),
}  # fmt: skip
UNEVEN = np.exp(np.sin(np.arange(25.0)) * 2).reshape(5, 5) * 10  # from 1.4 to 74


@pytest.mark.parametrize("case", MOVES)
def test_arrays_are_recognised_within_the_tolerance(case):
    move, words = MOVES[case]
    right = move(UNEVEN)
    place = np.unravel_index(int(np.argmax(np.abs(right))), right.shape)  # which no sorting moves

    def off(by):
        wrong = np.array(right)
        wrong[place] += math.copysign(by - 1, right[place]) * (abs(right[place]) - 7 * (case == "offset"))
        return wrong

    assert str(looks(off(1.0), UNEVEN, 0.15, 0.0)).startswith(words)
    assert str(looks(off(1.14), UNEVEN, 0.15, 0.0)).startswith(words)
    assert not str(looks(off(1.16), UNEVEN, 0.15, 0.0)).startswith(words)
    assert not str(looks(off(1.14), UNEVEN, 0.0, 0.15)).startswith(words)


def test_a_region_is_what_is_beyond_the_tolerance():
    small, large = S + 0.5 * (ROWS < 3), S + 0.5 * (ROWS < 3) + 3 * (ROWS >= 3)
    assert looks(large, S, 0.0, 0.5) == "wrong from index 3 to the end along axis 0 (of size 5); right before"
    assert looks(small * np.where(ROWS == 1, 1.2, 1), S, 0.09, 0.5) == "wrong at index 1 along axis 0 (of size 5) only"
    assert looks(np.where(ROWS == 1, S * 1.41, S), S, 0.4, 0.0) == "wrong at index 1 along axis 0 (of size 5) only"


def test_lists_are_compared_in_their_order():
    of = Difference.of_lists
    assert of([15.0], [10.0], 0.4, 0.0) is not None
    assert of([10.0], [15.0], 0.4, 0.0) is None
    assert of([1.0], [1.3], 0.0, 0.4) is None
    assert of(1.3, 0.1, 0.0, 2.0) is None
    assert of(1.3, 0.1, 2.0, 0.0) is not None


@pytest.mark.parametrize(
    ("x", "y", "shown"),
    [
        (1.2345678, 2.3456789, ("1.23457", "2.34568")),
        (1.234567894, 1.234567994, ("1.23456789", "1.23456799")),
        (1.2345678901234, 1.2345678902234, ("1.23456789012", "1.23456789022")),
    ],
)
def test_no_more_digits_than_that(x, y, shown):
    assert apart(x, y) == shown


def test_a_tensor_beside_a_number_is_an_array():
    for got, expected in ((torch.tensor(1.5), 2.0), (1.5, torch.tensor(2.0))):
        found = far(got, expected)
        assert [type(value) for value in (found.got, found.expected)] == [float, float]
        assert (found.got, found.expected, found.largest) == (1.5, 2.0, 0.5)


def test_a_difference_is_a_value():
    with pytest.raises(FrozenInstanceError):
        far(1.0, 2.0).count = 2


EDGES = {
    # a single row, a vector, more axes than are tried
    "a vector that is not finite": (np.array([1, NAN, 3, NAN, 5.0]), np.arange(5.0) + 1, "NaN in 2 of 5 elements, first at [1]; the rest is right"),
    "whole rows of three axes": (changed(WAVE, (1, 2), (0, 0), to=NAN), WAVE, "NaN in 2 whole rows of 12; the rest is right"),
    "a column is no row": (changed(WAVE, (1, slice(None), 2), to=NAN), WAVE, "NaN in 4 of 60 elements, first at [1, 0, 2]; the rest is right"),
    "zeros but one": (changed(X * 0, (0, 0), to=5), X, None),
    "zeros where some are right": (X * 0, changed(X, (0, 0), (1, 2), to=0.0), "all zeros"),
    "five axes are not permuted": (WAVE.reshape(3, 2, 2, 5, 1).transpose(0, 2, 1, 3, 4).copy(), WAVE.reshape(3, 2, 2, 5, 1), "the right values in another order"),
    "four are": (BATCH[:, :4, :4].reshape(2, 2, 2, 4).transpose(0, 2, 1, 3), BATCH[:, :4, :4].reshape(2, 2, 2, 4), "the right values with axes in the order (0, 2, 1, 3): a transpose is missing, extra or a reshape"),
    "no order of complex numbers": (WAVE[:, [2, 0, 3, 1]] * (1 + 2j), WAVE * (1 + 2j), None),
    # factors
    "small numbers give no factor": (np.array([1e-9, 2, 4, 6, 8.0]), np.array([7e-9, 1, 2, 3, 4.0]), None),
    "nearly no factor": (X * 1.0009, X, None),
    "nearly no offset": (X + 0.0119, X, None),
    "a small offset": (X + 0.0121, X, "the right values plus a constant of 0.0121"),
    "an offset where one is infinite": (changed(X, (0, 0), to=INF) + 2, changed(X, (0, 0), to=INF), None),
    "nearly that of a size": (X * 2 * 1.00005, X, "the right values times a constant factor of 2 = sqrt(4), where 4 is the size of an axis"),
    "a factor near that of a size": (X * 2 * 1.00015, X, "the right values times a constant factor of 2"),
    "a factor that is one's size": (X[:1] * 1.002, X[:1], "the right values times a constant factor of 1.002"),
    # regions
    "above the diagonal of each": (where(np.broadcast_to(UPPER, (2, 5, 5)), BATCH), BATCH, "wrong above the diagonal only"),
    "a small square": (np.array([[1, 5.5], [3, 4]]), np.array([[1, 2], [3, 4.0]]), None),
    "of three": (changed(S[:3, :3], (0, 1), (0, 2), (1, 2), by=2.5), S[:3, :3], "wrong above the diagonal only"),
    "an axis of three": (changed(X, (2, 1), (2, 2), by=2.5), X, "wrong at index 2 along axis 0 (of size 3) only"),
    "the last of an axis": (changed(X, (slice(None), 3), to=-7.5), X, "wrong at index 3 along axis 1 (of size 4) only"),
    "the first three": (where(ROWS < 3), S, "wrong up to index 2 along axis 0 (of size 5); right after"),
    "the last three": (where(ROWS > 1), S, "wrong from index 2 to the end along axis 0 (of size 5); right before"),
    "odd of an even size": (changed(np.arange(8.0) + 1, 1, 3, 5, 7, to=-9), np.arange(8.0) + 1, "wrong at odd indices along axis 0 (of size 8) only"),
    "even of an odd size": (changed(np.arange(7.0) + 1, 0, 2, 4, 6, to=-9), np.arange(7.0) + 1, "wrong at even indices along axis 0 (of size 7) only"),
    "even of an even size": (changed(np.arange(8.0) + 1, 0, 2, 4, 6, to=-9), np.arange(8.0) + 1, "wrong at even indices along axis 0 (of size 8) only"),
    "two rows of a column": (where(((ROWS == 0) | (ROWS == 3)) & (COLUMNS == 1)), S, "wrong at index 1 along axis 1 (of size 5) only"),
    "even but the last": (changed(np.arange(7.0) + 1, 0, 2, 4, to=-9), np.arange(7.0) + 1, None),
    "odd but the last": (changed(np.arange(8.0) + 1, 1, 3, 5, to=-9), np.arange(8.0) + 1, None),
    "not the beginning": (changed(np.arange(8.0) + 1, 0, 1, 3, to=-9), np.arange(8.0) + 1, None),
    "not the end": (changed(np.arange(8.0) + 1, 4, 6, 7, to=-9), np.arange(8.0) + 1, None),
    "all of it": (np.cos(np.arange(8.0) * 3) + 5, np.arange(8.0) + 1, None),
}  # fmt: skip


@pytest.mark.parametrize("case", EDGES)
def test_edges(case):
    got, expected, words = EDGES[case]
    said = looks(got, expected)
    assert said == words


@pytest.mark.parametrize("right", [0.5, 1.5])
def test_logarithms(right):
    assert looks(math.log(right), right) == "the logarithm of the right value"
    assert looks(NAN, right) is looks(right, NAN) is None


def test_factors_of_tiny_numbers():
    tiny = X * 1e-12
    assert looks(tiny * 0.7, tiny, RTOL, 0.0) == "the right values times a constant factor of 0.7"
    assert looks(tiny + 2e-12, tiny, RTOL, 0.0) == "the right values plus a constant of 2e-12"
