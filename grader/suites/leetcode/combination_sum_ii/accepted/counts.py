"""Different numbers with their counts, and how many of each are taken."""

from collections import Counter


def combination_sum_ii(candidates, target):
    counts = list(Counter(candidates).items())

    def search(i, left):
        if left == 0:
            return [[]]
        if i == len(counts):
            return []
        number, count = counts[i]
        out = []
        for k in range(min(count, left // number) + 1):
            out += [[number] * k + rest for rest in search(i + 1, left - k * number)]
        return out

    return search(0, target)
