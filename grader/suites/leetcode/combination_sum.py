"""Hidden suite for leetcode/combination_sum: against brute force over multisets, and near the size of the output."""

import itertools
from collections import Counter

import pytest

from grader.compare import assert_equal, assert_that
from grader.cost import assert_cost
from grader.exercise import Equivalent, Exercise, Mistake, probe

EXERCISE = Exercise(
    title="Combination sum",
    level="warm-up",
    minutes=20,
    needs=(),
    hints=(
        "Build combinations number by number, with what is left of the target in hand. When is one finished, and when "
        "is it hopeless?",
        "`[2, 3]` and `[3, 2]` are the same. Which numbers may follow a number, if each combination is to be built in "
        "one order only?",
        "Hand down the position of the last number used: the next one comes from that position or a later one. The "
        "same position is allowed, since numbers may be used again.",
        "Keep one path that grows before the recursive call and shrinks after it, and store a copy of it when nothing "
        "is left. In sorted order, the first number that no longer fits ends the loop.",
    ),
    follow_ups=(
        (
            "What does sorting the candidates buy?",
            "The loop can stop at the first candidate that exceeds what is left, instead of looking at all that "
            "follow. Without sorting the answer is the same if the loop skips that candidate and goes on; stopping "
            "would then lose combinations. The number of nodes that are visited does not change, only the glances at "
            "each.",
        ),
        (
            "How large can the answer be, and how would you only count it?",
            "It grows exponentially with the target: for candidates 1, 2, 3, ... the answers are the partitions of "
            "the target. Counting needs no listing: ways[s] += ways[s - c], candidates in the outer loop, takes O(n * "
            "target).",
        ),
        (
            "Why must the candidates be in the outer loop when counting?",
            "Then every multiset is counted in the one order in which its candidates are gone through. With the sum "
            "in the outer loop each s is reached by any last number, which counts orders: compositions, not "
            "combinations.",
        ),
    ),
)


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
def after_the_call(module, candidates, target):
    """What the list of the caller holds afterwards."""
    given = list(candidates)
    module.combination_sum(given, target)
    return given


@probe
def more_the_second_time(module, candidates, target):
    """How many combinations more a second call lists than the first."""
    first = len(module.combination_sum(list(candidates), target))
    return len(module.combination_sum(list(candidates), target)) - first


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

    def test_input_unchanged(self, submission):
        """`candidates` is left as it is"""
        candidates = [7, 2, 6, 3]
        assert_equal(submission.run(after_the_call, candidates, 9), candidates, what="`candidates` after the call")

    def test_calls_are_independent(self, submission):
        """a second call lists what the first one did"""
        more = submission.run(more_the_second_time, [2, 3, 5], 8)
        assert_equal(more, 0, what="the number of combinations that the second of two equal calls adds")


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


CUT = "            if numbers[i] > left:\n                break  # and so are all that follow\n"
DOWN = "            extend(i, left - numbers[i])  # from i on: numbers[i] may come again, earlier ones may not\n"
DONE = "        if left == 0:\n"
STORE = "            found.append(path.copy())\n"
LOOP = "        for i in range(start, len(numbers)):\n"

MISTAKES = [
    Mistake(
        "path-not-copied",
        "the path itself is stored, and it is empty when the search ends; store a copy",
        {STORE: "            found.append(path)\n"},
    ),
    Mistake(
        "path-never-shrinks",
        "a number stays in the path after its branch has been searched; take it off again",
        {"            path.pop()\n": ""},
    ),
    Mistake(
        "each-used-once",
        "the search goes on behind the number just used; a number may be used again, so go on *at* it",
        {DOWN: "            extend(i + 1, left - numbers[i])\n"},
    ),
    Mistake(
        "every-order",
        "the search may go back to earlier candidates: each combination is listed in all its orders",
        {LOOP: "        for i in range(len(numbers)):\n"},
    ),
    Mistake(
        "orders-removed-by-set",
        "all orders are built and repeats removed with a set: exponential work; never go back to earlier candidates",
        {
            LOOP: "        for i in range(len(numbers)):\n",
            "    return found\n": "    return [list(c) for c in {tuple(sorted(c)) for c in found}]\n",
        },
    ),
    Mistake(
        "sum-not-bounded",
        "the search is ended by the length of the combination, not by its sum: most branches pass the target early",
        {CUT: "            if (len(path) + 1) * numbers[0] > target:\n                break\n"},
    ),
    Mistake(
        "break-without-sort",
        "the loop stops at the first candidate that is too large, but they are not sorted: smaller ones may follow",
        {"    numbers = sorted(candidates)\n": "    numbers = candidates\n"},
    ),
    Mistake(
        "sorted-in-place",
        "`candidates` is sorted in place; the caller's list must stay as it is",
        {"    numbers = sorted(candidates)\n": "    candidates.sort()\n    numbers = candidates\n"},
    ),
    Mistake(
        "exact-fit-refused",
        "a number that equals what is left is refused, so that no combination is ever finished; it fits",
        {"            if numbers[i] > left:\n": "            if numbers[i] >= left:\n"},
    ),
    Mistake(
        "overshoot-accepted",
        "a combination counts as finished when its sum reaches or *exceeds* the target; it must be equal",
        {DONE: "        if left <= 0:\n", CUT: ""},
    ),
    Mistake(
        "first-only",
        "the search ends with the first combination; all are wanted",
        {LOOP: LOOP + "            if found:\n                return\n"},
    ),
    Mistake(
        "return-inside-loop",
        "the function returns at the end of the loop's first round: other candidates are never tried in that place",
        {"            path.pop()\n": "            path.pop()\n            return\n"},
    ),
    Mistake(
        "smallest-skipped",
        "the search starts at the second candidate; positions count from 0",
        {"    extend(0, target)\n": "    extend(1, target)\n"},
    ),
    Mistake(
        "largest-skipped",
        "the loop ends before the last candidate",
        {LOOP: "        for i in range(start, len(numbers) - 1):\n"},
    ),
    Mistake(
        "length-limited",
        "combinations are no longer than the list of candidates; with repeated use they may be",
        {CUT: CUT.replace("numbers[i] > left", "numbers[i] > left or len(path) == len(numbers)")},
    ),
    Mistake(
        "only-twice",
        "a number is used at most twice; there is no limit",
        {CUT: CUT + "            if path[-2:] == [numbers[i], numbers[i]]:\n                continue\n"},
    ),
    Mistake(
        "one-number-alone",
        "a combination must have two numbers at least; a candidate that equals the target is a combination by itself",
        {STORE: STORE.replace("found", "len(path) != 1 and found")},
    ),
    Mistake(
        "nothing-is-no-combination",
        "the target 0 gives no combination; the empty one has that sum",
        {DONE: "        if left == 0 and path:\n"},
    ),
    Mistake(
        "results-kept-between-calls",
        "the result is kept between calls, and grows with each; make a new list in every call",
        {
            "def combination_sum(": "FOUND: list[list[int]] = []\n\n\ndef combination_sum(",
            "    found: list[list[int]] = []\n": "    found = FOUND\n",
        },
    ),
]

EQUIVALENT = [
    Equivalent(
        "the numbers that follow are too large as well: the rounds are empty", {"break  # and": "continue  # and"}
    ),
]
