"""All numbers stay in their buckets, unordered; min and max of each are taken at the end, with comprehensions."""

from itertools import chain, pairwise


def maximum_gap(nums):
    if len(set(nums)) < 2:
        return 0
    low, span, n = min(nums), max(nums) - min(nums), len(nums)
    buckets = [[] for _ in range(n)]
    for x in nums:
        buckets[(x - low) * (n - 1) // span].append(x)
    ends = list(chain.from_iterable((min(b), max(b)) for b in buckets if b))
    return max(b - a for a, b in pairwise(ends))
