"""Radix sort whose base is the number of numbers; a list comprehension for each step."""


def one_pass(numbers, unit, base):
    heads = [[] for _ in range(base)]
    for x in numbers:
        heads[x // unit % base].append(x)
    return sum_of(heads)


def sum_of(lists):
    out = []
    for items in lists:
        out.extend(items)
    return out


def maximum_gap(nums):
    copied = nums[:]
    if len(copied) < 2:
        return 0
    base, least = max(len(copied), 2), min(copied)
    copied = [x - least for x in copied]
    greatest, unit = max(copied), 1
    while unit <= greatest:
        copied = one_pass(copied, unit, base)
        unit *= base
    return max(y - x for x, y in zip(copied[:-1], copied[1:]))
