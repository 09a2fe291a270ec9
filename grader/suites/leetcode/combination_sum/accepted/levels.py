"""Breadth first: all partial combinations of one length, then those of the next."""

from collections import deque


def combination_sum(candidates, target):
    numbers = sorted(candidates)
    done, queue = [], deque([([], 0, 0)])
    while queue:
        path, total, start = queue.popleft()
        if total == target:
            done.append(path)
            continue
        for i, x in enumerate(numbers[start:], start):
            if total + x > target:
                break
            queue.append((path + [x], total + x, i))
    return done
