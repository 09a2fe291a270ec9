"""Hidden suite for leetcode/maximum_gap: against sorting, and linear by count."""

import itertools

import pytest

from grader.compare import assert_equal
from grader.cost import assert_growth
from grader.exercise import Equivalent, Exercise, Mistake, probe

EXERCISE = Exercise(
    title="Maximum gap",
    level="core",
    minutes=25,
    needs=(),
    forbid=("sorting",),
    hints=(
        "You need the neighbours in sorted order only where the largest gap is. What is the least that the largest of "
        "n - 1 gaps can be, if you know the smallest and the largest number?",
        "Two numbers that are closer than the average gap need not be told apart. Put numbers into buckets of that "
        "width; which two numbers of a bucket can stand at the end of the largest gap?",
        "Keep the smallest and the largest number of each bucket. Walk over the buckets with the largest number seen "
        "so far, skip the empty ones, and compare with each bucket's smallest.",
        "Settle the cases without an average first: fewer than two numbers, and all numbers equal. Use integer "
        "division; rounded up, the width is never zero.",
    ),
    follow_ups=(
        (
            "Why can the largest gap never lie inside a bucket?",
            "The n - 1 gaps add up to b - a, so the largest is at least the average, (b - a) / (n - 1). Numbers of "
            "one bucket differ by less than the width, which is at most that average. For integers the width may be "
            "the average rounded up, since differences inside are then at most that width less one, which is less "
            "than the average.",
        ),
        (
            "How does a radix sort compare?",
            "Radix sort in base r takes log_r(b - a) passes of O(n + r): linear for numbers of fixed width, and it "
            "gives the whole order. Buckets take two passes whatever the width, work for real numbers too, and need "
            "O(n) memory.",
        ),
        (
            "Does this contradict the lower bound of n log n for the largest gap?",
            "No. In the algebraic decision tree model, where only arithmetic and comparisons are allowed, the largest "
            "gap needs n log n steps. The floor function, here `//`, is what leaves that model: it finds a bucket "
            "among n at once.",
        ),
    ),
)


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


LIMITS = "    low, high = min(nums), max(nums)\n"
WIDTH = "    width = -(-(high - low) // (n - 1))  # the average gap, rounded up\n"
COUNT = "    count = (high - low) // width + 1  # at most n buckets\n"
FILL = "    for x in nums:\n"
INDEX = "        i = (x - low) // width\n"
LARGEST = "        largest[i] = max(largest[i], x)\n"
WALK = "    for first, last in zip(smallest, largest, strict=True):\n"
COMPARE = "            gap = max(gap, first - previous)\n"
ADVANCE = "            previous = last\n"

