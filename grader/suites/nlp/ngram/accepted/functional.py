"""Functions and comprehensions; the models are tables of closures, normalisers are remembered on first use."""

import itertools
import math
from collections import Counter
from functools import lru_cache, reduce


def build_vocabulary(sentences, min_count=1):
    frequency = Counter(itertools.chain.from_iterable(sentences))
    return {"</s>", "<unk>", *(word for word, count in frequency.items() if count >= min_count)}


def replace_unknown(tokens, vocabulary):
    return list(map(lambda token: token if token in vocabulary or token == "<s>" else "<unk>", tokens))


def pad(sentence, n):
    if n < 1:
        raise ValueError(f"there are no {n}-grams")
    return [*itertools.repeat("<s>", n - 1), *sentence, "</s>"]


def count_ngrams(sentences, n):
    def windows(line):
        return zip(*(line[shift:] for shift in range(n)))

    full = Counter(gram for sentence in sentences for gram in windows(pad(sentence, n)))
    table = {}
    for gram, count in full.items():
        for start in range(n):
            followers = table.setdefault(gram[start:-1], {})
            followers[gram[-1]] = followers.get(gram[-1], 0) + count
    return table


class NGramModel:
    def __init__(self, counts, vocabulary, n):
        self.vocabulary, self.n = vocabulary, n
        self.followers = lambda h: counts.get(h, {})
        self.total = lru_cache(maxsize=None)(lambda h: sum(self.followers(h).values()))

    def probability(self, word, context):
        recent = tuple(context)[::-1][: self.n - 1][::-1]
        (word,) = replace_unknown([word], self.vocabulary)
        return self.estimate(word, tuple(replace_unknown(recent, self.vocabulary)))

    def ratio(self, word, h):
        return self.followers(h).get(word, 0) / self.total(h) if self.total(h) else 0.0

    def suffixes(self, context):
        """From the empty context to the whole one."""
        return [context[start:] for start in reversed(range(len(context) + 1))]


class MLE(NGramModel):
    estimate = NGramModel.ratio


class AddK(NGramModel):
    def __init__(self, counts, vocabulary, n, k=1.0):
        if k <= 0:
            raise ValueError("k <= 0")
        super().__init__(counts, vocabulary, n)
        size = len(vocabulary)
        self.estimate = lambda w, h: (self.followers(h).get(w, 0) + k) / (self.total(h) + k * size)


class JelinekMercer(NGramModel):
    def __init__(self, counts, vocabulary, n, weights):
        if len(weights) != n or not all(0 <= weight <= 1 for weight in weights):
            raise ValueError("bad weights")
        super().__init__(counts, vocabulary, n)

        def mix(word):
            return lambda p, h: (
                weights[len(h)] * self.ratio(word, h) + (1 - weights[len(h)]) * p if self.total(h) else p
            )

        self.estimate = lambda w, h: reduce(mix(w), self.suffixes(h), 1 / len(vocabulary))


class StupidBackoff(NGramModel):
    def __init__(self, counts, vocabulary, n, alpha=0.4):
        super().__init__(counts, vocabulary, n)
        self.estimate = lambda w, h: next(
            (
                alpha**step * ratio
                for step, ratio in enumerate(self.ratio(w, g) for g in self.suffixes(h)[::-1])
                if ratio
            ),
            0.0,
        )


class KneserNey(NGramModel):
    def __init__(self, counts, vocabulary, n, discount=0.75):
        if not 0 <= discount <= 1:
            raise ValueError("bad discount")
        longer = {(h[1:], w, h[0]) for h, followers in counts.items() if h for w in followers}
        pairs = Counter((h, w) for h, w, _ in longer)
        table = {h: dict(followers) for h, followers in counts.items() if len(h) == n - 1}
        for (h, w), number in pairs.items():
            table.setdefault(h, {})[w] = number
        super().__init__(table, vocabulary, n)

        def discounted(word):
            def step(p, h):
                if not self.total(h):
                    return p
                words = self.followers(h)
                return (max(words.get(word, 0) - discount, 0) + discount * len(words) * p) / self.total(h)

            return step

        self.estimate = lambda w, h: reduce(discounted(w), self.suffixes(h), 1 / len(vocabulary))


def log_probabilities(model, sentence):
    line = pad(sentence, model.n)
    ends = range(model.n - 1, len(line))
    values = (model.probability(line[end], tuple(line[:end])) for end in ends)
    return [math.log(p) if p > 0 else -math.inf for p in values]


def perplexity(model, sentences):
    logs = list(itertools.chain.from_iterable(log_probabilities(model, sentence) for sentence in sentences))
    if not logs:
        raise ValueError("no sentences")
    return math.e ** -(sum(logs) / len(logs))


def sample(model, uniforms):
    def draw(history, u):
        shares = {word: model.probability(word, history) for word in sorted(model.vocabulary)}
        whole = sum(shares.values())
        if not whole > 0:
            raise ValueError("no word has a probability")
        sums = itertools.accumulate(shares.values())
        return next(word for word, reached in zip(shares, sums) if reached > u * whole)

    line = ["<s>"] * (model.n - 1)
    for u in uniforms:
        word = draw(line, u)
        if word == "</s>":
            break
        line = [*line, word]
    return line[model.n - 1 :]


def is_plausible(model, sentence, threshold):
    return -math.log(perplexity(model, [sentence])) >= threshold
