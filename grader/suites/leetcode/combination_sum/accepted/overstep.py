"""The classical form: enter every child and return when the sum is passed; nothing sorted, paths by concatenation."""


class Search:
    def __init__(self, candidates, target):
        self.candidates = candidates
        self.target = target
        self.answers = []

    def visit(self, index, path, total):
        if total > self.target:
            return
        if total == self.target:
            self.answers.append(path)
            return
        for i in range(index, len(self.candidates)):
            self.visit(
                i,
                path + [self.candidates[i]],
                total + self.candidates[i],
            )


def combination_sum(candidates, target):
    search = Search(candidates, target)
    search.visit(0, [], 0)
    return search.answers
