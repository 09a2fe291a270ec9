"""One flat dictionary of n-grams as tuples; prefixes carry the totals, precomputed back-off weights do the rest."""

import math
from bisect import bisect

BOS, EOS, UNK = "<s>", "</s>", "<unk>"


def build_vocabulary(sentences, min_count=1):
    words = sorted(word for sentence in sentences for word in sentence)
    vocabulary, start = {EOS, UNK}, 0
    for i, word in enumerate(words):
        if i + 1 == len(words) or words[i + 1] != word:
            if i + 1 - start >= min_count:
                vocabulary.add(word)
            start = i + 1
    return vocabulary


def replace_unknown(tokens, vocabulary):
    out = list(tokens)
    for i in range(len(out)):
        if out[i] != BOS and out[i] not in vocabulary:
            out[i] = UNK
    return out


def pad(sentence, n):
    if n < 1:
        raise ValueError("n")
    out = [BOS] * (n + len(sentence))
    out[n - 1 : -1] = sentence
    out[-1] = EOS
    return out


def count_ngrams(sentences, n):
    grams = []
    for sentence in sentences:
        line = tuple(pad(sentence, n))
        for end in range(n, len(line) + 1):
            for size in range(1, n + 1):
                grams.append(line[end - size : end])
    grams.sort(key=lambda gram: (len(gram), gram))
    counts = {}
    previous = None
    for gram in grams:
        if gram != previous:
            counts.setdefault(gram[:-1], {})[gram[-1]] = 0
            previous = gram
        counts[gram[:-1]][gram[-1]] += 1
    return counts


class NGramModel:
    def __init__(self, counts, vocabulary, n):
        self.vocabulary, self.n = vocabulary, n
        self.load({context + (word,): c for context, followers in counts.items() for word, c in followers.items()})

    def load(self, grams):
        self.grams, self.sums, self.types = grams, {}, {}
        for gram, count in grams.items():
            prefix = gram[:-1]
            self.sums[prefix] = self.sums.get(prefix, 0) + count
            self.types[prefix] = self.types.get(prefix, 0) + 1

    def total(self, context):
        return self.sums.get(context, 0)

    def probability(self, word, context):
        gram = (*context, word)
        gram = gram[max(0, len(gram) - self.n) :]
        gram = tuple(
            t if t in self.vocabulary else BOS if t == BOS and i < len(gram) - 1 else UNK for i, t in enumerate(gram)
        )
        return self.estimate(gram[-1], gram[:-1])


class MLE(NGramModel):
    def estimate(self, word, context):
        gram = (*context, word)
        return self.grams[gram] / self.sums[context] if gram in self.grams else 0.0


class AddK(NGramModel):
    def __init__(self, counts, vocabulary, n, k=1.0):
        super().__init__(counts, vocabulary, n)
        if not k > 0:
            raise ValueError("k")
        self.k = k

    def estimate(self, word, context):
        return (self.grams.get((*context, word), 0) + self.k) / (
            self.sums.get(context, 0) + len(self.vocabulary) * self.k
        )


class JelinekMercer(NGramModel):
    def __init__(self, counts, vocabulary, n, weights):
        super().__init__(counts, vocabulary, n)
        if len(weights) != n or any(w < 0 or w > 1 for w in weights):
            raise ValueError("weights")
        self.weights = weights

    def estimate(self, word, context):
        # the same sum read from the longest context down, with the weight that is left over
        p, rest = 0.0, 1.0
        for start in range(len(context) + 1):
            h = context[start:]
            if h in self.sums:
                w = self.weights[len(h)]
                p += rest * w * self.grams.get((*h, word), 0) / self.sums[h]
                rest *= 1 - w
        return p + rest / len(self.vocabulary)


class StupidBackoff(NGramModel):
    def __init__(self, counts, vocabulary, n, alpha=0.4):
        super().__init__(counts, vocabulary, n)
        self.alpha = alpha

    def estimate(self, word, context):
        gram, steps = (*context, word), 0
        while gram and gram not in self.grams:
            gram, steps = gram[1:], steps + 1
        return self.alpha**steps * self.grams[gram] / self.sums[gram[:-1]] if gram else 0.0


class KneserNey(NGramModel):
    def __init__(self, counts, vocabulary, n, discount=0.75):
        self.discount = discount
        if not 0 <= discount <= 1:
            raise ValueError("discount")
        super().__init__(counts, vocabulary, n)
        self.weight = {h: discount * types / self.sums[h] for h, types in self.types.items()}

    def load(self, grams):
        adjusted = {gram: count for gram, count in grams.items() if len(gram) == self.n}
        before = {}
        for gram in grams:
            before.setdefault(gram[1:], set()).add(gram[0])
        before.pop((), None)
        adjusted |= {gram: len(tokens) for gram, tokens in before.items()}
        super().load(adjusted)

    def estimate(self, word, context):
        lower = self.estimate(word, context[1:]) if len(context) else 1 / len(self.vocabulary)
        if context not in self.weight:
            return lower
        left = self.grams.get((*context, word), 0) - self.discount
        return (left / self.sums[context] if left > 0 else 0) + self.weight[context] * lower


def log_probabilities(model, sentence):
    line = pad(sentence, model.n)
    first = model.n - 1
    values = [model.probability(line[i], line[i - first : i]) for i in range(first, len(line))]
    return [math.log(p) if p else -math.inf for p in values]


def perplexity(model, sentences):
    logs = sum((log_probabilities(model, sentence) for sentence in sentences), [])
    if len(logs) == 0:
        raise ValueError("no sentences")
    return 2 ** (-sum(log / math.log(2) for log in logs) / len(logs))


def sample(model, uniforms):
    words = sorted(model.vocabulary)
    out = []
    for u in uniforms:
        context = pad(out, model.n)[:-1]
        reached, sums = 0.0, []
        for word in words:
            reached += model.probability(word, context)
            sums.append(reached)
        if reached == 0:
            raise ValueError("all words have probability 0")
        word = words[bisect([s / reached for s in sums], u)]
        if word == EOS:
            break
        out += [word]
    return out


def is_plausible(model, sentence, threshold):
    logs = log_probabilities(model, sentence)
    return math.fsum(logs) / len(logs) >= threshold
