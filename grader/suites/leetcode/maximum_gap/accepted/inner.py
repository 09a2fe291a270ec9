"""Smallest and largest are kept out of the n - 1 buckets, which are found by proportion and filled with None."""


def maximum_gap(nums):
    n = len(nums)
    if n < 2 or min(nums) == max(nums):
        return 0
    lo, hi = min(nums), max(nums)
    bucket_min = [None] * (n - 1)
    bucket_max = [None] * (n - 1)
    for i in range(n):
        if nums[i] == lo or nums[i] == hi:
            continue
        k = (nums[i] - lo) * (n - 1) // (hi - lo)
        if bucket_min[k] is None:
            bucket_min[k] = bucket_max[k] = nums[i]
        elif nums[i] < bucket_min[k]:
            bucket_min[k] = nums[i]
        elif nums[i] > bucket_max[k]:
            bucket_max[k] = nums[i]
    best = 0
    prev = lo
    for k in range(n - 1):
        if bucket_min[k] is None:
            continue
        if bucket_min[k] - prev > best:
            best = bucket_min[k] - prev
        prev = bucket_max[k]
    if hi - prev > best:
        best = hi - prev
    return best
