"""A class for everything: distributions that know their sum, and models that point to their lower order."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field

START = "<s>"
END = "</s>"
UNKNOWN = "<unk>"


class Corpus:
    def __init__(self, sentences):
        self.sentences = [list(sentence) for sentence in sentences]

    def frequencies(self):
        result = Counter()
        for sentence in self.sentences:
            result.update(sentence)
        return result

    def positions(self, n):
        for sentence in self.sentences:
            line = pad(sentence, n)
            for i in range(n - 1, len(line)):
                yield tuple(line[i - n + 1 : i]), line[i]


def build_vocabulary(sentences, min_count=1):
    frequencies = Corpus(sentences).frequencies()
    result = {word for word in frequencies if frequencies[word] >= min_count}
    result.add(END)
    result.add(UNKNOWN)
    return result


def replace_unknown(tokens, vocabulary):
    allowed = lambda token: token in vocabulary or token == START  # noqa: E731
    return [token if allowed(token) else UNKNOWN for token in tokens]


def pad(sentence, n):
    if n < 1:
        raise ValueError("n must be at least 1")
    return (n - 1) * [START] + [word for word in sentence] + [END]


def count_ngrams(sentences, n):
    table = {}
    for context, word in Corpus(sentences).positions(n):
        while True:
            if context not in table:
                table[context] = Counter()
            table[context][word] += 1
            if not context:
                break
            context = context[1:]
    return table


@dataclass
class Distribution:
    counts: dict = field(default_factory=dict)
    total: int = 0

    @classmethod
    def of(cls, counts):
        return cls(dict(counts), sum(counts.values()))

    def increment(self, word):
        self.counts[word] = self.counts.get(word, 0) + 1
        self.total += 1

    @property
    def types(self):
        return len(self.counts)

    def frequency(self, word):
        return self.counts.get(word, 0) / self.total if self.total else 0.0


NOTHING = Distribution()


class Estimator(ABC):
    @abstractmethod
    def estimate(self, word, context): ...


class NGramModel:
    def __init__(self, counts, vocabulary, n):
        self.n = n
        self.vocabulary = vocabulary
        self.after = {context: Distribution.of(followers) for context, followers in counts.items()}

    def total(self, context):
        return self.after.get(context, NOTHING).total

    def normalise(self, token):
        return token if token in self.vocabulary else UNKNOWN

    def probability(self, word, context):
        keep = min(len(context), self.n - 1)
        recent = [context[-i] for i in range(keep, 0, -1)]
        return self.estimate(self.normalise(word), tuple(t if t == START else self.normalise(t) for t in recent))

    def backoff_chain(self, context):
        yield context
        while context:
            context = context[1:]
            yield context


class MLE(NGramModel, Estimator):
    def estimate(self, word, context):
        return self.after.get(context, NOTHING).frequency(word)


class AddK(NGramModel, Estimator):
    def __init__(self, counts, vocabulary, n, k=1.0):
        if not 0 < k:
            raise ValueError("k must be positive")
        super().__init__(counts, vocabulary, n)
        self.k = k

    def estimate(self, word, context):
        seen = self.after.get(context, NOTHING)
        # a mixture of the relative frequency and the uniform distribution
        pseudo = self.k * len(self.vocabulary)
        share = seen.total / (seen.total + pseudo)
        return share * seen.frequency(word) + (1 - share) / len(self.vocabulary)


class Uniform(Estimator):
    def __init__(self, size):
        self.size = size

    def estimate(self, word, context):
        return 1 / self.size


class Order(Estimator):
    """One order of an interpolated model, in front of the order below it."""

    def __init__(self, after, below, share):
        self.after, self.below, self.share = after, below, share

    def estimate(self, word, context):
        lower = self.below.estimate(word, context[1:])
        seen = self.after.get(context)
        return self.share(seen, word, lower) if seen else lower


class JelinekMercer(NGramModel, Estimator):
    def __init__(self, counts, vocabulary, n, weights):
        super().__init__(counts, vocabulary, n)
        if len(weights) != n or [w for w in weights if w < 0 or w > 1]:
            raise ValueError("weights")
        self.orders = [Uniform(len(vocabulary))]
        for weight in weights:
            share = lambda seen, word, lower, weight=weight: weight * seen.frequency(word) + (1 - weight) * lower  # noqa: E731
            self.orders.append(Order(self.after, self.orders[-1], share))

    def estimate(self, word, context):
        return self.orders[len(context) + 1].estimate(word, context)


class StupidBackoff(NGramModel, Estimator):
    def __init__(self, counts, vocabulary, n, alpha=0.4):
        super().__init__(counts, vocabulary, n)
        self.alpha = alpha

    def estimate(self, word, context):
        for steps, shorter in enumerate(self.backoff_chain(context)):
            seen = self.after.get(shorter, NOTHING)
            if word in seen.counts:
                return self.alpha**steps * seen.frequency(word)
        return 0.0


class KneserNey(NGramModel, Estimator):
    def __init__(self, counts, vocabulary, n, discount=0.75):
        super().__init__(counts, vocabulary, n)
        if not 0 <= discount <= 1:
            raise ValueError("discount")
        self.discount = discount
        tables = [{} for _ in range(n)]
        for context, seen in self.after.items():
            if len(context) == n - 1:
                tables[-1][context] = seen
            if context:
                table = tables[len(context) - 1]
                for word in seen.counts:
                    table.setdefault(context[1:], Distribution()).increment(word)
        self.after = {context: seen for table in tables for context, seen in table.items()}
        self.orders = [Uniform(len(vocabulary))]
        for table in tables:
            self.orders.append(Order(table, self.orders[-1], self.share))

    def share(self, seen, word, lower):
        left = max(seen.counts.get(word, 0) - self.discount, 0) / seen.total
        return left + self.discount * seen.types / seen.total * lower

    def estimate(self, word, context):
        return self.orders[len(context) + 1].estimate(word, context)


class Scorer:
    def __init__(self, model):
        self.model = model

    def logs(self, sentence):
        n = self.model.n
        for i, word in enumerate([*sentence, END]):
            context = pad(sentence, n)[i : i + n - 1]
            p = self.model.probability(word, context)
            yield math.log(p) if p > 0 else -math.inf


class Mean:
    def __init__(self):
        self.sum, self.number = 0.0, 0

    def add(self, values):
        for value in values:
            self.sum += value
            self.number += 1

    def value(self):
        if not self.number:
            raise ValueError("the mean of nothing")
        return self.sum / self.number


def log_probabilities(model, sentence):
    return list(Scorer(model).logs(sentence))


def perplexity(model, sentences):
    mean = Mean()
    for sentence in sentences:
        mean.add(Scorer(model).logs(sentence))
    return math.exp(-mean.value())


class Generator:
    def __init__(self, model):
        self.model = model
        self.words = sorted(model.vocabulary)
        self.line = [START] * (model.n - 1)

    def step(self, u):
        scores = [self.model.probability(word, self.line) for word in self.words]
        if max(scores) <= 0:
            raise ValueError("no word can follow")
        running, sums = 0.0, []
        for score in scores:
            running += score
            sums.append(running)
        low, high = 0, len(sums) - 1
        while low < high:
            middle = (low + high) // 2
            if sums[middle] > u * running:
                high = middle
            else:
                low = middle + 1
        return self.words[low]


def sample(model, uniforms):
    generator, sentence = Generator(model), []
    for u in uniforms:
        word = generator.step(u)
        if word == END:
            break
        sentence.append(word)
        generator.line.append(word)
    return sentence


def is_plausible(model, sentence, threshold):
    mean = Mean()
    mean.add(Scorer(model).logs(sentence))
    return mean.value() >= threshold
