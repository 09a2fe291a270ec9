"""Hidden suite for nlp/ngram: every estimate against direct sums over a list of the corpus's n-grams."""

import math
from collections import Counter

import pytest

from grader.compare import assert_close, assert_equal, assert_that
from grader.cost import assert_growth
from grader.properties import any_iterable, any_sequence, case, given, holds, no_state_between_calls, on, result_is_new
from grader.suite import probe

BOS, EOS, UNK = "<s>", "</s>", "<unk>"

TEXT = (
    "the cat sat on the mat",
    "the cat ran",
    "a dog sat on the cat",
    "the dog ran on",
    "",
    "a cat sat on a mat",
    "the the cat ran",
    "the dog saw the zebra",
    "a yak sat on the cat",
    "on the mat sat the dog",
)
WORDS = ("the", "cat", "sat", "on", "mat", "ran", "a", "dog")
SPARE = "quiet"  # in the vocabulary, never in the corpus
VOCABULARY = {*WORDS, SPARE, EOS, UNK}

SEEN = {
    1: [()],
    2: [("<s>",), ("the",), ("cat",), ("<unk>",), ("sat",)],
    3: [("<s>", "<s>"), ("<s>", "the"), ("<s>", "a"), ("the", "cat"), ("cat", "sat"), ("the", "<unk>")],
}
UNSEEN = {
    2: [(SPARE,)],
    3: [(SPARE, "the"), ("the", SPARE), (SPARE, SPARE), (SPARE, "<unk>")],
}
SETTINGS = {
    "MLE": {},
    "AddK": {"k": 0.3},
    "JelinekMercer": {"weights": (0.7, 0.45, 0.6, 0.35)},
    "StupidBackoff": {"alpha": 0.35},
    "KneserNey": {"discount": 0.6},
}


@probe
def distributions(module, name, counts, vocabulary, n, settings, contexts, words):
    """P(word | context) of a model, by context and word."""
    model = getattr(module, name)(counts, vocabulary, n, **settings)
    return {tuple(context): {word: model.probability(word, context) for word in words} for context in contexts}


@probe
def totals(module, counts, vocabulary, n, contexts):
    """The total count behind each context."""
    model = module.NGramModel(counts, vocabulary, n)
    return {context: model.total(context) for context in contexts}


@probe
def toy(table, vocabulary, n):
    """A model whose probabilities are given by context and word; it counts what it is asked."""

    class Toy:
        asked = 0

        def known(self, token):
            return token if token in vocabulary or token == "<s>" else "<unk>"

        def probability(self, word, context):
            self.asked += 1
            recent = tuple(self.known(token) for token in context)[max(0, len(context) - n + 1) :]
            return table.get(recent, {}).get(self.known(word), 0.0)

    model = Toy()
    model.n, model.vocabulary = n, vocabulary
    return model


@probe
def asked(module, name, counts, vocabulary, n, settings):
    """The probabilities of a model."""
    return getattr(module, name)(counts, vocabulary, n, **settings).probability


@probe
def weighed(module, counts, vocabulary, n, weights, word, context):
    """A probability of interpolation."""
    return module.JelinekMercer(counts, vocabulary, n, weights).probability(word, context)


@probe
def with_toy(module, name, table, vocabulary, n, *args):
    """A function of the module, on a model whose probabilities are given."""
    return getattr(module, name)(toy(table, vocabulary, n), *args)


@probe
def with_toy_each(module, name, table, vocabulary, n, cases):
    """A function's results on a model of given probabilities."""
    return [getattr(module, name)(toy(table, vocabulary, n), *args) for args in cases]


@probe
def questions(module, table, vocabulary, n, sentences):
    """The perplexity, and how often the model was asked for it."""
    model = toy(table, vocabulary, n)
    return module.perplexity(model, sentences), model.asked


@probe
def observed(tally):
    """Strings that count comparisons, and numbers that count additions, while `tally["on"]`."""

    class Word(str):
        __hash__ = str.__hash__

        def __eq__(self, other):
            tally["comparisons"] += tally["on"]
            return str.__eq__(self, other)

        def __ne__(self, other):
            tally["comparisons"] += tally["on"]
            return str.__ne__(self, other)

    class Number(int):
        def __add__(self, other):
            tally["additions"] += tally["on"]
            return Number(int(self) + other) if isinstance(other, int) else int(self) + other

        __radd__ = __add__

    return Word, Number


@probe
def counting_work(module, sentences, n):
    """The counts, and how many comparisons of words they took; no two tokens are the same object."""
    tally = {"on": 1, "comparisons": 0, "additions": 0}
    Word, _ = observed(tally)
    counts = module.count_ngrams([[Word(token) for token in sentence] for sentence in sentences], n)
    tally["on"] = 0
    return counts, tally["comparisons"]


