"""A generator for each suffix of the candidates, turned into a list at the end."""


def combinations(candidates, target):
    if target == 0:
        yield []
        return
    for i, number in enumerate(candidates):
        if number <= target:
            for rest in combinations(candidates[i:], target - number):
                yield [number, *rest]


def combination_sum(candidates, target):
    return list(combinations(candidates, target))
