"""No recursion: a stack of unfinished combinations as tuples, equal siblings passed over."""


def combination_sum_ii(candidates, target):
    numbers = sorted(candidates)
    stack, answers = [((), 0, target)], []
    while stack:
        chosen, start, left = stack.pop()
        if not left:
            answers.append(chosen)
            continue
        previous = None
        for i in range(start, len(numbers)):
            if numbers[i] > left:
                break
            if numbers[i] != previous:
                previous = numbers[i]
                stack.append(((*chosen, previous), i + 1, left - previous))
    return answers