@probe
def look_up_work(module, meter, name, counts, vocabulary, n, settings, warm, queries):
    """Probabilities, and the comparisons of words and additions of counts they took, after `warm` was asked for."""
    tally = {"on": 0, "comparisons": 0, "additions": 0}
    Word, Number = observed(tally)
    counts = {
        tuple(Word(token) for token in context): {Word(word): Number(count) for word, count in followers.items()}
        for context, followers in counts.items()
    }
    model = getattr(module, name)(counts, {Word(word) for word in vocabulary}, n, **settings)
    for word, context in warm:
        model.probability(Word(word), [Word(token) for token in context])
    asked = [(Word(word), [Word(token) for token in context]) for word, context in queries]
    tally["on"] = 1
    with meter:
        found = [model.probability(word, context) for word, context in asked]
    tally["on"] = 0
    return found, tally["comparisons"], tally["additions"]


@probe
def build(module, meter, name, counts, vocabulary, n, word, context):
    """The cost of building a model; its first probability."""
    with meter:
        model = getattr(module, name)(counts, vocabulary, n)
    return model.probability(word, context)


def raw_corpus(random):
    """The text above and five random sentences, in random order; `saw`, `zebra` and `yak` occur once."""
    sentences = [line.split() for line in TEXT]
    sentences += [[random.choice(WORDS) for _ in range(random.randrange(1, 7))] for _ in range(5)]
    random.shuffle(sentences)
    return sentences


def corpus(random):
    """The same with rare words replaced."""
    return [[word if word in VOCABULARY else UNK for word in sentence] for sentence in raw_corpus(random)]


def occurrences(sentences, n):
    """Every predicted token with the n - 1 before it, one tuple each."""
    grams = []
    for sentence in sentences:
        line = (BOS,) * (n - 1) + tuple(sentence) + (EOS,)
        grams += [line[end - n : end] for end in range(n, len(line) + 1)]
    return grams


def padded(sentence, n):
    return [BOS] * (n - 1) + list(sentence) + [EOS]


def table_of(sentences, n):
    """The same as context -> word -> count, for contexts of every length below n."""
    grams = Counter(gram[start:] for gram in occurrences(sentences, n) for start in range(n))
    table = {}
    for gram, count in grams.items():
        table.setdefault(gram[:-1], {})[gram[-1]] = count
    return table


class Direct:
    """The five formulas as they stand in the statement: recursive, every sum taken over the vocabulary."""

    def __init__(self, sentences, vocabulary, n):
        self.V, self.n = sorted(vocabulary), n
        grams = occurrences(sentences, n)
        self.seen = [Counter(gram[n - 1 - m :] for gram in grams) for m in range(n)]  # by length of the context

    def c(self, h, w):
        return self.seen[len(h)][(*h, w)]

    def continuations(self, h, w):
        return sum(1 for v in [BOS, *self.V] if self.c((v, *h), w) > 0)

    def MLE(self, w, h):
        everything = sum(self.c(h, v) for v in self.V)
        return self.c(h, w) / everything if everything else 0.0

    def AddK(self, w, h, k=1.0):
        return (self.c(h, w) + k) / sum(self.c(h, v) + k for v in self.V)

    def JelinekMercer(self, w, h, weights):
        lower = self.JelinekMercer(w, h[1:], weights) if h else 1 / len(self.V)
        if not any(self.c(h, v) for v in self.V):
            return lower
        return weights[len(h)] * self.MLE(w, h) + (1 - weights[len(h)]) * lower

    def StupidBackoff(self, w, h, alpha=0.4):
        if self.c(h, w):
            return self.MLE(w, h)
        return alpha * self.StupidBackoff(w, h[1:], alpha) if h else 0.0

    def KneserNey(self, w, h, discount=0.75):
        count = self.c if len(h) == self.n - 1 else self.continuations
        counts = {v: count(h, v) for v in self.V}
        lower = self.KneserNey(w, h[1:], discount) if h else 1 / len(self.V)
        everything = sum(counts.values())
        if not everything:
            return lower
        freed = sum(min(discount, number) for number in counts.values())
        return max(counts[w] - discount, 0) / everything + freed / everything * lower

    def table(self, name, settings, contexts):
        """P by context and word."""
        estimate = getattr(self, name)
        return {tuple(h): {w: estimate(w, tuple(h), **settings) for w in self.V} for h in contexts}


def settings_of(name, n):
    settings = dict(SETTINGS[name])
    if "weights" in settings:
        settings["weights"] = settings["weights"][:n]
    return settings


def check_model(submission, random, name, n, contexts):
    """A model's probabilities of the whole vocabulary after some contexts, against the direct sums."""
    sentences = corpus(random)
    settings = settings_of(name, n)
    got = submission.run(
        distributions, name, table_of(sentences, n), VOCABULARY, n, settings, contexts, sorted(VOCABULARY)
    )
    expected = Direct(sentences, VOCABULARY, n).table(name, settings, contexts)
    assert_close(got, expected, what="P by context and word")


TOY_WORDS = ("ant", "bee", "cow")
TOY_VOCABULARY = {*TOY_WORDS, EOS, UNK}


