r"""# n-gram language models

Predict the next word from the $n-1$ words before it: count a corpus, estimate $P(w \mid h)$ in five ways, and use the
estimate to score, to generate and to judge sentences. A sentence is a list of tokens, a corpus a list of sentences.

**Padding.** Before a sentence stand $n-1$ tokens `<s>`, after it one `</s>`. The model predicts every word and `</s>`,
never `<s>`. So `<s>` occurs in contexts $h$ only, and an empty sentence still predicts `</s>`.

**Vocabulary.** $V$ holds the words that occur at least `min_count` times, `</s>` and `<unk>`, and not `<s>`. Every
other word counts as `<unk>`, in training text, as the word asked for, and inside a context (where `<s>` stays `<s>`).

**Counts.** `counts[h][w]` is how often $w$ was predicted after $h$, for *every* length of $h$ from 0 to $n-1$, the
padding included in $h$. What never occurred has no entry. Below, $c(h, w)$ is this count, $c(h) = \sum_w c(h, w)$,
and $h'$ is $h$ without its first (oldest) token.

**Maximum likelihood** (`MLE`): $P(w \mid h) = c(h, w) / c(h)$, and 0 for every word after an unseen context,
$c(h) = 0$.

**Add-k** (`AddK`; Chen and Goodman, 1998, section 2.1): $P(w \mid h) = (c(h, w) + k) / (c(h) + k\,|V|)$ with $k > 0$.

**Interpolation** (`JelinekMercer`; Jelinek and Mercer, 1980; the recursion of Chen and Goodman, 1998, section 2.3).
With $m$ tokens in $h$, and weights $\lambda_0, \dots, \lambda_{n-1}$ in $[0, 1]$ given by the length of the context:

$$P(w \mid h) = \lambda_m \frac{c(h, w)}{c(h)} + (1 - \lambda_m)\, P(w \mid h')$$

Below the empty context, $m = 0$, stands the uniform distribution $1/|V|$. A context that is unseen passes all its
weight down: $P(w \mid h) = P(w \mid h')$.

**Stupid backoff** (`StupidBackoff`; Brants et al., 2007, equation 5): scores, not probabilities.
$S(w \mid h) = c(h, w) / c(h)$ where $c(h, w) > 0$, otherwise $\alpha\, S(w \mid h')$; and 0 for a word that was never
counted.

**Interpolated Kneser-Ney** (`KneserNey`; Kneser and Ney, 1995, with the interpolation of Chen and Goodman, 1998,
section 2.7, and one discount $0 \le D \le 1$ for all orders):

$$P(w \mid h) = \frac{\max(\tilde c(h, w) - D,\, 0)}{\tilde c(h)} + \frac{D\, N(h)}{\tilde c(h)}\, P(w \mid h')$$

where $N(h)$ is the number of different words with $\tilde c(h, w) > 0$ and $\tilde c(h) = \sum_w \tilde c(h, w)$. For
contexts of full length, $n-1$, $\tilde c$ is $c$. For shorter ones it is the *continuation count*: the number of
different tokens $v$, `<s>` included, for which $c(vh, w) > 0$. Contexts that begin with `<s>` are no exception (some
toolkits keep their plain counts). The empty context is discounted too, and below it stands $1/|V|$, so `<unk>` never
has probability 0 unless $D$ is 0. An unseen context passes down, $P(w \mid h) = P(w \mid h')$. With $n = 1$ the empty
context has full length.

**Perplexity** of a corpus in which $N$ tokens are predicted (all words, and one `</s>` a sentence):
$\exp(-\frac{1}{N} \sum \ln P(w \mid h))$, one mean over the whole corpus. It is infinite if one of them has
probability 0.

Whatever has `n`, `vocabulary` and `probability(word, context)` is a model to the last four functions. `context` is a
list or tuple of any length: only its last $n-1$ tokens count, and a shorter one asks the estimate of that lower
order.

Sources: Jurafsky and Martin, *Speech and Language Processing*, 3rd edition, chapter "N-gram Language Models"; Chen
and Goodman, *An empirical study of smoothing techniques for language modeling*, 1998 (Harvard TR-10-98), shorter in
Computer Speech and Language 13, 1999; Kneser and Ney, *Improved backing-off for m-gram language modeling*, ICASSP
1995; Brants et al., *Large language models in machine translation*, EMNLP 2007.

Rules: the standard library only (no `nltk`, `kenlm`, `torch`). Arguments are left as they are, and results are new. An
`Iterable` may be one that can be read once only, and a `Sequence` may be a list or a tuple. Counting is linear in the
corpus. A look-up costs a number of dictionary accesses that depends on $n$ alone: what has to be summed over words is
summed before, once.

>>> corpus = ["I am Sam".split(), "Sam I am".split(), "I do not like green eggs and ham".split()]
>>> vocabulary = build_vocabulary(corpus)
>>> len(vocabulary), "</s>" in vocabulary, "<s>" in vocabulary
(12, True, False)
>>> counts = count_ngrams(corpus, 2)
>>> counts[("am",)] == {"Sam": 1, "</s>": 1}
True

The bigram estimates of Jurafsky and Martin for this corpus:

>>> model = MLE(counts, vocabulary, 2)
>>> for word, before in [("I", "<s>"), ("am", "I"), ("</s>", "Sam"), ("Sam", "am"), ("do", "I")]:
...     print(f"P({word} | {before}) = {model.probability(word, [before]):.2f}")
P(I | <s>) = 0.67
P(am | I) = 0.67
P(</s> | Sam) = 0.50
P(Sam | am) = 0.50
P(do | I) = 0.33

Smoothed models know every word in every context, and still sum to 1:

>>> model = KneserNey(counts, vocabulary, 2, discount=0.75)
>>> round(model.probability("am", ["I"]), 4), round(model.probability("ham", ["Sam"]), 4)
(0.4479, 0.0469)
>>> round(sum(model.probability(word, ["never seen"]) for word in vocabulary), 12)
1.0
>>> round(perplexity(model, [["I", "am", "Sam"]]), 4), round(perplexity(model, [["am", "green"]]), 4)
(2.9613, 16.6886)
>>> is_plausible(model, ["I", "am", "Sam"], -2.0), is_plausible(model, ["ham", "Sam", "eggs"], -2.0)
(True, False)
>>> sample(MLE(counts, vocabulary, 2), [0.1, 0.5, 0.9, 0.4, 0.7])
['I', 'am', 'Sam']
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

BOS, EOS, UNK = "<s>", "</s>", "<unk>"

Counts = dict[tuple[str, ...], dict[str, int]]  # context -> word -> count


def build_vocabulary(sentences: Iterable[Sequence[str]], min_count: int = 1) -> set[str]:
    """The words that occur at least `min_count` times, with `</s>` and `<unk>`, without `<s>`."""
    ### BEGIN SOLUTION
    frequency = Counter(word for sentence in sentences for word in sentence)
    frequent = {word for word, count in frequency.items() if count >= min_count}
    return frequent | {EOS, UNK}
    ### END SOLUTION


def replace_unknown(tokens: Sequence[str], vocabulary: set[str]) -> list[str]:
    """The tokens in order, with `<unk>` for each one outside the vocabulary; `<s>` stays."""
    ### BEGIN SOLUTION
    return [token if token in vocabulary or token == BOS else UNK for token in tokens]
    ### END SOLUTION


def pad(sentence: Sequence[str], n: int) -> list[str]:
    """The sentence with n - 1 times `<s>` before it and one `</s>` after it. ValueError if n < 1."""
    ### BEGIN SOLUTION
    if n < 1:
        raise ValueError("an n-gram has at least one word")
    return [BOS] * (n - 1) + list(sentence) + [EOS]
    ### END SOLUTION


def count_ngrams(sentences: Iterable[Sequence[str]], n: int) -> Counts:
    """`counts[context][word]` for contexts (tuples) of 0 to n - 1 tokens; the words are taken as they are."""
    ### BEGIN SOLUTION
    counts: Counts = {}
    for sentence in sentences:
        tokens = pad(sentence, n)
        for i in range(n - 1, len(tokens)):  # <s> is never predicted
            for length in range(n):
                followers = counts.setdefault(tuple(tokens[i - length : i]), {})
                followers[tokens[i]] = followers.get(tokens[i], 0) + 1
    return counts
    ### END SOLUTION


class NGramModel:
    """What the models share. Each of them adds `estimate(word, context)`, which `probability` calls."""

    def __init__(self, counts: Counts, vocabulary: set[str], n: int) -> None:
        """Keep `counts` (of `count_ngrams` with the same n), `vocabulary` and `n`; sum up each c(h), once."""
        ### BEGIN SOLUTION
        self.counts = counts
        self.vocabulary = vocabulary
        self.n = n
        self.totals = {context: sum(followers.values()) for context, followers in counts.items()}
        ### END SOLUTION

    def total(self, context: tuple[str, ...]) -> int:
        """c(h), which is 0 for an unseen context."""
        ### BEGIN SOLUTION
        return self.totals.get(context, 0)
        ### END SOLUTION

    def probability(self, word: str, context: Sequence[str]) -> float:
        """P(word | the last n - 1 tokens of `context`), unknown words taken as `<unk>` in both."""
        ### BEGIN SOLUTION
        recent = context[max(0, len(context) - self.n + 1) :]  # context[-(n - 1):] is everything when n is 1
        known_word = word if word in self.vocabulary else UNK
        known_context = replace_unknown(recent, self.vocabulary)
        return self.estimate(known_word, tuple(known_context))
        ### END SOLUTION


class MLE(NGramModel):
    """Maximum likelihood: relative frequencies, 0 after an unseen context."""

    def estimate(self, word: str, context: tuple[str, ...]) -> float:
        """c(h, w) / c(h)."""
        ### BEGIN SOLUTION
        if self.total(context) == 0:
            return 0.0
        return self.counts[context].get(word, 0) / self.total(context)
        ### END SOLUTION


class AddK(NGramModel):
    """Additive smoothing: every word of the vocabulary was seen k times more. k = 1 is Laplace's, k < 1 Lidstone's."""

    def __init__(self, counts: Counts, vocabulary: set[str], n: int, k: float = 1.0) -> None:
        """ValueError unless k > 0."""
        ### BEGIN SOLUTION
        if not k > 0:
            raise ValueError("k must be positive")
        super().__init__(counts, vocabulary, n)
        self.k = k
        ### END SOLUTION

    def estimate(self, word: str, context: tuple[str, ...]) -> float:
        """(c(h, w) + k) / (c(h) + k |V|)."""
        ### BEGIN SOLUTION
        count = self.counts.get(context, {}).get(word, 0)
        return (count + self.k) / (self.total(context) + self.k * len(self.vocabulary))
        ### END SOLUTION


class JelinekMercer(NGramModel):
    """Interpolation of all orders; `weights[m]` belongs to contexts of m tokens."""

    def __init__(self, counts: Counts, vocabulary: set[str], n: int, weights: Sequence[float]) -> None:
        """ValueError unless there are n weights, each in [0, 1]."""
        ### BEGIN SOLUTION
        if len(weights) != n or not all(0 <= weight <= 1 for weight in weights):
            raise ValueError("one weight in [0, 1] for each length of a context, from 0 to n - 1")
        super().__init__(counts, vocabulary, n)
        self.weights = list(weights)
        ### END SOLUTION

    def estimate(self, word: str, context: tuple[str, ...]) -> float:
        """weights[m] c(h, w) / c(h) + (1 - weights[m]) P(w | h'), from 1 / |V| upwards."""
        ### BEGIN SOLUTION
        p = 1 / len(self.vocabulary)
        for m in range(len(context) + 1):
            h = context[len(context) - m :]
            if self.total(h) > 0:
                frequency = self.counts[h].get(word, 0) / self.total(h)
                p = self.weights[m] * frequency + (1 - self.weights[m]) * p
        return p
        ### END SOLUTION


class StupidBackoff(NGramModel):
    """The relative frequency of the longest context that was followed by the word, times alpha for each step down."""

    def __init__(self, counts: Counts, vocabulary: set[str], n: int, alpha: float = 0.4) -> None:
        super().__init__(counts, vocabulary, n)
        self.alpha = alpha

    def estimate(self, word: str, context: tuple[str, ...]) -> float:
        """S(w | h), a score that does not sum to 1 over the words."""
        ### BEGIN SOLUTION
        factor = 1.0
        for start in range(len(context) + 1):
            h = context[start:]
            count = self.counts.get(h, {}).get(word, 0)
            if count > 0:
                return factor * count / self.total(h)
            factor *= self.alpha
        return 0.0
        ### END SOLUTION


class KneserNey(NGramModel):
    """Interpolated Kneser-Ney with one discount."""

    def __init__(self, counts: Counts, vocabulary: set[str], n: int, discount: float = 0.75) -> None:
        """Replace the counts of the lower orders by continuation counts. ValueError unless 0 <= discount <= 1."""
        ### BEGIN SOLUTION
        if not 0 <= discount <= 1:
            raise ValueError("the discount must lie in [0, 1]")
        adjusted = {context: followers for context, followers in counts.items() if len(context) == n - 1}
        for context, followers in counts.items():
            if len(context) > 0:
                shorter = adjusted.setdefault(context[1:], {})
                for word in followers:  # context[0] is one more token that comes before context[1:] and word
                    shorter[word] = shorter.get(word, 0) + 1
        super().__init__(adjusted, vocabulary, n)
        self.discount = discount
        ### END SOLUTION

    def estimate(self, word: str, context: tuple[str, ...]) -> float:
        """What is left of the word's count, plus its part of what all discounts set free, from 1 / |V| upwards."""
        ### BEGIN SOLUTION
        p = 1 / len(self.vocabulary)
        for start in range(len(context), -1, -1):
            h = context[start:]
            if self.total(h) > 0:
                followers = self.counts[h]
                left = max(followers.get(word, 0) - self.discount, 0) / self.total(h)
                freed = self.discount * len(followers) / self.total(h)
                p = left + freed * p
        return p
        ### END SOLUTION


def log_probabilities(model: Any, sentence: Sequence[str]) -> list[float]:
    """ln P of each predicted token: the words in order, then `</s>`; `-math.inf` where P is 0."""
    ### BEGIN SOLUTION
    tokens = pad(sentence, model.n)
    logs = []
    for i in range(model.n - 1, len(tokens)):
        p = model.probability(tokens[i], tokens[i - model.n + 1 : i])
        logs.append(math.log(p) if p > 0 else -math.inf)
    return logs
    ### END SOLUTION


def perplexity(model: Any, sentences: Iterable[Sequence[str]]) -> float:
    """exp of the mean negative log-probability of all predicted tokens. ValueError if there is no sentence."""
    ### BEGIN SOLUTION
    logs = [log for sentence in sentences for log in log_probabilities(model, sentence)]
    if not logs:
        raise ValueError("perplexity needs at least one sentence")
    return math.exp(-sum(logs) / len(logs))
    ### END SOLUTION


def sample(model: Any, uniforms: Iterable[float]) -> list[str]:
    """Generate a sentence, one word for each number u of `uniforms` (0 <= u < 1), by inverting the distribution.

    Go through the vocabulary in sorted order and add up probabilities; the word drawn is the first at which the sum
    exceeds u times the sum over all words (1 for a distribution, so scores need not be normalised). Each word drawn
    joins the context of the next. Stop at `</s>`, which is not returned, or when the numbers are used up.
    ValueError if all words have probability 0.
    """
    ### BEGIN SOLUTION
    words = sorted(model.vocabulary)
    tokens = [BOS] * (model.n - 1)
    drawn: list[str] = []
    for u in uniforms:
        context = tokens[len(tokens) - model.n + 1 :]
        sums = list(accumulate(model.probability(word, context) for word in words))
        if sums[-1] <= 0:
            raise ValueError(f"no word can follow {context}")
        word = words[bisect_right(sums, u * sums[-1])]
        if word == EOS:
            break
        drawn.append(word)
        tokens.append(word)
    return drawn
    ### END SOLUTION


def is_plausible(model: Any, sentence: Sequence[str], threshold: float) -> bool:
    """Whether the mean of ln P over the predicted tokens, `</s>` included, is at least `threshold` (nats a token).

    The mean, because the sum makes every long sentence implausible.
    """
    ### BEGIN SOLUTION
    logs = log_probabilities(model, sentence)
    return sum(logs) / len(logs) >= threshold
    ### END SOLUTION
