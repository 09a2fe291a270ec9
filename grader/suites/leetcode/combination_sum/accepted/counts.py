"""How often is each number used? Memoised on what is left, largest number first."""

from functools import lru_cache


def combination_sum(candidates, target):
    numbers = sorted(candidates, reverse=True)

    @lru_cache(maxsize=None)
    def fill(i, left):
        if left == 0:
            return ((),)
        if i == len(numbers):
            return ()
        found = []
        for times in range(left // numbers[i] + 1):
            for rest in fill(i + 1, left - times * numbers[i]):
                found.append((numbers[i],) * times + rest)
        return tuple(found)

    return [list(combination) for combination in fill(0, target)]
