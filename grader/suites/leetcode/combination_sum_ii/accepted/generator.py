"""Generators that delegate, turned into a list at the end; a set of numbers tried for each place."""


def combination_sum_ii(candidates, target):
    ordered = tuple(sorted(candidates))

    def walk(start, left, path):
        if left == 0:
            yield list(path)
            return
        tried = set()
        for i in range(start, len(ordered)):
            if ordered[i] in tried or ordered[i] > left:
                continue
            tried.add(ordered[i])
            yield from walk(i + 1, left - ordered[i], path + [ordered[i]])

    return list(walk(0, target, []))
