"""Two branches at each candidate, take it or leave it; unsorted, and with tuples."""


def combination_sum(candidates, target):
    def search(i, left, chosen):
        if left == 0:
            return [chosen]
        if left < 0 or i == len(candidates):
            return []
        return search(i, left - candidates[i], (*chosen, candidates[i])) + search(i + 1, left, chosen)

    return search(0, target, ())
