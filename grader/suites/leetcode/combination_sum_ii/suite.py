"""Hidden suite for leetcode/combination_sum_ii: against brute force over subsets, and near the size of the output."""

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
    found = module.combination_sum_ii(candidates, target)
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
        found = module.combination_sum_ii(candidates, target)
    if isinstance(found, list) and all(isinstance(combination, list | tuple) for combination in found):
        return sorted(sorted(combination) for combination in found)
    return found


def oracle(candidates, target):
    """Brute force: every subset of positions, and of equal ones one."""
    numbers = sorted(candidates)
    subsets = (s for size in range(len(numbers) + 1) for s in itertools.combinations(numbers, size))
    return sorted(map(list, {s for s in subsets if sum(s) == target}))


def partial(candidates, target):
    """The number of different multisets with a sum of at most `target` that can be taken from `candidates`."""
    ways = [1] + [0] * target
    for number, count in Counter(candidates).items():
        ways = [sum(ways[s - k * number] for k in range(min(count, s // number) + 1)) for s in range(target + 1)]
    return sum(ways)


def check(got, candidates, target):
    """Compare combinations, and say first which is repeated, wrong or missing."""
    call, expected = f"combination_sum_ii({candidates}, {target})", oracle(candidates, target)
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
    "unsorted": [([7, 2, 6, 3, 1], 9), ([9, 4, 11, 3], 12), ([2, 7, 1, 7, 2], 10)],
    "equal-used-together": [([1, 1, 6], 8), ([4, 4, 4], 12), ([2, 2, 2, 5], 9)],
    "equal-used-apart": [([1, 1, 7], 8), ([3, 5, 3, 5], 8), ([2, 2, 2], 4), ([1, 2, 2, 2, 5], 5)],
    "each-used-once": [([3], 6), ([2, 5], 9), ([1, 4], 6)],
    "none-fits": [([5, 8], 4), ([2, 4, 6], 7), ([3, 3], 10)],
    "exact": [([6], 6), ([4, 9], 9), ([8, 8], 8)],
    "all-used": [([2, 3, 4], 9), ([5, 1, 5], 11)],
    "largest-needed": [([2, 3, 10], 10), ([4, 6, 9], 15)],
    "smallest-needed": [([9, 3, 7], 12), ([1, 20, 4], 5)],
    "no-candidates": [([], 3)],
    "target-zero": [([2, 3, 3], 0), ([5], 0)],
    "all-equal": [([2] * 9, 8), ([1] * 7, 7)],
}


@pytest.mark.part("combination_sum_ii")
class TestValues:
    @pytest.mark.points(2)
    @pytest.mark.parametrize(("count", "largest"), [(4, 6), (7, 5), (9, 12), (10, 3)])
    def test_random(self, submission, random, count, largest):
        """every combination of random candidates, equal ones among them, each once"""
        problems = []
        for _ in range(5):
            candidates = [random.randint(1, largest) for _ in range(count)]
            total = sum(candidates)
            problems.append((candidates, random.randint(min(largest, total), total)))
        for problem, got in zip(problems, submission.run(listed_all, problems), strict=True):
            check(got, *problem)

    def test_example_of_the_source(self, submission):
        """the two examples of LeetCode 40"""
        problems = [([10, 1, 2, 7, 6, 1, 5], 8), ([2, 5, 2, 1, 2], 5)]
        for problem, got in zip(problems, submission.run(listed_all, problems), strict=True):
            check(got, *problem)


@pytest.mark.part("combination_sum_ii")
class TestEdgeCases:
    @pytest.mark.parametrize("case", EDGES)
    def test_edge(self, submission, case):
        """order, equal numbers, no answer, single numbers, none at all"""
        for problem, got in zip(EDGES[case], submission.run(listed_all, EDGES[case]), strict=True):
            check(got, *problem)


def problems(random):
    """Many numbers and few."""
    return [
        given([random.randrange(1, 7) for _ in range(6)], 9),
        given([random.randrange(2, 5), 5], 10),
        given([7, 2, 3], 5),
    ]


TestProperties = holds(
    case("combination_sum_ii", problems, no_state_between_calls, of=listed, expect=oracle),
    case("combination_sum_ii", problems, result_is_new),
    case(
        "combination_sum_ii",
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


@pytest.mark.part("combination_sum_ii")
class TestPerformance:
    @pytest.mark.points(2)
    def test_equal_numbers_are_explored_once(self, submission):
        """a combination is built once, not once for each choice among equal numbers"""
        check_cost(submission, [*[1] * 7, 3, *[1] * 6], 7)

    @pytest.mark.points(2)
    def test_hopeless_branches_are_cut(self, submission, random):
        """what exceeds the target is not extended"""
        check_cost(submission, random.sample(range(5, 20), 15), 20)