def toy_table(random, n=3, scale=1.0):
    """A distribution over the toy vocabulary for every context of n - 1 tokens."""
    contexts = [()]
    for _ in range(n - 1):
        contexts = [(*h, v) for h in contexts for v in (BOS, *TOY_WORDS, UNK)]
    table = {}
    for h in contexts:
        weights = {w: random.uniform(0.1, 1.0) for w in sorted(TOY_VOCABULARY)}
        table[h] = {w: scale * weight / sum(weights.values()) for w, weight in weights.items()}
    return table


def toy_probabilities(table, sentence, n=3):
    """P of each predicted token, straight from the table."""
    line = [BOS] * (n - 1) + [word if word in TOY_VOCABULARY else UNK for word in sentence] + [EOS]
    return [table[tuple(line[i - n + 1 : i])][line[i]] for i in range(n - 1, len(line))]


def toy_sentence(random, length):
    """Words of the toy vocabulary, with one unknown word among them."""
    words = [random.choice(TOY_WORDS) for _ in range(length)]
    words[random.randrange(length)] = "yeti"
    return words


def toy_sentences(random):
    return [toy_sentence(random, 5), [], toy_sentence(random, 8), toy_sentence(random, 2)]


def toy_perplexity(table, sentences):
    """The N-th root of the product of all 1 / P, for few enough tokens."""
    values = [p for sentence in sentences for p in toy_probabilities(table, sentence)]
    return math.prod(values) ** (-1 / len(values))


def check_plausible(submission, table, sentences, ratio=1.05):
    """The answers for thresholds far from, near and next to each sentence's mean log-probability."""
    cases, expected = [], []
    for sentence in sentences:
        logs = [math.log(p) for p in toy_probabilities(table, sentence)]
        mean = math.fsum(logs) / len(logs)
        steps = [ratio ** (step + 0.5) for step in range(-40, 80) if ratio ** abs(step) < 12]
        thresholds = [mean - 1e-6, mean + 1e-6, *(step * mean for step in steps), 1000 * mean, 0.5, 5.0, 100.0]
        cases += [(sentence, threshold) for threshold in thresholds]
        expected += [mean >= threshold for threshold in thresholds]
    got = submission.run(with_toy_each, "is_plausible", table, TOY_VOCABULARY, 3, cases)
    wrong = [
        f"{len(sentence)} words, threshold {threshold:.6g}: expected {right}, got {answer!r}"
        for (sentence, threshold), right, answer in zip(cases, expected, got, strict=True)
        if answer is not right
    ]
    assert_that(not wrong, "plausible means a mean of at least the threshold", got="; ".join(wrong[:3]))


def inside(random, table, words, n=3):
    """Numbers that draw these words: each well inside the word's share of the distribution."""
    line, numbers = [BOS] * (n - 1), []
    for word in words:
        shares = table[tuple(line[len(line) - n + 1 :])]
        below = sum(share for other, share in shares.items() if other < word)
        numbers.append((below + random.uniform(0.2, 0.8) * shares[word]) / sum(shares.values()))
        line.append(word)
    return numbers


