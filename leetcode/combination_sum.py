r"""# Combination sum

Given distinct positive integers and a target, list every combination of them whose sum is the target, where each may
be used any number of times. This is LeetCode 39, "Combination Sum".

A combination is a multiset: `[2, 2, 3]` and `[2, 3, 2]` are the same one, and it is listed once. The search tree that
finds each once has a node for every *partial* combination, and one rule: a child never goes back to a candidate before
its parent's last. Every multiset then has exactly one path from the root, the one in the candidates' order.

Conventions:

- The result is a list; its combinations are lists or tuples. Their order is free, and so is the order inside each. That
  each appears exactly once, with every number as often as it is used, is not.
- `candidates` holds distinct integers of at least 1, in any order, perhaps none. `target` is at least 0.
- The empty combination has sum 0: it is the only answer for `target = 0`, and there is no answer where no sum fits.
- `candidates` is left as it is, and one call does not affect the next.

Rules: standard library only. Each combination is built once. Generating its orders too and removing repeats with a set
gives the right list at an exponential price, which the hidden tests measure.

Cost: let $n$ be the number of candidates and $P$ the number of partial combinations, those with sum *at most* the
target (the empty one included). $O(nP)$ executed lines: at each partial combination every candidate may be looked at
once, and nothing beyond the target is extended. Sorting the candidates first lets a loop stop at the first that no
longer fits; it is welcome but not required. The depth of the recursion, if you recurse, is at most about 100.

>>> sorted(map(sorted, combination_sum([2, 3, 6, 7], 7)))
[[2, 2, 3], [7]]
>>> sorted(map(sorted, combination_sum([5, 2, 3], 8)))
[[2, 2, 2, 2], [2, 3, 3], [3, 5]]
>>> combination_sum([2, 4], 7)
[]
"""

from __future__ import annotations


def combination_sum(candidates: list[int], target: int) -> list[list[int]]:
    """Every multiset of `candidates` with sum `target`, each once, in any order."""
    # YOUR CODE HERE
    raise NotImplementedError()
