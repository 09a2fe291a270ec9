"""Buckets in a dict, of the average width rounded down but not to zero; objects with slots."""


class Bucket:
    __slots__ = ("high", "low")

    def __init__(self, value):
        self.low = self.high = value

    def add(self, value):
        if value < self.low:
            self.low = value
        if value > self.high:
            self.high = value


def maximum_gap(nums: list[int]) -> int:
    if len(nums) <= 1:
        return 0
    smallest = largest = nums[0]
    for value in nums:
        smallest = min(smallest, value)
        largest = max(largest, value)
    width = max(1, (largest - smallest) // (len(nums) - 1))
    buckets = {}
    for value in nums:
        key = (value - smallest) // width
        if key in buckets:
            buckets[key].add(value)
        else:
            buckets[key] = Bucket(value)
    answer, last = 0, None
    for key in range((largest - smallest) // width + 1):
        bucket = buckets.get(key)
        if bucket is not None:
            if last is not None:
                answer = max(answer, bucket.low - last.high)
            last = bucket
    return answer
