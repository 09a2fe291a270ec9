"""nlp/ngram's solution against nltk.lm.

nltk pads and counts its own way, so it is given the same n-grams: those whose last token is predicted. Two conventions
differ and are bridged: nltk's vocabulary holds `<s>`, and its Kneser-Ney ends in undiscounted unigrams.
"""

import itertools
import math
import random

import pytest
from nltk import lm
from nltk.lm import smoothing as nltk_smoothing
from nltk.util import everygrams

WORDS = ["the", "cat", "dog", "sat", "ran", "on", "a", "mat"]
ORDERS = [1, 2, 3, 4]


@pytest.fixture(scope="module")
def ngram(mine):
    return mine


@pytest.fixture(scope="module")
def corpus():
    source = random.Random(0)
    sentences = [source.choices(WORDS, weights=range(1, 9), k=source.randrange(9)) for _ in range(40)]
    return [[word if word != "the" else source.choice(["the", "<unk>"]) for word in line] for line in sentences]


@pytest.fixture(scope="module")
def vocabulary(ngram, corpus):
    return ngram.build_vocabulary([*corpus, ["never"]])


def fitted(model, corpus, n):
    """An nltk model that has counted the n-grams whose last token is predicted."""
    padded = [["<s>"] * (n - 1) + line + ["</s>"] for line in corpus]
    grams = [[g for g in everygrams(line, max_len=n) if g[-1] != "<s>"] for line in padded]
    model.fit(grams)
    return model


def nltk_vocabulary(vocabulary):
    return lm.Vocabulary([*vocabulary - {"<unk>"}, "<s>"], unk_cutoff=1, unk_label="<unk>")


def contexts(n):
    tokens = ["<s>", "cat", "the", "never", "<unk>"]
    for length in range(n):
        yield from itertools.islice(itertools.product(tokens, repeat=length), 60)


def compare(ngram, mine, theirs, vocabulary, n):
    assert any(mine.probability(word, ()) for word in vocabulary)
    for context in contexts(n):
        for word in [*vocabulary, "unheard"]:
            expected = theirs.score(word, list(context))
            assert mine.probability(word, context) == pytest.approx(expected, rel=1e-12, abs=1e-15), (word, context)


@pytest.mark.parametrize("n", ORDERS)
def test_counts(ngram, corpus, vocabulary, n):
    counter = fitted(lm.MLE(n, vocabulary=nltk_vocabulary(vocabulary)), corpus, n).counts
    counts = ngram.count_ngrams(corpus, n)
    assert counts[()] == dict(counter.unigrams)
    for length in range(1, n):
        expected = {tuple(h): dict(words) for h, words in counter[length + 1].items() if words}
        assert {h: words for h, words in counts.items() if len(h) == length} == expected


@pytest.mark.parametrize("n", ORDERS)
def test_mle(ngram, corpus, vocabulary, n):
    mine = ngram.MLE(ngram.count_ngrams(corpus, n), vocabulary, n)
    compare(ngram, mine, fitted(lm.MLE(n, vocabulary=nltk_vocabulary(vocabulary)), corpus, n), vocabulary, n)


@pytest.mark.parametrize("n", ORDERS)
@pytest.mark.parametrize("k", [1.0, 0.2])
def test_lidstone(ngram, corpus, vocabulary, n, k):
    mine = ngram.AddK(ngram.count_ngrams(corpus, n), vocabulary, n, k)
    theirs = fitted(lm.Lidstone(k, n, vocabulary=nltk_vocabulary(vocabulary)), corpus, n)
    # nltk's |V| is the size of its vocabulary; in the statement that is without `<s>`
    theirs.vocab = lm.Vocabulary(vocabulary - {"<unk>"}, unk_cutoff=1, unk_label="<unk>")
    for context in contexts(n):
        for word in [*vocabulary, "unheard"]:
            expected = theirs.unmasked_score(word if word in vocabulary else "<unk>", context)
            assert mine.probability(word, context) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", ORDERS)
def test_stupid_backoff(ngram, corpus, vocabulary, n):
    mine = ngram.StupidBackoff(ngram.count_ngrams(corpus, n), vocabulary, n, alpha=0.3)
    theirs = fitted(lm.StupidBackoff(0.3, n, vocabulary=nltk_vocabulary(vocabulary)), corpus, n)
    compare(ngram, mine, theirs, vocabulary, n)


def kneser_ney(n, discount, vocabulary):
    """nltk's model, its unigrams replaced by the statement's: discounted, down to the uniform distribution."""

    class Discounted(nltk_smoothing.KneserNey):
        def unigram_score(self, word):
            found = [self._continuation_counts(v)[0] for v in vocabulary]
            count, total = self._continuation_counts(word)
            left = max(count - self.discount, 0) / total
            return left + self.discount * sum(c > 0 for c in found) / total / len(vocabulary)

    model = lm.KneserNeyInterpolated(n, discount, vocabulary=nltk_vocabulary(vocabulary))
    model.estimator = Discounted(model.vocab, model.counts, order=n, discount=discount)
    return model


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("discount", [0.1, 0.75, 1.0])
def test_kneser_ney(ngram, corpus, vocabulary, n, discount):
    mine = ngram.KneserNey(ngram.count_ngrams(corpus, n), vocabulary, n, discount)
    compare(ngram, mine, fitted(kneser_ney(n, discount, vocabulary), corpus, n), vocabulary, n)


@pytest.mark.parametrize("n", [2, 3])
def test_kneser_ney_without_discount(ngram, corpus, vocabulary, n):
    """With D = 0 nothing is bridged: nltk's model as it stands."""
    mine = ngram.KneserNey(ngram.count_ngrams(corpus, n), vocabulary, n, 0.0)
    theirs = fitted(lm.KneserNeyInterpolated(n, 0.0, vocabulary=nltk_vocabulary(vocabulary)), corpus, n)
    compare(ngram, mine, theirs, vocabulary, n)


@pytest.mark.parametrize("n", [2, 3])
def test_perplexity(ngram, corpus, vocabulary, n):
    mine = ngram.KneserNey(ngram.count_ngrams(corpus, n), vocabulary, n)
    theirs = fitted(kneser_ney(n, 0.75, vocabulary), corpus, n)
    lines = [["the", "dog", "ran"], [], ["a", "unicorn", "sat", "on", "never"]]
    padded = [["<s>"] * (n - 1) + line + ["</s>"] for line in lines]
    grams = [tuple(line[i - n : i]) for line in padded for i in range(n, len(line) + 1)]
    assert ngram.perplexity(mine, lines) == pytest.approx(theirs.perplexity(grams), rel=1e-12)


def test_sampling_follows_the_distribution(ngram, corpus, vocabulary):
    """First words, drawn by 4,000 evenly spaced numbers, come as often as they are likely."""
    model = ngram.KneserNey(ngram.count_ngrams(corpus, 3), vocabulary, 3)
    size = 4000
    drawn = [(ngram.sample(model, [(i + 0.5) / size]) or ["</s>"])[0] for i in range(size)]
    for word in vocabulary:
        expected = model.probability(word, ["<s>", "<s>"])
        assert drawn.count(word) / size == pytest.approx(expected, abs=1.01 / size)


def test_no_underflow(ngram, corpus, vocabulary):
    model = ngram.AddK(ngram.count_ngrams(corpus, 2), vocabulary, 2, 0.5)
    long = random.Random(1).choices(WORDS, k=2000)
    assert math.isfinite(ngram.perplexity(model, [long]))