class TestValues:
    @pytest.mark.part("build_vocabulary")
    @pytest.mark.parametrize("min_count", [1, 2, 3])
    def test_vocabulary(self, submission, random, min_count):
        """the vocabulary holds the frequent words, `</s>` and `<unk>`, and not `<s>`"""
        sentences = [*raw_corpus(random), ["emu", "fox"], ["gnu", "gnu", "gnu"], ["fox", "gnu"], ["elk"] * 3]
        words = [word for sentence in sentences for word in sentence]
        expected = {word for word in words if words.count(word) >= min_count} | {EOS, UNK}
        assert_equal(submission.build_vocabulary(sentences, min_count), expected, what="the vocabulary")

    @pytest.mark.part("replace_unknown")
    def test_replace_unknown(self, submission, random):
        """each unknown word becomes `<unk>` in its place; `<s>` stays"""
        tokens = [random.choice([*WORDS, "emu", "fox"]) for _ in range(9)]
        tokens[3:3] = ["emu", "the"]
        expected = [BOS, *(token if token in VOCABULARY else UNK for token in tokens), UNK, EOS]
        assert_equal(submission.replace_unknown([BOS, *tokens, UNK, EOS], VOCABULARY), expected, what="the tokens")

    @pytest.mark.part("pad")
    @pytest.mark.parametrize("n", [1, 2, 3, 4])
    def test_pad(self, submission, n):
        """n - 1 times `<s>` before the sentence, `</s>` once after it"""
        expected = [BOS] * (n - 1) + ["the", "cat", "ran", EOS]
        assert_equal(submission.pad(["the", "cat", "ran"], n), expected, what="the padded sentence")

    @pytest.mark.part("count_ngrams")
    @pytest.mark.points(2)
    @pytest.mark.parametrize("n", [1, 2, 3, 4])
    def test_counts(self, submission, random, n):
        """each predicted token is counted after its contexts of every length"""
        sentences = raw_corpus(random)
        assert_equal(submission.count_ngrams(sentences, n), table_of(sentences, n), what="the counts")

    @pytest.mark.part("NGramModel")
    def test_total(self, submission, random):
        """the total of a context is the sum of its counts, and 0 if it is unseen"""
        sentences = corpus(random)
        contexts = [*SEEN[3], *SEEN[2], (), *UNSEEN[2]]
        direct = Direct(sentences, VOCABULARY, 3)
        expected = {h: sum(direct.c(h, w) for w in VOCABULARY) for h in contexts}
        got = submission.run(totals, table_of(sentences, 3), VOCABULARY, 3, contexts)
        assert_equal(got, expected, what="total by context")

    @pytest.mark.part("MLE")
    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_mle(self, submission, random, n):
        """maximum likelihood: the relative frequency after each context"""
        check_model(submission, random, "MLE", n, SEEN[n])

    @pytest.mark.part("AddK")
    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_add_k(self, submission, random, n):
        """add-k: k more of every word of the vocabulary"""
        check_model(submission, random, "AddK", n, SEEN[n])

    @pytest.mark.part("JelinekMercer")
    @pytest.mark.points(2)
    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_jelinek_mercer(self, submission, random, n):
        """interpolation: each order with the weight of its context's length, down to the uniform distribution"""
        check_model(submission, random, "JelinekMercer", n, SEEN[n])

    @pytest.mark.part("StupidBackoff")
    @pytest.mark.points(2)
    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_stupid_backoff(self, submission, random, n):
        """stupid backoff: the longest context that was followed by the word, alpha for each step down"""
        check_model(submission, random, "StupidBackoff", n, SEEN[n])

    @pytest.mark.part("KneserNey")
    @pytest.mark.points(3)
    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_kneser_ney(self, submission, random, n):
        """interpolated Kneser-Ney: discounted counts, then continuation counts, then the uniform distribution"""
        check_model(submission, random, "KneserNey", n, SEEN[n])

    @pytest.mark.part("log_probabilities")
    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_log_probabilities(self, submission, random, n):
        """the natural logarithm of P for each word and for `</s>`, in order"""
        table, sentence = toy_table(random, n), toy_sentence(random, 6)
        got = submission.run(with_toy, "log_probabilities", table, TOY_VOCABULARY, n, sentence)
        assert_close(got, [math.log(p) for p in toy_probabilities(table, sentence, n)], what="ln P of each token")

    @pytest.mark.part("perplexity")
    @pytest.mark.points(2)
    def test_perplexity(self, submission, random):
        """perplexity is taken over all predicted tokens of the corpus together"""
        table, sentences = toy_table(random), toy_sentences(random)
        got = submission.run(with_toy, "perplexity", table, TOY_VOCABULARY, 3, sentences)
        assert_close(got, toy_perplexity(table, sentences), what="perplexity")

    @pytest.mark.part("sample")
    @pytest.mark.points(2)
    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_sample(self, submission, random, n):
        """each number draws the word in whose share it falls, given the words drawn before"""
        table = toy_table(random, n)
        words = [*random.sample(TOY_WORDS, 3), UNK, *random.choices(TOY_WORDS, k=3)]
        got = submission.run(with_toy, "sample", table, TOY_VOCABULARY, n, inside(random, table, words, n))
        assert_equal(got, words, what="the words drawn")

    @pytest.mark.part("is_plausible")
    @pytest.mark.points(2)
    def test_is_plausible(self, submission, random):
        """plausible means a mean log-probability of at least the threshold"""
        check_plausible(submission, toy_table(random), toy_sentences(random))


class TestStability:
    @pytest.mark.part("perplexity")
    def test_long_sentence(self, submission, random):
        """400 words of probability 0.1 or less do not underflow"""
        table = toy_table(random, scale=0.1)
        sentence = toy_sentence(random, 400)
        values = toy_probabilities(table, sentence)
        got = submission.run(with_toy, "perplexity", table, TOY_VOCABULARY, 3, [sentence])
        assert_close(got, math.exp(-math.fsum(map(math.log, values)) / len(values)), what="perplexity")

    @pytest.mark.part("log_probabilities")
    def test_small_probabilities(self, submission, random):
        """probabilities down to 1e-300 keep their logarithm"""
        sizes = [-300.0, -200.0, -12.0, -3.0]
        table = {(): {word: 10.0**size for word, size in zip([*TOY_WORDS, EOS], sizes, strict=True)}}
        got = submission.run(with_toy, "log_probabilities", table, TOY_VOCABULARY, 1, list(TOY_WORDS))
        assert_close(got, [size * math.log(10) for size in sizes], what="ln P of each token")

    @pytest.mark.part("is_plausible")
    def test_long_sentence_is_plausible(self, submission, random):
        """a long sentence is judged by its mean, which does not underflow"""
        check_plausible(submission, toy_table(random, scale=0.1), [toy_sentence(random, 400)], ratio=2.5)


