"""Hidden suite for leetcode/maximum_gap: against sorting, and linear by count."""

import itertools

import pytest

from grader.compare import assert_equal
from grader.cost import assert_growth
from grader.properties import case, empty_and_single, given, holds, no_state_between_calls
from grader.suite import probe


@probe
def gaps(module, cases):
    """The gap of each list of numbers."""
    return [module.maximum_gap(nums) for nums in cases]


@probe
def after_the_call(module, nums):
    """What the list of the caller holds afterwards."""
    given = list(nums)
    module.maximum_gap(given)
    return given


def oracle(nums):
    return max((b - a for a, b in itertools.pairwise(sorted(nums))), default=0)


# How many numbers, and from where. No span lies between 10^6 and 10^15: an array over the range is either small or
# refused at once.
RANDOM = {
    "few": (range(2, 8), (-9, 10)),
    "many-repeats": (range(30, 60, 7), (0, 25)),
    "spread": (range(40, 90, 11), (-50_000, 50_001)),
    "huge": (range(2, 50, 9), (-(10**18), 10**18)),
}

# What float division gets wrong, each list in one way of writing it, and beside them what wide buckets get wrong.
FLOATS = [
    [0, 99999999999999999, 199999999999999997],
    [0, 100000000000000023, 200000000000000050, 300000000000000088],
    [10**17, 2, 5 * 10**17],
    [10**17 + 3, 10**17, 10**17 + 4],
]

EDGES = {
    "empty": [[]],
    "one": [[7], [-7]],
    "two": [[1, 9], [6, -2], [8, 5, 9], [100, 0, 60]],
    "all-equal": [[8, 8], [5, 5, 5, 5], [-3, -3, -3]],
    "narrow": [[8, 8, 7], [3, 1, 2, 4, 2, 3, 1]],
    "wide-bucket": [[8, 5, 9], [100, 0, 60], [49, 0, 30, 20, 11, 40]],
    "empty-buckets": [[7, 1, 1], [40, 1, 3, 2, 43, 42, 0]],
    "gap-before-largest": [[4, 1, 3, 2, 100]],
    "gap-after-smallest": [[100, 104, 1, 103, 101, 102]],
    "evenly-spaced": [[30, 10, 0, 20, 50, 40]],
    "far-from-zero": [[10**15 + 3, 10**15, 10**15 + 9, 10**15 + 4]],
    "negative": [[-10, -3, -4, -11, -25], [-5, 12, -8, -4, 3]],
    "beyond-floats": FLOATS,
}


@pytest.mark.part("maximum_gap")
class TestValues:
    @pytest.mark.points(2)
    @pytest.mark.parametrize("case", RANDOM)
    def test_random(self, submission, random, case):
        """the largest gap of random numbers"""
        sizes, (low, high) = RANDOM[case]
        cases = [[random.randrange(low, high) for _ in range(n)] for n in sizes]
        for nums, got in zip(cases, submission.run(gaps, cases), strict=True):
            assert_equal(got, oracle(nums), what=f"maximum_gap({nums})")

    def test_clusters(self, submission, random):
        """the largest gap lies between clusters, wherever they are"""
        cases = []
        for n in (5, 12, 31):
            centres = random.sample(range(-(10**6), 10**6, 1000), 3)
            cases.append([random.choice(centres) + random.randrange(20) for _ in range(n)])
        for nums, got in zip(cases, submission.run(gaps, cases), strict=True):
            assert_equal(got, oracle(nums), what=f"maximum_gap({nums})")


@pytest.mark.part("maximum_gap")
class TestEdgeCases:
    @pytest.mark.parametrize("case", EDGES)
    def test_edge(self, submission, case):
        """few, equal, crowded, far and huge numbers"""
        for nums, got in zip(EDGES[case], submission.run(gaps, EDGES[case]), strict=True):
            assert_equal(got, oracle(nums), what=f"maximum_gap({nums})")

    def test_input_unchanged(self, submission):
        """`nums` is left as it is"""
        nums = [12, 5, 19, 7, 3]
        assert_equal(submission.run(after_the_call, nums), nums, what="`nums` after the call")


TestProperties = holds(
    case(
        "maximum_gap",
        lambda random: [given([random.randrange(99) for _ in range(n)]) for n in (9, 4, 4)],
        no_state_between_calls,
        expect=oracle,
    ),
    case(
        "maximum_gap",
        lambda random: [given([]), given([7]), given([5, 5]), given([1, 9])],
        empty_and_single,
        expect=oracle,
    ),
)
SMALL, LARGE = 24, 384
STEEPEST = 1.2 * LARGE / SMALL  # comparison sorts come near twice the ratio of the sizes


def spread(random, n):
    return [random.randrange(30_000) for _ in range(n)]


def one_bucket(random, n):
    """All numbers but one in the same bucket."""
    return [10**15, *(random.randrange(30_000) for _ in range(n - 1))]


def evenly(random, n):
    """Every number in a bucket of its own."""
    return random.sample(range(0, 100 * n, 100), n)


SHAPES = {"spread": spread, "one-bucket": one_bucket, "evenly": evenly}


@pytest.mark.part("maximum_gap")
class TestPerformance:
    @pytest.mark.points(2)
    @pytest.mark.parametrize("shape", SHAPES)
    def test_linear_time(self, submission, random, shape):
        """comparisons, reads and executed lines grow in proportion to n"""
        costs = []
        for n in (SMALL, LARGE):
            nums = SHAPES[shape](random, n)
            run = submission.measure("maximum_gap", nums, counting=True)
            assert_equal(run.value, oracle(nums), what=f"gap of {n} numbers")
            costs.append(run.cost)
        for metric in ("comparisons", "reads", "lines"):
            assert_growth(*costs, metric, at_most=STEEPEST, when=f"n grows {LARGE // SMALL} times", slack=100)

    def test_linear_memory(self, submission, random):
        """memory grows in proportion to n"""
        costs = []
        for n in (SMALL, LARGE):
            nums = spread(random, n)
            run = submission.measure("maximum_gap", nums)
            assert_equal(run.value, oracle(nums), what=f"gap of {n} numbers")
            costs.append(run.cost)
        when = f"n grows {LARGE // SMALL} times"
        assert_growth(*costs, "peak_bytes", at_most=STEEPEST, when=when, slack=1 << 15)

    def test_memory_of_the_range(self, submission, random):
        """memory does not depend on how far apart the numbers are"""
        n, costs = 200, []
        for span in (1_000, 30_000):
            nums = [0, span, *(random.randrange(span) for _ in range(n - 2))]
            run = submission.measure("maximum_gap", nums)
            assert_equal(run.value, oracle(nums), what=f"gap of {n} numbers below {span}")
            costs.append(run.cost)
        assert_growth(*costs, "peak_bytes", at_most=1.5, when="the range grows 30 times", slack=1 << 14)

    def test_many_numbers(self, submission, random):
        """30 000 numbers"""
        nums = [random.randrange(-500_000, 500_000) for _ in range(30_000)]
        assert_equal(submission.maximum_gap(nums), oracle(nums), what="gap of 30 000 numbers")
