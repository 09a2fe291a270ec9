"""Take the number here, or leave it and all its equals."""


def combination_sum_ii(candidates: list[int], target: int) -> list[list[int]]:
    numbers = sorted(candidates)
    answers = []

    def decide(i, path, total):
        if total == target:
            answers.append(path[:])
            return
        if i >= len(numbers) or total > target:
            return
        path.append(numbers[i])
        decide(i + 1, path, total + numbers[i])
        path.pop()
        j = i + 1
        while j < len(numbers) and numbers[j] == numbers[i]:
            j += 1
        decide(j, path, total)

    decide(0, [], 0)
    return answers
