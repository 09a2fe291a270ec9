"""Least significant digit first in base 256, by counting."""


def maximum_gap(nums):
    if len(nums) < 2:
        return 0
    low = min(nums)
    numbers = [x - low for x in nums]
    shift, largest = 0, max(numbers)
    while largest >> shift:
        counts = [0] * 257
        for x in numbers:
            counts[(x >> shift & 255) + 1] += 1
        for digit in range(256):
            counts[digit + 1] += counts[digit]
        placed = [0] * len(numbers)
        for x in numbers:
            digit = x >> shift & 255
            placed[counts[digit]] = x
            counts[digit] += 1
        numbers, shift = placed, shift + 8
    return max(b - a for a, b in zip(numbers, numbers[1:]))
