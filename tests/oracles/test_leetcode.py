"""The puzzles' solutions against brute force."""

import importlib.util
from itertools import combinations, combinations_with_replacement, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FOLDER = Path(__file__).parents[2] / "solutions" / "leetcode"


def load(slug):
    spec = importlib.util.spec_from_file_location(f"solution_{slug}", FOLDER / f"{slug}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, slug)


maximum_gap = load("maximum_gap")
combination_sum = load("combination_sum")
combination_sum_ii = load("combination_sum_ii")

huge = st.integers(-(10**18), 10**18)
crowded = st.integers(-12, 12)
distinct = st.lists(st.integers(2, 12), unique=True, max_size=6)
repeated = st.lists(st.integers(1, 6), max_size=10)


def in_order(found):
    return sorted(sorted(combination) for combination in found)


@settings(deadline=None)
@given(st.lists(huge, max_size=30) | st.lists(crowded, max_size=30))
def test_maximum_gap_is_the_largest_difference_in_sorted_order(nums):
    given_nums = list(nums)
    assert maximum_gap(nums) == max((b - a for a, b in pairwise(sorted(nums))), default=0)
    assert nums == given_nums


@settings(deadline=None)
@given(st.integers(-(10**18), 10**18), st.integers(0, 10**17), st.lists(st.integers(-40, 40), min_size=2, max_size=8))
def test_maximum_gap_is_exact_for_nearly_even_spacing(start, step, jitter):
    nums = [start + i * step + off for i, off in enumerate(jitter)]
    assert maximum_gap(nums) == max(b - a for a, b in pairwise(sorted(nums)))


@settings(deadline=None)
@given(distinct, st.integers(0, 20))
def test_combination_sum_lists_every_multiset_once(candidates, target):
    kept = list(candidates)
    sizes = range(target // 2 + 1)
    multisets = (m for size in sizes for m in combinations_with_replacement(sorted(candidates), size))
    assert in_order(combination_sum(candidates, target)) == sorted(list(m) for m in multisets if sum(m) == target)
    assert candidates == kept


@settings(deadline=None)
@given(repeated, st.integers(0, 25))
def test_combination_sum_ii_lists_every_sub_multiset_once(candidates, target):
    kept = list(candidates)
    subsets = {s for size in range(len(candidates) + 1) for s in combinations(sorted(candidates), size)}
    assert in_order(combination_sum_ii(candidates, target)) == sorted(list(s) for s in subsets if sum(s) == target)
    assert candidates == kept


@pytest.mark.parametrize("n", [2, 3, 10, 1000])
def test_maximum_gap_of_evenly_spaced_numbers(n):
    assert maximum_gap([7 * i - 30 for i in reversed(range(n))]) == 7


def test_combination_sum_counts_partitions():
    # the number of partitions of 30, OEIS A000041
    assert len(combination_sum(list(range(1, 31)), 30)) == 5604


def test_combination_sum_ii_counts_partitions_into_distinct_parts():
    # the number of partitions of 40 into distinct parts, OEIS A000009
    assert len(combination_sum_ii(list(range(1, 41)), 40)) == 1113
