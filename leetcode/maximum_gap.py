r"""# Maximum gap

Given integers in any order, find the largest difference between neighbours once they are sorted, in linear time, and
so without sorting them by comparison. This is LeetCode 164, "Maximum Gap"; the solution by pigeonholes is
T. Gonzalez's (1975; Preparata and Shamos, *Computational Geometry*, 1985, section 6.4).

**The pigeonhole argument.** Let $n$ numbers lie between $a$ and $b$, the smallest and the largest. Their $n - 1$ gaps
add up to $b - a$, so the largest is at least the average:

$$\text{gap} \;\ge\; w = \frac{b - a}{n - 1}$$

Cut $[a, b]$ into buckets of width $w$. Two numbers of one bucket differ by less than $w$, so the largest gap is never
inside a bucket: it leads from the largest number of one bucket to the smallest of the next bucket *that is not empty*.
Two numbers a bucket are all there is to remember.

Conventions:

- Fewer than two numbers have no gap: the result is 0. Equal numbers are neighbours with gap 0.
- Numbers are `int`, of either sign, up to $10^{18}$ in size. That is more than a float holds exactly, and the result
  is exact.
- Whether the width is $w$ rounded up, or rounded down but not to zero, is free.
- `nums` is left as it is.

Rules: no sorting (`sorted`, `.sort`, `heapq`, `bisect.insort`), and no comparison sort of your own. Standard library
only.

Cost: time and memory are proportional to `len(nums)`, whatever the numbers are: reads, comparisons, executed lines and
bytes grow no faster than $n$, also when nearly all numbers fall into one bucket, and memory does not depend on $b - a$.
A radix sort is linear in this sense, since its passes depend on the digits and not on $n$.

>>> maximum_gap([3, 6, 9, 1])
3
>>> maximum_gap([10])
0

The gap may span empty buckets, and numbers may be negative:

>>> maximum_gap([7, 1, 1])
6
>>> maximum_gap([-5, 12, -8, -4])
16
"""

from __future__ import annotations


def maximum_gap(nums: list[int]) -> int:
    """The largest difference between neighbours of the sorted `nums`; 0 for fewer than two numbers."""
    # YOUR CODE HERE
    raise NotImplementedError()
