"""Marks for what is in use: of equal numbers, one is taken only after the one before it."""


def combination_sum_ii(candidates, target):
    nums = sorted(candidates)
    used = [False] * len(nums)
    result, path = [], []

    def backtrack(first, remaining):
        if remaining < 0:
            return
        if remaining == 0:
            result.append(path[:])
            return
        for i in range(first, len(nums)):
            if i > 0 and nums[i] == nums[i - 1] and not used[i - 1]:
                continue
            used[i] = True
            path.append(nums[i])
            backtrack(i + 1, remaining - nums[i])
            path.pop()
            used[i] = False

    backtrack(0, target)
    return result