SMOOTHED = [
    pytest.param("AddK", marks=pytest.mark.part("AddK")),
    pytest.param("JelinekMercer", marks=pytest.mark.part("JelinekMercer")),
    pytest.param("KneserNey", marks=pytest.mark.part("KneserNey")),
]
MODELS = [
    pytest.param("MLE", marks=pytest.mark.part("MLE")),
    pytest.param("StupidBackoff", marks=pytest.mark.part("StupidBackoff")),
    *SMOOTHED,
]


class TestEdgeCases:
    @pytest.mark.parametrize("name", SMOOTHED)
    def test_sums_to_one(self, submission, random, name):
        """after seen and unseen contexts alike, the probabilities of all words, `</s>` and `<unk>` sum to 1"""
        sums, expected = {}, {}
        for n in (1, 2, 3):
            contexts = [*SEEN[n], *UNSEEN.get(n, []), *[("emu",) * (n - 1)]]
            counts = table_of(corpus(random), n)
            got = submission.run(
                distributions, name, counts, VOCABULARY, n, settings_of(name, n), contexts, sorted(VOCABULARY)
            )
            for h in contexts:
                sums[n, h], expected[n, h] = sum(got[h].values()), 1.0
        assert_close(sums, expected, what="sum of P by n and context")

    @pytest.mark.parametrize("name", MODELS)
    def test_unseen_contexts(self, submission, random, name):
        """after a context that was never seen, in part or as a whole"""
        check_model(submission, random, name, 3, UNSEEN[3])

    @pytest.mark.parametrize("name", MODELS)
    def test_shorter_contexts(self, submission, random, name):
        """a shorter context asks the estimate of the lower order"""
        check_model(submission, random, name, 3, [(), ("the",), ("<s>",), ("cat",), (SPARE,)])
        check_model(submission, random, name, 4, [("the", "cat"), ("cat",)])

    @pytest.mark.parametrize("name", MODELS)
    def test_empty_corpus(self, submission, name):
        """a model of an empty corpus knows nothing, and says so without dividing by zero"""
        contexts = [("the", "cat"), (BOS, BOS)]
        settings = settings_of(name, 3)
        got = submission.run(distributions, name, {}, VOCABULARY, 3, settings, contexts, sorted(VOCABULARY))
        expected = Direct([], VOCABULARY, 3).table(name, settings, contexts)
        assert_close(got, expected, what="P by context and word")

    @pytest.mark.part("NGramModel")
    def test_unknown_words(self, submission, random):
        """unknown words count as `<unk>`, as the word asked for and in the context, where `<s>` stays `<s>`"""
        sentences = corpus(random)
        direct = Direct(sentences, VOCABULARY, 3)
        contexts = [("the", "emu"), ("emu", "sat"), (BOS, "emu"), (BOS, "a"), ("emu", EOS)]
        words = ["emu", UNK, "sat", "the", EOS, "cat"]
        got = submission.run(distributions, "MLE", table_of(sentences, 3), VOCABULARY, 3, {}, contexts, words)
        known = {"emu": UNK}
        expected = {
            h: {w: direct.MLE(known.get(w, w), tuple(known.get(v, v) for v in h)) for w in words} for h in contexts
        }
        assert_close(got, expected, what="P by context and word")

    @pytest.mark.part("NGramModel")
    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_long_contexts(self, submission, random, n):
        """of a long context, a list or a tuple, only the last n - 1 tokens count"""
        sentences = corpus(random)
        contexts = [("on", "the", "mat", "the", "cat"), ("sat", "dog", "<s>", "the"), ("cat", "emu", "a", "on", "the")]
        words = sorted(VOCABULARY)
        got = submission.run(distributions, "MLE", table_of(sentences, n), VOCABULARY, n, {}, contexts, words)
        direct = Direct(sentences, VOCABULARY, n)
        expected = {h: {w: direct.MLE(w, h[len(h) - n + 1 :]) for w in words} for h in contexts}
        assert_close(got, expected, what="P by context and word")
        lists = [list(h) for h in contexts]
        got = submission.run(distributions, "MLE", table_of(sentences, n), VOCABULARY, n, {}, lists, words)
        assert_close(got, expected, what="P by context, given as a list, and word")

    @pytest.mark.part("count_ngrams")
    def test_nothing_to_count(self, submission):
        """an empty corpus has no counts; an empty sentence still predicts `</s>`"""
        assert_equal(submission.count_ngrams([], 3), {}, what="the counts of no sentence")
        expected = {(): {EOS: 2}, (BOS,): {EOS: 2}, (BOS, BOS): {EOS: 2}}
        assert_equal(submission.count_ngrams([[], []], 3), expected, what="the counts of two empty sentences")

    @pytest.mark.part("build_vocabulary")
    def test_empty_vocabulary(self, submission):
        """the vocabulary of an empty corpus is `</s>` and `<unk>`"""
        assert_equal(submission.build_vocabulary([]), {EOS, UNK}, what="the vocabulary")

    @pytest.mark.part("pad")
    @pytest.mark.parametrize("n", [0, -1])
    def test_no_order(self, submission, n):
        """n below 1 is a ValueError"""
        with submission.expect_raises(ValueError):
            submission.pad(["the", "cat"], n)

    @pytest.mark.parametrize(
        ("name", "settings"),
        [
            pytest.param("AddK", {"k": 0.0}, marks=pytest.mark.part("AddK"), id="k-zero"),
            pytest.param("AddK", {"k": -0.5}, marks=pytest.mark.part("AddK"), id="k-negative"),
            pytest.param("JelinekMercer", {"weights": [0.5]}, marks=pytest.mark.part("JelinekMercer"), id="too-few"),
            pytest.param(
                "JelinekMercer", {"weights": [0.5] * 3}, marks=pytest.mark.part("JelinekMercer"), id="too-many"
            ),
            pytest.param(
                "JelinekMercer", {"weights": [0.5, 1.5]}, marks=pytest.mark.part("JelinekMercer"), id="above-1"
            ),
            pytest.param(
                "JelinekMercer", {"weights": [-0.1, 0.5]}, marks=pytest.mark.part("JelinekMercer"), id="below-0"
            ),
            pytest.param("KneserNey", {"discount": 1.5}, marks=pytest.mark.part("KneserNey"), id="discount-above-1"),
            pytest.param("KneserNey", {"discount": -0.1}, marks=pytest.mark.part("KneserNey"), id="discount-below-0"),
        ],
    )
    def test_impossible_settings(self, submission, name, settings):
        """settings that give no distribution are a ValueError"""
        counts = table_of([["the", "cat"]], 2)
        with submission.expect_raises(ValueError):
            submission.run(distributions, name, counts, VOCABULARY, 2, settings, [("the",)], ["cat"])

    @pytest.mark.parametrize(
        ("name", "settings"),
        [
            pytest.param(
                "JelinekMercer", {"weights": (0, 1, 0.5)}, marks=pytest.mark.part("JelinekMercer"), id="weights"
            ),
            pytest.param("KneserNey", {"discount": 0}, marks=pytest.mark.part("KneserNey"), id="no-discount"),
            pytest.param("KneserNey", {"discount": 1}, marks=pytest.mark.part("KneserNey"), id="whole-discount"),
        ],
    )
    def test_extreme_settings(self, submission, random, name, settings):
        """weights and discounts of exactly 0 and 1 are allowed"""
        sentences, contexts = corpus(random), [*SEEN[3], *UNSEEN[3]]
        counts = table_of(sentences, 3)
        got = submission.run(distributions, name, counts, VOCABULARY, 3, settings, contexts, sorted(VOCABULARY))
        expected = Direct(sentences, VOCABULARY, 3).table(name, settings, contexts)
        assert_close(got, expected, what="P by context and word")

    @pytest.mark.parametrize(
        ("name", "setting", "value"),
        [
            pytest.param("AddK", "k", 1.0, marks=pytest.mark.part("AddK")),
            pytest.param("KneserNey", "discount", 0.75, marks=pytest.mark.part("KneserNey")),
        ],
    )
    def test_defaults(self, submission, random, name, setting, value):
        """k is 1 and the discount 0.75 unless they are given"""
        sentences = corpus(random)
        got = submission.run(
            distributions, name, table_of(sentences, 2), VOCABULARY, 2, {}, SEEN[2], sorted(VOCABULARY)
        )
        expected = Direct(sentences, VOCABULARY, 2).table(name, {setting: value}, SEEN[2])
        assert_close(got, expected, what="P by context and word")

    @pytest.mark.part("log_probabilities")
    def test_impossible_token(self, submission):
        """the logarithm of probability 0 is minus infinity, in its place"""
        table = {(): {"ant": 0.5, EOS: 0.25, UNK: 0.25}}
        got = submission.run(with_toy, "log_probabilities", table, TOY_VOCABULARY, 1, ["ant", "bee", "emu"])
        expected = [math.log(0.5), -math.inf, math.log(0.25), math.log(0.25)]
        assert_close(got, expected, what="ln P of each token")

    @pytest.mark.part("perplexity")
    def test_impossible_sentence(self, submission):
        """one impossible token makes the perplexity infinite"""
        table = {(): {"ant": 0.5, EOS: 0.25, UNK: 0.25}}
        got = submission.run(with_toy, "perplexity", table, TOY_VOCABULARY, 1, [["ant"], ["ant", "bee"]])
        assert_close(got, math.inf, what="perplexity")

    @pytest.mark.part("perplexity")
    def test_empty_sentences(self, submission, random):
        """an empty sentence counts with its `</s>`"""
        table = toy_table(random)
        got = submission.run(with_toy, "perplexity", table, TOY_VOCABULARY, 3, [[], []])
        assert_close(got, 1 / table[BOS, BOS][EOS], what="perplexity")

    @pytest.mark.part("perplexity")
    def test_no_sentences(self, submission, random):
        """the perplexity of no sentence at all is a ValueError"""
        table = toy_table(random)
        with submission.expect_raises(ValueError):
            submission.run(with_toy, "perplexity", table, TOY_VOCABULARY, 3, [])

    @pytest.mark.part("sample")
    def test_sample_stops(self, submission, random):
        """`</s>` ends the sentence, is not returned, and uses up no further number"""
        table = toy_table(random)
        words = [*random.choices(TOY_WORDS, k=4), EOS]
        numbers = [*inside(random, table, words), 0.999, 0.999]
        got = submission.run(with_toy, "sample", table, TOY_VOCABULARY, 3, numbers)
        assert_equal(got, words[:4], what="the words drawn")

    @pytest.mark.part("sample")
    def test_sample_boundaries(self, submission):
        """a word is drawn where the running sum first exceeds u, so never one of probability 0"""
        table = {(): {EOS: 0.0, UNK: 0.0, "ant": 0.25, "bee": 0.5, "cow": 0.25}}
        cases = [([0.0],), ([0.25],), ([0.75],), ([math.nextafter(0.25, 0)],), ([],)]
        got = submission.run(with_toy_each, "sample", table, TOY_VOCABULARY, 1, cases)
        assert_equal(got, [["ant"], ["bee"], ["cow"], ["ant"], []], what="the words drawn")
        got = submission.run(with_toy, "sample", {(): {"cow": 0.3}}, TOY_VOCABULARY, 1, [0.0, 0.9])
        assert_equal(got, ["cow", "cow"], what="the words drawn where only the last is possible")

    @pytest.mark.part("sample")
    @pytest.mark.parametrize("scale", [0.4, 3.0])
    def test_sample_scores(self, submission, random, scale):
        """scores that do not sum to 1 are sampled in proportion"""
        table = toy_table(random, scale=scale)
        words = ["cow", *random.choices(TOY_WORDS, k=4), "ant", "cow"]
        got = submission.run(with_toy, "sample", table, TOY_VOCABULARY, 3, inside(random, table, words))
        assert_equal(got, words, what="the words drawn")

    @pytest.mark.part("sample")
    def test_sample_nothing(self, submission):
        """where no word has a probability, there is nothing to draw: a ValueError"""
        with submission.expect_raises(ValueError):
            submission.run(with_toy, "sample", {}, TOY_VOCABULARY, 2, [0.5])

    @pytest.mark.part("is_plausible")
    def test_plausible_extremes(self, submission):
        """at the threshold a sentence is plausible; an impossible one never is; an empty one has its `</s>`"""
        table = {(BOS,): {"ant": 1.0, EOS: 0.5}, ("ant",): {EOS: 1.0}}
        cases = [(["ant"], 0.0), (["ant"], -0.2), (["ant"], 0.1), (["ant", "bee"], -1e300), ([], -0.7), ([], -0.69)]
        got = submission.run(with_toy_each, "is_plausible", table, TOY_VOCABULARY, 2, cases)
        assert_equal(got, [True, True, False, False, True, False], what="answers")


