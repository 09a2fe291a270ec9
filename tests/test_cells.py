"""What is kept of two arrays for a heat map: all of small ones, and of large ones the place that matters."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from grader import cells
from grader.cells import MOST


def test_a_small_array_is_there_whole():
    expected = torch.arange(24, dtype=torch.float64).reshape(2, 3, 4) / 3
    got = expected.clone()
    got[1, 2, 3] = -1
    found = cells.of(got, expected, (1, 2, 3))
    assert (found.shape, found.worst, found.sampled) == ([2, 3, 4], [1, 2, 3], False)
    assert (found.rows, found.columns) == (list(range(6)), list(range(4)))
    assert np.allclose(found.expected, expected.reshape(6, 4), rtol=1e-11)
    assert np.allclose(found.got, got.reshape(6, 4), rtol=1e-11)
    assert found.got[5][3] == -1


def test_a_vector_is_one_row():
    found = cells.of(torch.tensor([1, 5]), torch.tensor([1, 2]), (1,))
    assert (found.rows, found.expected, found.got) == ([0], [[1, 2]], [[1, 5]])


@pytest.mark.parametrize("place", [(0, 0), (37, 111), (299, 499)])
def test_a_large_array_is_sampled_with_its_worst_place(place):
    expected = torch.zeros(300, 500)
    got = expected.clone()
    got[place] = 7
    found = cells.of(got, expected, place)
    assert found.sampled
    for chosen, number, size in ((found.rows, place[0], 300), (found.columns, place[1], 500)):
        assert len(chosen) in (MOST - 1, MOST)
        assert chosen == sorted(set(chosen))
        assert {0, number, size - 1} <= set(chosen)
    assert found.got[found.rows.index(place[0])][found.columns.index(place[1])] == 7
    assert sum(map(sum, found.got)) == 7


def test_of_many_matrices_the_worst_one_is_there_whole():
    expected = torch.arange(5 * 4 * 20 * 3).reshape(5, 4, 20, 3)
    got = expected.clone()
    got[3, 1, 7, 2] += 1
    found = cells.of(got, expected, (3, 1, 7, 2))
    assert found.sampled
    assert found.rows == list(range((3 * 4 + 1) * 20, (3 * 4 + 2) * 20))
    assert found.got == got[3, 1].tolist()
    assert found.expected == expected[3, 1].tolist()


def test_complex_numbers_are_pairs():
    expected = torch.tensor([1 + 2j, 3 - 1j])
    found = cells.of(torch.tensor([1 + 2j, 3 + 4j]), expected, (1,))
    assert (found.shape, found.worst) == ([2, 2], [1, 1])
    assert (found.expected, found.got) == ([[1, 2], [3, -1]], [[1, 2], [3, 4]])


def test_what_json_cannot_write_is_text():
    got = torch.tensor([math.nan, math.inf, -math.inf, 1e300], dtype=torch.float64)
    found = cells.of(got, torch.zeros(4, dtype=torch.float64), (0,))
    assert found.got == [["nan", "inf", "-inf", 1e300]]
    assert [float(cell) for cell in found.got[0]][1:] == got[1:].tolist()
    json.dumps(found.got, allow_nan=False)


def test_a_difference_as_small_as_any_tolerance_is_to_be_seen():
    expected = torch.tensor([1 / 3, 1.0], dtype=torch.float64)
    found = cells.of(expected * (1 + 2e-9), expected, (0,))
    assert found.got[0][0] != found.expected[0][0]


@pytest.mark.parametrize("pair", [(1.0, 2.0), (torch.tensor(1.0), torch.tensor(2.0)), (torch.ones(1), torch.zeros(1))])
def test_a_single_number_has_no_heat_map(pair):
    assert cells.of(*pair, ()) is None


def test_numpy_arrays_and_truth_values():
    found = cells.of(np.array([[True, False]]), np.array([[True, True]]), (0, 1))
    assert (found.expected, found.got) == ([[1, 1]], [[1, 0]])
