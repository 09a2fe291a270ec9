"""No recursion: a stack of unfinished combinations."""


def combination_sum(candidates: list[int], target: int) -> list[list[int]]:
    result = []
    stack = [(0, target, [])]
    while stack:
        start, rest, combination = stack.pop()
        if rest == 0:
            result.append(combination)
            continue
        for position in range(start, len(candidates)):
            number = candidates[position]
            if number <= rest:
                stack.append((position, rest - number, combination + [number]))
    return result