def questions_to(name, n=3):
    """Words after contexts, seen and not, long and short."""

    def drawn(random):
        settings = (name, table_of(corpus(random), n), VOCABULARY, n, settings_of(name, n))
        words = random.sample(("cat", "mat", "dog", "the"), 3)
        return on(settings, *(given(word, context) for word in words for context in (["on", "the"], ["a"], [SPARE])))

    return drawn


def with_sentences(name, *rest):
    """A function of a model and of sentences, or of one."""

    def drawn(random):
        sentences = toy_sentences(random)
        return [
            given(
                name, toy_table(random), TOY_VOCABULARY, 3, sentences if name == "perplexity" else sentences[0], *rest
            )
        ]

    return drawn


def two_corpora(*rest):
    """Large and small, each of the same size in every draw."""

    def words(random, length):
        return random.choices(("the", "cat", "sat"), k=length)

    return lambda random: [given([words(random, n) for n in (6, 3, 5)], *rest), given([words(random, 2)], *rest)]


TestProperties = holds(
    case("build_vocabulary", two_corpora(2), any_iterable(0), result_is_new),
    case(
        "replace_unknown",
        lambda random: [
            given([random.choice(("cat", "mat", "dog")), word, "<s>"], VOCABULARY) for word in ("yeti", "the")
        ],
        any_sequence(0),
        result_is_new,
    ),
    case(
        "pad",
        lambda random: [given(random.sample(WORDS, n), n) for n in (3, 1)],
        any_sequence(0),
        result_is_new,
        expect=padded,
    ),
    case("count_ngrams", two_corpora(2), any_iterable(0), result_is_new, no_state_between_calls, expect=table_of),
    *(
        case(name, questions_to(name), no_state_between_calls, made=asked, target=f"{name}.estimate")
        for name in SETTINGS
    ),
    case(
        "NGramModel",
        lambda random: [given(table_of(corpus(random), 3), VOCABULARY, 3, [0.7, 0.4, 0.5], "cat", ["a", "the"])],
        any_sequence(3, 5),
        of=weighed,
        target="NGramModel.probability",
    ),
    case(
        "JelinekMercer",
        lambda random: [given(table_of(corpus(random), 2), VOCABULARY, 2, [0.7, 0.4], "cat", ["the"])],
        any_sequence(3),
        of=weighed,
        target="JelinekMercer.__init__",
    ),
    *(
        case(name, with_sentences(name, *rest), any_sequence(4), of=with_toy)
        for name, rest in (("log_probabilities", ()), ("is_plausible", (-3.0,)))
    ),
    case(
        "perplexity",
        with_sentences("perplexity"),
        any_iterable(4),
        of=with_toy,
        expect=lambda name, table, vocabulary, n, sentences: toy_perplexity(table, sentences),
    ),
    case(
        "sample",
        lambda random: [given("sample", toy_table(random), TOY_VOCABULARY, 3, [random.random() for _ in range(4)])],
        any_iterable(4),
        of=with_toy,
    ),
)


