"""A table of all combinations by sum, candidate by candidate."""


def combination_sum(candidates, target):
    table = [[] for _ in range(target + 1)]
    table[0].append([])
    for number in candidates:
        for total in range(number, target + 1):
            for combination in table[total - number]:
                table[total].append(combination + [number])
    return table[target]
