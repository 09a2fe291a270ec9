"""Hidden suite for leetcode/combination_sum: against brute force over multisets, and near the size of the output."""

import itertools
from collections import Counter

import pytest

from grader.compare import assert_equal, assert_that
from grader.cost import assert_cost
from grader.properties import case, empty_and_single, given, holds, no_state_between_calls, result_is_new
from grader.suite import probe


@probe
def listed(module, candidates, target):
    """The combinations in one order, so that answers that differ in order alone are equal."""
    found = module.combination_sum(candidates, target)
    if isinstance(found, list) and all(isinstance(combination, list | tuple) for combination in found):
        return sorted(sorted(combination) for combination in found)
    return found


@probe
def listed_all(module, problems):
    """The combinations of each problem, in one order."""
    return [listed(module, candidates, target) for candidates, target in problems]


@probe
def metered(module, meter, candidates, target):
    """As `listed`, without the cost of putting in order."""
    with meter:
        found = module.combination_sum(candidates, target)
    if isinstance(found, list) and all(isinstance(combination, list | tuple) for combination in found):
        return sorted(sorted(combination) for combination in found)
    return found


def oracle(candidates, target):
    """Brute force: every multiset of every size that can fit."""
    sizes = range(target // min(candidates, default=target + 1) + 1)
    multisets = (m for size in sizes for m in itertools.combinations_with_replacement(sorted(candidates), size))
    return sorted(list(m) for m in multisets if sum(m) == target)


def partial(candidates, target):
    """The number of multisets with a sum of at most `target`."""
    ways = [1] + [0] * target
    for number in candidates:
        for total in range(number, target + 1):
            ways[total] += ways[total - number]
    return sum(ways)


def check(got, candidates, target):
    """Compare combinations, and say first which is repeated, wrong or missing."""
    call, expected = f"combination_sum({candidates}, {target})", oracle(candidates, target)
    if isinstance(got, list):
        counts, right = Counter(map(repr, got)), list(map(repr, expected))
        repeated = [f"{c}, {k} times" for c, k in counts.items() if k > 1]
        assert_that(not repeated, f"{call} lists no combination twice", got="; ".join(repeated[:5]))
        wrong = [c for c in counts if c not in right]
        assert_that(not wrong, f"{call} lists only what sums to {target}", got="; ".join(wrong[:5]))
        missing = [c for c in right if c not in counts]
        assert_that(not missing, f"{call} lists every combination", got="missing " + "; ".join(missing[:5]))
    assert_equal(got, expected, what=call)


EDGES = {
    "unsorted": [([7, 2, 6, 3], 7), ([5, 3, 2], 8), ([9, 4, 11, 3], 12)],
    "none-fits": [([5, 8], 4), ([2, 4], 7), ([3], 10), ([6, 10, 15], 29)],
    "exact": [([6], 6), ([4, 9], 9), ([3, 8, 5], 8)],
    "one-number": [([3], 12), ([2], 6), ([7], 6)],
    "largest-needed": [([2, 3, 10], 10), ([4, 6, 9], 19)],
    "smallest-needed": [([2, 7, 11], 20), ([9, 3], 15)],
    "ones": [([1, 2], 4), ([3, 1], 5)],
    "no-candidates": [([], 3)],
    "target-zero": [([2, 3], 0), ([5], 0)],
    "long": [([1], 100), ([50, 1], 100)],
}


@pytest.mark.part("combination_sum")
class TestValues:
    @pytest.mark.points(2)
    @pytest.mark.parametrize("count", [2, 3, 5, 7])
    def test_random(self, submission, random, count):
        """every combination of random candidates, each once"""
        problems = [(random.sample(range(2, 14), count), random.randrange(9, 19)) for _ in range(5)]
        for problem, got in zip(problems, submission.run(listed_all, problems), strict=True):
            check(got, *problem)

    def test_example_of_the_source(self, submission):
        """the three examples of LeetCode 39"""
        problems = [([2, 3, 6, 7], 7), ([2, 3, 5], 8), ([2], 1)]
        for problem, got in zip(problems, submission.run(listed_all, problems), strict=True):
            check(got, *problem)


@pytest.mark.part("combination_sum")
class TestEdgeCases:
    @pytest.mark.parametrize("case", EDGES)
    def test_edge(self, submission, case):
        """order, no answer, single numbers, none at all, long combinations"""
        for problem, got in zip(EDGES[case], submission.run(listed_all, EDGES[case]), strict=True):
            check(got, *problem)


def problems(random):
    """Many numbers and few."""
    return [given(random.sample(range(2, 9), 4), 14), given([random.randrange(2, 5), 5], 10), given([7, 2, 3], 5)]


TestProperties = holds(
    case("combination_sum", problems, no_state_between_calls, of=listed, expect=oracle),
    case("combination_sum", problems, result_is_new),
    case(
        "combination_sum",
        lambda random: [given([], 0), given([], 3), given([5], 5), given([4], 0), given([4], 3)],
        empty_and_single,
        of=listed,
        expect=oracle,
    ),
)
LINES = 15  # for a candidate at a partial combination; plain answers take 3 to 8


def check_cost(submission, candidates, target):
    run = submission.measure(metered, candidates, target)
    check(run.value, candidates, target)
    most = partial(candidates, target)
    why = f"{LINES} lines a candidate at a partial combination, for {len(candidates)} + 1 times {most} + 1 of them"
    assert_cost(run.cost, "lines", at_most=LINES * (len(candidates) + 1) * (most + 1), why=why)


@pytest.mark.part("combination_sum")
class TestPerformance:
    @pytest.mark.points(2)
    def test_orders_are_not_explored(self, submission, random):
        """a combination is built in one order, not in all of them"""
        check_cost(submission, random.sample([1, 2, 3], 3), 14)

    @pytest.mark.points(2)
    def test_hopeless_branches_are_cut(self, submission, random):
        """what exceeds the target is not extended"""
        check_cost(submission, random.sample([2, *range(10, 17)], 8), 18)