def wide_corpus(words):
    """Sentences in which `the` and the start of a sentence are followed by every word."""
    names = [f"w{i}" for i in range(words)]
    sentences = [["the", name, "cat"] for name in names] + [[name, "the"] for name in names]
    return sentences, {*names, "the", "cat", EOS, UNK}


def random_corpus(random, sentences):
    return [[f"w{random.randrange(60)}" for _ in range(9)] for _ in range(sentences)]


class TestPerformance:
    @pytest.mark.part("count_ngrams")
    def test_counting_lines(self, submission, random):
        """counting is linear: a corpus of twice the size takes twice the steps"""
        corpora = [random_corpus(random, 20), random_corpus(random, 40)]
        small, large = (submission.measure("count_ngrams", sentences, 3) for sentences in corpora)
        assert_equal(large.value, table_of(corpora[1], 3), what="the counts")
        assert_growth(small.cost, large.cost, "lines", at_most=2.2, when="the corpus doubles")

    @pytest.mark.part("count_ngrams")
    def test_counting_comparisons(self, submission, random):
        """counting looks nothing up by comparing it with every n-gram, as `list.count` does"""
        corpora = [random_corpus(random, 20), random_corpus(random, 40)]
        (_, small), (counts, large) = (submission.run(counting_work, sentences, 3) for sentences in corpora)
        assert_equal(counts, table_of(corpora[1], 3), what="the counts")
        assert_that(
            large <= 3 * small,
            "about twice as many comparisons of words when the corpus doubles",
            got=f"{small} became {large}",
        )

    @pytest.mark.part("KneserNey")
    def test_building_lines(self, submission):
        """building a model is linear in the number of different n-grams"""
        costs = []
        for words in (20, 40):
            sentences, vocabulary = wide_corpus(words)
            built = submission.measure(build, "KneserNey", table_of(sentences, 3), vocabulary, 3, "w1", ["cat", "the"])
            expected = Direct(sentences, vocabulary, 3).KneserNey("w1", ("cat", "the"))
            assert_close(built.value, expected, what="P(w1 | cat the)")
            costs.append(built.cost)
        assert_growth(*costs, "lines", at_most=2.2, when="the number of n-grams doubles")

    @pytest.mark.points(2)
    @pytest.mark.parametrize("name", MODELS)
    def test_look_up(self, submission, name):
        """a look-up takes the same work in a corpus and a vocabulary five times the size"""
        contexts = [(BOS, BOS), (BOS, "the"), ("cat", "the")]
        warm = [(word, h[start:]) for word in ("w0", "cat", "gnu") for h in contexts for start in range(3)]
        queries = [(word, h) for word in ("w1", "the", "emu") for h in contexts]
        settings, runs = settings_of(name, 3), []
        for words in (15, 75):
            sentences, vocabulary = wide_corpus(words)
            counts = table_of(sentences, 3)
            runs.append(submission.measure(look_up_work, name, counts, vocabulary, 3, settings, warm, queries))
            estimate = getattr(Direct(sentences, vocabulary, 3), name)
            expected = [estimate(UNK if word == "emu" else word, context, **settings) for word, context in queries]
            assert_close(runs[-1].value[0], expected, what="P of each word asked for")
        small, large = runs
        when = "corpus and vocabulary are five times as large"
        assert_growth(small.cost, large.cost, "lines", at_most=1.5, when=when)
        for what, before, after in zip(
            ("comparisons of words", "additions of counts"), small.value[1:], large.value[1:], strict=True
        ):
            assert_that(
                after <= 1.5 * before + 50,
                f"no more {what} in a look-up when {when}",
                got=f"{before} became {after} in {len(queries)} look-ups",
            )

    @pytest.mark.part("perplexity")
    def test_questions(self, submission, random):
        """perplexity asks the model once for each predicted token"""
        table, sentences = toy_table(random), [toy_sentence(random, 30), toy_sentence(random, 20)]
        got, asked = submission.run(questions, table, TOY_VOCABULARY, 3, sentences)
        assert_close(got, toy_perplexity(table, sentences), what="perplexity")
        assert_that(asked <= 52, "50 words and two `</s>` are asked for once each", got=f"{asked} questions")
