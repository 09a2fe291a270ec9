"""defaultdicts of Counters, recursion from the longest context down, totals in a second Counter."""

from collections import Counter, defaultdict
from math import exp, inf, log

START, END, UNKNOWN = "<s>", "</s>", "<unk>"


def build_vocabulary(sentences, min_count=1):
    frequency = Counter()
    for sentence in sentences:
        frequency.update(sentence)
    vocabulary = {END, UNKNOWN}
    vocabulary.update(w for w in frequency if frequency[w] >= min_count)
    return vocabulary


def replace_unknown(tokens, vocabulary):
    known = vocabulary | {START} if len(vocabulary) < len(tokens) else vocabulary
    return [t if t in known or t == START else UNKNOWN for t in tokens]


def pad(sentence, n):
    if n <= 0:
        raise ValueError(n)
    padded = ["<s>"] * (n - 1)
    padded.extend(sentence)
    padded.append("</s>")
    return padded


def count_ngrams(sentences, n):
    counts = defaultdict(Counter)
    for sentence in sentences:
        padded = pad(sentence, n)
        for size in range(1, n + 1):
            for end in range(n, len(padded) + 1):
                *context, word = padded[end - size : end]
                counts[tuple(context)][word] += 1
    return counts


class NGramModel:
    def __init__(self, counts, vocabulary, n):
        self.vocabulary, self.n = set(vocabulary), n
        self.set_counts(counts)

    def set_counts(self, counts):
        self.gram, self.sum, self.kinds = Counter(), Counter(), Counter()
        for context, followers in counts.items():
            for word, count in followers.items():
                self.gram[context, word] = count
                self.sum[context] += count
                self.kinds[context] += 1

    def total(self, context):
        return self.sum[tuple(context)]

    def probability(self, word, context):
        context = list(context)
        while len(context) > self.n - 1:
            context = context[len(context) - self.n + 1 :]
        if word not in self.vocabulary:
            word = UNKNOWN
        return self.estimate(word, tuple(replace_unknown(context, self.vocabulary)))


class MLE(NGramModel):
    def estimate(self, word, context):
        return self.gram[context, word] / (self.sum[context] or 1)


class AddK(NGramModel):
    def __init__(self, counts, vocabulary, n, k=1.0):
        super().__init__(counts, vocabulary, n)
        if k <= 0:
            raise ValueError(f"k = {k}")
        self.k = k
        self.mass = k * len(self.vocabulary)

    def estimate(self, word, context):
        return (self.k + self.gram[context, word]) / (self.mass + self.sum[context])


class JelinekMercer(NGramModel):
    def __init__(self, counts, vocabulary, n, weights):
        super().__init__(counts, vocabulary, n)
        if len(weights) != n:
            raise ValueError("wrong number of weights")
        if min(weights) < 0 or max(weights) > 1:
            raise ValueError("not a weight")
        self.weights = weights

    def estimate(self, word, context):
        lower = self.estimate(word, context[1:]) if context else 1.0 / len(self.vocabulary)
        if context not in self.sum:
            return lower
        weight = self.weights[len(context)]
        return lower + weight * (self.gram[context, word] / self.sum[context] - lower)


class StupidBackoff(NGramModel):
    def __init__(self, counts, vocabulary, n, alpha=0.4):
        super().__init__(counts, vocabulary, n)
        self.alpha = alpha

    def estimate(self, word, context):
        if (context, word) in self.gram:
            return self.gram[context, word] / self.sum[context]
        if not context:
            return 0.0
        return self.alpha * self.estimate(word, context[1:])


class KneserNey(NGramModel):
    def __init__(self, counts, vocabulary, n, discount=0.75):
        if discount < 0 or discount > 1:
            raise ValueError(f"discount = {discount}")
        self.discount = discount
        super().__init__(counts, vocabulary, n)

    def set_counts(self, counts):
        new = defaultdict(Counter)
        for context, followers in counts.items():
            if context:
                new[context[1:]].update(followers.keys())
        top = max((len(context) for context in counts), default=0)
        for context, followers in counts.items():
            if len(context) == top:
                new[context] = Counter(followers)
        super().set_counts(new)

    def estimate(self, word, context):
        lower = self.estimate(word, context[1:]) if context else 1.0 / len(self.vocabulary)
        total = self.sum[context]
        if not total:
            return lower
        return (
            max(0.0, self.gram[context, word] - self.discount) + self.discount * self.kinds[context] * lower
        ) / total


def log_probabilities(model, sentence):
    history, result = [START] * (model.n - 1), []
    for word in [*sentence, END]:
        p = model.probability(word, history)
        result.append(log(p) if p else -inf)
        history = (history + [word])[1:] if history else history
    return result


def perplexity(model, sentences):
    total = number = 0
    for sentence in sentences:
        logs = log_probabilities(model, sentence)
        total += sum(logs)
        number += len(logs)
    if number == 0:
        raise ValueError("nothing to score")
    return exp(-total / number)


def sample(model, uniforms):
    out = []
    order = sorted(model.vocabulary)
    for u in uniforms:
        context = ([START] * model.n + out)[-model.n :][1:]
        scores = [model.probability(w, context) for w in order]
        if not any(scores):
            raise ValueError("dead end")
        target = u * sum(scores)
        running = 0.0
        for w, score in zip(order, scores):
            running += score
            if running > target:
                break
        if w == END:
            return out
        out.append(w)
    return out


def is_plausible(model, sentence, threshold):
    logs = log_probabilities(model, sentence)
    return not sum(logs) / len(logs) < threshold