MISTAKES = [
    Mistake(
        "all-equal",
        "numbers that are all equal divide by a width of zero; their gap is 0",
        {"    if low == high:\n        return 0\n": ""},
    ),
    Mistake(
        "width-zero",
        "the average gap is rounded down, which gives width 0 where there are more numbers than values; use at least 1",
        {WIDTH: "    width = (high - low) // (n - 1)\n"},
    ),
    Mistake(
        "width-too-large",
        "the bucket is two wider than the rounded average: the largest gap may then lie inside a bucket",
        {WIDTH: "    width = (high - low) // (n - 1) + 2\n"},
    ),
    Mistake(
        "half-the-buckets",
        "the range is cut into n / 2 buckets: each is wider than the average gap, and the largest may lie inside one",
        {WIDTH: "    width = -(-(high - low) // (n // 2))\n"},
    ),
    Mistake(
        "float-width",
        "the width is a quotient of floats, which round numbers beyond 2^53; divide integers with `//`",
        {WIDTH: "    width = -int(-(high - low) / (n - 1) // 1)\n"},
    ),
    Mistake(
        "float-index",
        "the bucket's number is a quotient of floats, which round numbers beyond 2^53; divide integers with `//`",
        {
            COUNT: "    count = n\n",
            INDEX: "        i = min(n - 1, int((x - low) / ((high - low) / (n - 1))))\n",
        },
    ),
    Mistake(
        "adjacent-buckets-only",
        "a bucket is compared with the one before it and only then; empty buckets in between must be skipped",
        {
            WALK: "    for i, (first, last) in enumerate(zip(smallest, largest, strict=True)):\n",
            COMPARE: "            if i > 0 and smallest[i - 1] <= largest[i - 1]:\n    " + COMPARE,
        },
    ),
    Mistake(
        "empty-buckets-counted",
        "empty buckets are not skipped, and their initial values enter the gaps",
        {"        if first <= last:\n" + COMPARE + ADVANCE: COMPARE[4:] + ADVANCE[4:]},
    ),
    Mistake(
        "gap-inside-buckets",
        "the spread inside a bucket is returned; the largest gap leads from one bucket to the next",
        {COMPARE: "            gap = max(gap, last - first)\n"},
    ),
    Mistake(
        "smallest-to-smallest",
        "gaps are taken between the smallest numbers of buckets; they start at the *largest* of the bucket before",
        {ADVANCE: "            previous = first\n"},
    ),
    Mistake(
        "largest-to-largest",
        "gaps are taken between the largest numbers of buckets; they end at the *smallest* number of the next bucket",
        {COMPARE: "            gap = max(gap, last - previous)\n"},
    ),
    Mistake(
        "previous-not-advanced",
        "every bucket is compared with the smallest number of all; compare with the last bucket that is not empty",
        {ADVANCE: ""},
    ),
    Mistake(
        "largest-left-out",
        "the last bucket is never compared: the gap before the largest number is lost",
        {"zip(smallest, largest, strict=True)": "zip(smallest[:-1], largest[:-1], strict=True)"},
    ),
    Mistake(
        "smallest-left-out",
        "the smallest number is left out, and the gap after it is lost",
        {
            "gap, previous = 0, low": "gap, previous = 0, min(x for x in nums if x > low)",
            INDEX: INDEX.replace("\n", "\n        if x == low:\n            continue\n", 1),
        },
    ),
    Mistake(
        "last-seen-is-largest",
        "a bucket's largest number is overwritten by the last one seen; take the maximum",
        {"largest[i] = max(largest[i], x)": "largest[i] = x"},
    ),
    Mistake(
        "last-seen-is-smallest",
        "a bucket's smallest number is overwritten by the last one seen; take the minimum",
        {"smallest[i] = min(smallest[i], x)": "smallest[i] = x"},
    ),
    Mistake(
        "minimum-not-subtracted",
        "the bucket is found from the number itself; it is the distance from the smallest that counts",
        {INDEX: "        i = x // width % count\n"},
    ),
    Mistake(
        "non-negative-only",
        "the range is assumed to begin at 0, so that negative numbers are mistaken; it begins at the smallest number",
        {LIMITS: "    low, high = 0, max(nums)\n    nums = [max(x, 0) for x in nums]\n"},
    ),
    Mistake(
        "list-order",
        "neighbours are taken in the order of the list; they are neighbours in sorted order",
        {"    return gap\n": "    return max(abs(a - b) for a, b in zip(nums, nums[1:]))\n"},
    ),
    Mistake(
        "empty-fails",
        "an empty list raises an error; fewer than two numbers have gap 0",
        {"    if n < 2:\n": "    if n == 1:\n"},
    ),
    Mistake(
        "one-number-returned",
        "the gap of a single number is the number itself; it is 0",
        {"    if n < 2:\n        return 0\n": "    if n < 2:\n        return sum(nums)\n"},
    ),
    Mistake(
        "two-numbers-are-few",
        "two numbers give 0; they have a gap, and only fewer than two have none",
        {"    if n < 2:\n": "    if n < 3:\n"},
    ),
    Mistake(
        "input-shifted",
        "the smallest number is subtracted from `nums` in place; the caller's list must stay as it is",
        {
            "    width = -(-": "    nums[:] = [x - low for x in nums]\n    low, high = 0, high - low\n    width = -(-",
        },
    ),
    Mistake(
        "quicksort",
        "the numbers are sorted by comparison, if by hand: n log n comparisons where 5 n are enough",
        {
            LIMITS: LIMITS + "\n"
            "    def ordered(xs):\n"
            "        if not xs:\n"
            "            return []\n"
            "        pivot = xs[len(xs) // 2]\n"
            "        equal = [x for x in xs if x == pivot]\n"
            "        return ordered([x for x in xs if x < pivot]) + equal + ordered([x for x in xs if x > pivot])\n"
            "\n"
            "    nums = ordered(nums)\n"
        },
    ),
    Mistake(
        "buckets-sorted",
        "every number of a bucket is kept, in order: a sort when most fall into one bucket; two numbers are enough",
        {
            LARGEST: LARGEST + "        bucket = kept.setdefault(i, [])\n"
            "        bucket.insert(bisect_left(bucket, x), x)\n",
            FILL: "    from bisect import bisect_left\n\n    kept: dict[int, list[int]] = {}\n" + FILL,
        },
    ),
    Mistake(
        "a-bucket-for-each-value",
        "there is a bucket for each value from smallest to largest: memory grows with the range instead of with n",
        {WIDTH: "    width = 1\n"},
    ),
    Mistake(
        "square-of-buckets",
        "there are n * n buckets; n are enough, and memory and time grow with their number",
        {WIDTH: "    width = -(-(high - low) // (n * n))\n"},
    ),
]

EQUIVALENT = [
    Equivalent(
        "one number alone has its highest equal to its lowest, which returns 0 as well",
        {"if n < 2:\n  ": "if n < 1:\n  "},
    ),
    Equivalent(
        "narrower buckets are right too, and there are at most n + 2 of them",
        {"low) // (n -": "low) // (n +", "low) // (n - 1": ("low) // (n - 0", "low) // (n - (-1)")},
    ),
    Equivalent("one more bucket stays empty", {"// width + 1": "// width + 2"}),
    Equivalent("different integers have a gap of at least 1", {"previous = 0": ("previous = 1", "previous = (-1)")}),
]
