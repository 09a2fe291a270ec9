"""A table of all combinations by sum, one different number at a time."""

from itertools import groupby


def combination_sum_ii(candidates, target):
    table = {0: [[]]}
    for number, run in groupby(sorted(candidates)):
        count = len(list(run))
        grown = {}
        for total, combinations in table.items():
            for times in range(count + 1):
                if total + times * number > target:
                    break
                grown.setdefault(total + times * number, []).extend(c + [number] * times for c in combinations)
        table = grown
    return table.get(target, [])
