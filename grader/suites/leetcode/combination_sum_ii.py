"""Hidden suite for leetcode/combination_sum_ii: against brute force over subsets, and near the size of the output."""

import itertools
from collections import Counter

import pytest

from grader.compare import assert_equal, assert_that
from grader.cost import assert_cost
from grader.exercise import Equivalent, Exercise, Mistake, probe

EXERCISE = Exercise(
    title="Combination sum II",
    level="core",
    minutes=25,
    needs=(),
    after=("combination_sum",),
    hints=(
        "Start from the search for combinations where each candidate may be used again. Which one index changes when "
        "each may be used once?",
        "With that alone `[1, 1, 6]` and target 7 list `[1, 6]` twice. Sort the candidates, so that equal ones stand "
        "together, and draw the search tree: which two nodes start the same combinations?",
        "They are siblings: two rounds of the same loop that put the same number into the same place. A child that "
        "takes a number equal to its parent's is another matter, since it uses both.",
        "So in a loop that runs from `start`, pass over position i when it is behind `start` and holds the same "
        "number as the position before it. Pass over it, and go on with the loop.",
    ),
    follow_ups=(
        (
            "Why compare i with `start`, and not with 0?",
            "At i = start the number before it was taken by the parent, not by a sibling: taking its equal again is "
            "how a combination comes to hold a number twice. Compared with 0, no combination could use two equal "
            "numbers.",
        ),
        (
            "How bad is it to remove repeats with a set afterwards?",
            "With m equal numbers and k of them in each combination, every combination is built C(m, k) times: 20 "
            "ones and target 10 build the one answer 184 756 times. Passing over siblings builds each once.",
        ),
        (
            "What would you do with a candidate that is given a million times?",
            "Search over different values with their counts: at each value branch on how many are taken, from 0 to "
            "the smaller of its count and left // value. Cost then depends on the values that differ, not on how many "
            "are given.",
        ),
    ),
)


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
def after_the_call(module, candidates, target):
    """What the list of the caller holds afterwards."""
    given = list(candidates)
    module.combination_sum_ii(given, target)
    return given


@probe
def more_the_second_time(module, candidates, target):
    """How many combinations more a second call lists than the first."""
    first = len(module.combination_sum_ii(list(candidates), target))
    return len(module.combination_sum_ii(list(candidates), target)) - first


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

    def test_input_unchanged(self, submission):
        """`candidates` is left as it is"""
        candidates = [7, 2, 6, 2]
        assert_equal(submission.run(after_the_call, candidates, 9), candidates, what="`candidates` after the call")

    def test_calls_are_independent(self, submission):
        """a second call lists what the first one did"""
        more = submission.run(more_the_second_time, [2, 3, 5, 3], 8)
        assert_equal(more, 0, what="the number of combinations that the second of two equal calls adds")


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


CUT = "            if numbers[i] > left:\n                break  # and so are all that follow\n"
SIBLING = "            if i > start and numbers[i] == numbers[i - 1]:\n"
SKIP = SIBLING + "                continue  # a sibling has put this number here already\n"
PUSH = "            path.append(numbers[i])\n"
DOWN = "            extend(i + 1, left - numbers[i])\n"
DONE = "        if left == 0:\n"
STORE = "            found.append(path.copy())\n"
LOOP = "        for i in range(start, len(numbers)):\n"
RETURN = "    return found\n"

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
        "candidates-reused",
        "the search goes on *at* the number just used; each is used once, so go on behind it",
        {DOWN: "            extend(i, left - numbers[i])\n"},
    ),
    Mistake(
        "start-advanced-by-one",
        "the search goes on at `start + 1`, whatever was used: numbers behind it come again; go on behind the one "
        "just used",
        {DOWN: "            extend(start + 1, left - numbers[i])\n"},
    ),
    Mistake(
        "next-skipped",
        "the search goes on two places behind the number just used, and misses its neighbour",
        {DOWN: "            extend(i + 2, left - numbers[i])\n"},
    ),
    Mistake(
        "repeats-listed",
        "a combination is listed once for each choice among equal numbers; pass over equal siblings",
        {SKIP: ""},
    ),
    Mistake(
        "repeats-removed-by-set",
        "repeats are built and removed with a set: exponential work; pass over equal siblings instead",
        {SKIP: "", RETURN: "    return [list(c) for c in set(map(tuple, found))]\n"},
    ),
    Mistake(
        "repeats-removed-before-sorting",
        "repeats are removed by a set of combinations that are not in order: the same numbers in another order remain",
        {
            "    numbers = sorted(candidates)\n": "    numbers = candidates\n",
            CUT: CUT.replace("break", "continue"),
            SKIP: "",
            RETURN: "    return [list(c) for c in dict.fromkeys(map(tuple, found))]\n",
        },
    ),
    Mistake(
        "equal-never-together",
        "a number is passed over whenever it equals the one before, also when that one was just used: compare within "
        "a loop",
        {SIBLING: "            if i > 0 and numbers[i] == numbers[i - 1]:\n"},
    ),
    Mistake(
        "compared-with-first",
        "a number is compared with the first of the loop only; compare it with the one before it",
        {SIBLING: "            if i > start and numbers[i] == numbers[start]:\n"},
    ),
    Mistake(
        "loop-ended-at-repeat",
        "an equal number ends the loop, and larger ones are never tried; pass over it and go on",
        {SKIP: SKIP.replace("continue", "break")},
    ),
    Mistake(
        "previous-shared-by-levels",
        "one memory of the number tried last serves all levels of the search; each loop needs its own",
        {
            "    path: list[int] = []\n": "    path: list[int] = []\n    last = [0]\n",
            SIBLING: "            if numbers[i] == last[0]:\n",
            PUSH: "            last[0] = numbers[i]\n" + PUSH,
        },
    ),
    Mistake(
        "duplicates-not-adjacent",
        "equal numbers are looked for next to each other, but the candidates are not sorted",
        {"    numbers = sorted(candidates)\n": "    numbers = candidates\n", CUT: CUT.replace("break", "continue")},
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
        "sum-not-bounded",
        "branches go on when their sum has passed the target: all subsets are built; stop at what no longer fits",
        {CUT: ""},
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
            "def combination_sum_ii(": "FOUND: list[list[int]] = []\n\n\ndef combination_sum_ii(",
            "    found: list[list[int]] = []\n": "    found = FOUND\n",
        },
    ),
]

EQUIVALENT = [
    Equivalent(
        "the numbers that follow are too large as well: the rounds are empty", {"break  # and": "continue  # and"}
    ),
]
