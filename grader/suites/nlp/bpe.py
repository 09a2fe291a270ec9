"""Hidden suite for nlp/bpe: a trainer that recounts everything and an encoder that scans for every merge."""

import json

import pytest

from grader.compare import assert_equal
from grader.cost import Cost, assert_growth
from grader.exercise import Equivalent, Exercise, Mistake, probe

EXERCISE = Exercise(
    title="Byte-pair encoding",
    level="core",
    minutes=60,
    needs=(),
    forbid=("tokenizers", "tiktoken", "torch", "sentencepiece"),
    hints=(
        "Write `merge` first and look at what it makes of four equal ids. `train` can use it on every word it touches.",
        "`[^\\W\\d_]` is what `\\w` matches but for digits and the underscore: a letter. Check that no character of a "
        "text is lost: the chunks joined must be the text.",
        "Keep two tables in `train`: the total of each pair, and which words hold it. For a merge, take the pairs of "
        "those words out of the totals, merge the words, and put their new pairs in.",
        "A heap cannot change an entry. Push a new one whenever a total changes, and when you pop one that disagrees "
        "with the table, throw it away.",
        "In `encode_chunk` the tokens form a linked list: for each place the next and the previous living one. A merge "
        "makes at most two new pairs, with the neighbours on either side; push those that are known. When a popped "
        "candidate no longer describes what stands at its place, skip it.",
    ),
    follow_ups=(
        (
            "Why start from bytes and not from characters?",
            "There are 256 bytes and over 150,000 characters. With bytes no text is unknown, and no vocabulary is "
            "spent on rare characters. The price is that a rare script costs up to four tokens a character, and that "
            "tokens need not be valid UTF-8: a stream must hold back an incomplete character before printing it.",
        ),
        (
            "How does the cost of encoding grow, and why do real tokenizers also keep a cache of words?",
            "With a heap over a linked list a chunk of n bytes takes O(n log n); scanning for the best pair before "
            "each merge takes O(n^2), which for short words is as fast and simpler. Pre-tokenising keeps n small, and "
            "since words follow Zipf's law a cache answers most chunks without merging anything.",
        ),
        (
            "Can two sequences of ids decode to the same text, and what follows?",
            "Yes: `hi` is one token after the merge h + i, and also the ids of h and i. So decode(encode(text)) is "
            "text, but encode(decode(ids)) need not be ids. A model that samples h then i is in a state that its "
            "training data never held, and a prompt that ends inside a word or with a space can force it there.",
        ),
    ),
)


@probe
def encoded(module, merges, special, text, allow_special):
    """The ids of a text."""
    return module.Tokenizer(merges, special).encode(text, allow_special=allow_special)


@probe
def encoded_by_default(module, merges, special, text):
    """The ids of a text when nothing is said about special tokens."""
    return module.Tokenizer(merges, special).encode(text)


@probe
def decoded(module, merges, special, ids):
    """The text of ids."""
    return module.Tokenizer(merges, special).decode(ids)


@probe
def trained(module, text, vocab_size, special, sample):
    """The ids that a tokenizer trained on `text` gives `sample`."""
    return module.Tokenizer.train(text, vocab_size, special).encode(sample, allow_special=True)


@probe
def there_and_back(module, merges, special, text, allow_special):
    """A text, encoded and decoded again."""
    tokenizer = module.Tokenizer(merges, special)
    return tokenizer.decode(tokenizer.encode(text, allow_special=allow_special))


@probe
def saved(module, merges, special):
    """What the file holds that `save` wrote."""
    module.Tokenizer(merges, special).save("tokenizer.json")
    with open("tokenizer.json", encoding="utf-8") as file:
        return json.load(file)


@probe
def loaded(module, content, text):
    """The ids that a tokenizer loaded from a file gives `text`."""
    with open("tokenizer.json", "w", encoding="utf-8") as file:
        json.dump(content, file)
    return module.Tokenizer.load("tokenizer.json").encode(text, allow_special=True)


@probe
def saved_and_loaded(module, text, vocab_size, special, sample):
    """The ids before saving and after loading, and the text that the loaded tokenizer makes of them."""
    first = module.Tokenizer.train(text, vocab_size, special)
    first.save("tokenizer.json")
    second = module.Tokenizer.load("tokenizer.json")
    before, after = (tokenizer.encode(sample, allow_special=True) for tokenizer in (first, second))
    return before, after, second.decode(after)


CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")


def kind(character):
    if character.isspace():
        return "space"
    if character.isdecimal():
        return "number"
    return "letter" if character.isalnum() else "other"


def run_end(text, start):
    """Where the run of characters of one kind that starts at `start` ends."""
    end = start + 1
    while end < len(text) and kind(text[end]) == kind(text[start]):
        end += 1
    return end


def scan(text):
    """The chunks of GPT-2's pattern, by hand."""
    chunks, start = [], 0
    while start < len(text):
        contraction = next((c for c in CONTRACTIONS if text.startswith(c, start)), "")
        after_space = start + (text[start] == " ")
        if contraction:
            end = start + len(contraction)
        elif after_space < len(text) and kind(text[after_space]) != "space":
            end = run_end(text, after_space)
        else:
            end = run_end(text, start)
            if end < len(text) and end - start > 1:
                end -= 1  # the last space is left to what follows
        chunks.append(text[start:end])
        start = end
    return chunks


def replaced(ids, pair, new_id):
    ids, i = list(ids), 0
    while i + 1 < len(ids):
        if (ids[i], ids[i + 1]) == pair:
            ids[i : i + 2] = [new_id]
        i += 1
    return ids


def recounted(counts, vocab_size):
    """Training that counts every pair of every word before each merge."""
    words, merges = [(list(word), count) for word, count in counts.items()], []
    while len(merges) < vocab_size - 256:
        totals = {}
        for ids, count in words:
            for i in range(len(ids) - 1):
                totals[ids[i], ids[i + 1]] = totals.get((ids[i], ids[i + 1]), 0) + count
        if not totals:
            break
        best = min(totals, key=lambda pair: (-totals[pair], pair))
        words = [(replaced(ids, best, 256 + len(merges)), count) for ids, count in words]
        merges.append(best)
    return merges


def scanned(chunk, ranks):
    """Encoding that looks through the whole chunk for every single merge."""
    ids = list(chunk)
    while True:
        known = [(ranks[pair], i) for i in range(len(ids) - 1) if (pair := (ids[i], ids[i + 1])) in ranks]
        if not known:
            return ids
        token, i = min(known)
        ids[i : i + 2] = [token]


def cut(text, special):
    """The pieces of a text, looking for special tokens character by character."""
    pieces, start, plain = [], 0, 0
    while start < len(text):
        found = max((token for token in special if text.startswith(token, start)), key=len, default="")
        if found:
            pieces += [text[plain:start], found]
            plain = start + len(found)
        start += len(found) or 1
    return [piece for piece in [*pieces, text[plain:]] if piece]


def tokenized(text, merges, special=()):
    """The ids of a text in which special tokens are allowed."""
    ranks, ids = {pair: 256 + i for i, pair in enumerate(merges)}, []
    for piece in cut(text, special):
        if piece in special:
            ids.append(256 + len(merges) + special.index(piece))
        else:
            ids += [i for chunk in scan(piece) for i in scanned(chunk.encode(), ranks)]
    return ids


def counted(pieces):
    """How often each chunk occurs in some texts."""
    counts = {}
    for piece in pieces:
        for chunk in scan(piece):
            counts[chunk.encode()] = counts.get(chunk.encode(), 0) + 1
    return counts


def random_ranks(random, alphabet, size):
    """A table of merges, each of two random ids that exist by then."""
    known, ranks = list(alphabet), {}
    while len(ranks) < size:
        pair = (random.choice(known), random.choice(known))
        if pair not in ranks:
            ranks[pair] = 256 + len(ranks)
            known.append(ranks[pair])
    return ranks


def random_counts(random, alphabet, words, longest):
    """Distinct words over a small alphabet, with frequencies that often tie."""
    counts = {}
    while len(counts) < words:
        counts[bytes(random.choices(alphabet, k=random.randint(1, longest)))] = random.randint(1, 4)
    return counts


def random_text(random, length):
    """Characters of one to four bytes, and spaces."""
    ranges = ((0x20, 0x7E), (0xA1, 0x24F), (0x3041, 0x30FF), (0x1F600, 0x1F64F))
    return "".join(chr(random.choice((0x20, 0x0A, random.randint(*random.choice(ranges))))) for _ in range(length))


LOWEST = {b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}

CHUNKS = {
    "contractions": "I'm sure they're here; don't say we've or he'll, she'd or it's",
    "capitals": "DON'T I'M",
    "words and numbers": "in 1969 room 101b had 3.14 doors",
    "spaces": "  two   three\tend ",
    "lines": "one\n\n two\r\n  three\n\n",
    "underscores": "snake_case __init__ _ a_1",
    "punctuation": "well... (yes), no?! <|end|> $5",
    "accents": "déjà vu, Straße, ελληνικά и русский",
    "combining marks": "cafe\u0301 nin\u0303o",
    "digits of other scripts": "٤٢ and ४२ and x²",
    "emoji": "ok 😀😀 fine👍",
}

MERGED = {
    "twice": ([5, 1, 2, 7, 1, 2], (1, 2), 256),
    "at the end": ([9, 3, 4], (3, 4), 257),
    "not at the end": ([3, 4, 9], (3, 4), 258),
    "reversed": ([4, 3, 3, 4], (3, 4), 256),
    "chain": ([256, 7, 256, 256, 7], (256, 7), 300),
}

TRAINED = {
    "sennrich": (LOWEST, 264),
    "frequencies": ({b"abc": 2, b"xy": 7, b"ad": 3, b"abd": 4}, 262),
    "a pair twice in a word": ({b"abxab": 2, b"yz": 3}, 258),
    "words that touch": ({b"ab": 3, b"ba": 2, b"abc": 4, b"cab": 2}, 261),
    "neighbours lose": ({b"abc": 5, b"bcd": 4, b"cd": 2}, 260),
    "neighbours rise again": ({b"xab": 6, b"ab": 4, b"xa": 3, b"bx": 5, b"xabx": 1}, 262),
}

TIES = {
    "smallest first": ({b"zy": 3, b"ab": 3, b"mn": 3}, 259),
    "second id decides": ({b"ac": 2, b"ab": 2, b"ad": 2}, 259),
    "ids and not bytes": ({b"ef": 9, b"efa": 4, b"xy": 4, b"efg": 4, b"zz": 4}, 261),
    "one each": ({b"dcba": 1}, 259),
    "fallen to a tie": ({b"bc": 3, b"abc": 2, b"ab": 4, b"xy": 3}, 260),
}

OVERLAPS = {
    "aaaa": ({b"aaaa": 1}, 260),
    "aaa": ({b"aaa": 2, b"ab": 3, b"ba": 4}, 259),
    "three places win": ({b"aaaa": 1, b"bc": 2}, 257),
    "runs": ({b"aaaaaaa": 2, b"baaa": 3, b"aab": 2}, 262),
}

ENCODED = {
    "lowest rank first": (b"abcd", {(98, 99): 256, (97, 98): 257, (256, 100): 258}),
    "not the longest": (b"abcd", {(99, 100): 256, (97, 98): 257, (257, 99): 258, (258, 100): 259}),
    "later merges build on earlier": (b"lowest", {(101, 115): 256, (256, 116): 257, (108, 111): 258, (258, 119): 259}),
    "left neighbour": (b"xyz", {(121, 122): 256, (120, 256): 257}),
    "right neighbour": (b"xyz", {(120, 121): 256, (256, 122): 257}),
    "last and not first": (b"abab cab", {(32, 99): 256, (97, 98): 257, (257, 257): 258, (256, 257): 259}),
    "the byte 0": (b"\0a\0\0b", {(0, 97): 256, (0, 98): 257}),
    "high bytes": ("é€".encode(), {(0xC3, 0xA9): 256, (0xE2, 0x82): 257, (257, 0xAC): 258}),
}

RUNS = {
    "aaa": (b"aaa", {(97, 97): 256}),
    "aaaaa": (b"aaaaa", {(97, 97): 256, (256, 97): 257}),
    "abababa": (b"abababa", {(97, 98): 256, (98, 97): 257, (256, 256): 258, (256, 97): 259}),
    "pairs of pairs": (b"aaaaaaa", {(97, 97): 256, (256, 256): 257}),
}

NESTED = ["<|end", "<|", "<|end|>"]
PIECES = {
    "inside": ("one<|end|>two", ["<|end|>"]),
    "at both ends": ("<|end|>one<|end|>", ["<|end|>"]),
    "in a row": ("<|end|><|end|>", ["<|end|>"]),
    "almost": ("<|end>, <|END|>, end", ["<|end|>"]),
    "signs of a pattern": ("a.b*c(d)|[x]+a\\b", ["a.b", "c(d)", "[x]+", "\\"]),
    "longest at a place": ("x<|end|>y<|end<|z", NESTED),
    "leftmost, not longest": ("--abcdef--", ["ab", "bcdef"]),
    "left after overlap": ("aaaaa", ["aa"]),
    "no special tokens": ("one two", []),
}

HI = [(104, 105), (32, 256)]  # "hi", " hi"
SPECIAL = ["<|end|>", "<|pad|>"]


def case_of(name):
    return pytest.param(name, id=name.replace(" ", "-"))


class TestValues:
    @pytest.mark.part("pretokenize")
    @pytest.mark.parametrize("case", [case_of(name) for name in CHUNKS])
    def test_chunks(self, submission, case):
        """text falls into the chunks of the stated pattern"""
        assert_equal(submission.pretokenize(CHUNKS[case]), scan(CHUNKS[case]), what=f"chunks of {CHUNKS[case]!r}")

    @pytest.mark.part("merge")
    @pytest.mark.parametrize("case", [case_of(name) for name in MERGED])
    def test_merge(self, submission, case):
        """a pair becomes the new id wherever it stands"""
        ids, pair, new_id = MERGED[case]
        assert_equal(submission.merge(ids, pair, new_id), replaced(ids, pair, new_id), what=f"{ids} with {pair} merged")

    @pytest.mark.part("train")
    @pytest.mark.points(2)
    @pytest.mark.parametrize("case", [case_of(name) for name in TRAINED])
    def test_train(self, submission, case):
        """the most frequent pair is merged, and the counts around it change"""
        counts, vocab_size = TRAINED[case]
        assert_equal(submission.train(counts, vocab_size), recounted(counts, vocab_size), what=f"merges of {counts}")

    @pytest.mark.part("train")
    @pytest.mark.points(2)
    @pytest.mark.parametrize("alphabet", ["ab", "abcd", "abcdefgh"])
    def test_train_random(self, submission, random, alphabet):
        """training agrees with counting afresh before each merge, on random words"""
        for _ in range(3):
            counts = random_counts(random, alphabet.encode(), 20, 9)
            assert_equal(submission.train(counts, 296), recounted(counts, 296), what=f"merges of {counts}")

    @pytest.mark.part("vocabulary")
    def test_vocabulary(self, submission):
        """every id has its bytes: single bytes, merges, special tokens in the order given"""
        merges, special = [(116, 104), (256, 101), (195, 169), (257, 258)], ["<|z|>", "<|a-long-one|>", "<|é|>"]
        expected = {byte: byte.to_bytes(1, "big") for byte in range(256)}
        expected |= {256: b"th", 257: b"the", 258: "é".encode(), 259: "theé".encode()}
        expected |= {260 + i: token.encode() for i, token in enumerate(special)}
        got = submission.vocabulary(merges, special)
        for i in (100, 200, 256, 257, 258, 259, 260, 261, 262):
            assert_equal(got.get(i), expected[i], what=f"bytes of id {i}")
        assert_equal(got, expected, what="vocabulary")

    @pytest.mark.part("encode_chunk")
    @pytest.mark.points(2)
    @pytest.mark.parametrize("case", [case_of(name) for name in ENCODED])
    def test_encode_chunk(self, submission, case):
        """the pair of the lowest rank is merged first, wherever it stands"""
        chunk, ranks = ENCODED[case]
        assert_equal(
            submission.encode_chunk(chunk, ranks), scanned(chunk, ranks), what=f"ids of {chunk!r} under {ranks}"
        )

    @pytest.mark.part("encode_chunk")
    @pytest.mark.points(2)
    @pytest.mark.parametrize("alphabet", ["ab", "abcde"])
    def test_encode_chunk_random(self, submission, random, alphabet):
        """encoding agrees with a scan before each merge, on random chunks and merges"""
        for size in (4, 12, 60):
            ranks = random_ranks(random, alphabet.encode(), size)
            chunk = bytes(random.choices(alphabet.encode(), k=57))
            expected = scanned(chunk, ranks)
            assert_equal(submission.encode_chunk(chunk, ranks), expected, what=f"ids of {chunk!r} under {ranks}")

    @pytest.mark.part("decode")
    def test_decode(self, submission):
        """bytes of one to four bytes a character come back as text"""
        vocab = {7: b"na", 1: "ï".encode(), 300: "ve €".encode(), 4: "😀".encode()}
        assert_equal(submission.decode([7, 1, 300, 4, 7], vocab), "naïve €😀na", what="text")
        assert_equal(submission.decode([], vocab), "", what="text of no ids")

    @pytest.mark.part("split_special")
    @pytest.mark.parametrize("case", [case_of(name) for name in PIECES])
    def test_pieces(self, submission, case):
        """special tokens are cut out, the leftmost first and of those the longest, and nothing is lost"""
        text, special = PIECES[case]
        expected = cut(text, special)
        assert_equal(submission.split_special(text, special), expected, what=f"pieces of {text!r} with {special}")

    @pytest.mark.part("Tokenizer")
    def test_encode(self, submission):
        """a text is encoded chunk by chunk: no merge crosses from one into the next"""
        merges = [*HI, (105, 33), (257, 33), (257, 257), (50, 51)]
        for text in ("hi hi hi!23 hi", ""):
            got = submission.run(encoded, merges, [], text, False)
            assert_equal(got, tokenized(text, merges), what=f"ids of {text!r}")

    @pytest.mark.part("Tokenizer")
    @pytest.mark.points(2)
    def test_train_tokenizer(self, submission):
        """a tokenizer is trained on the chunks of its text, as often as they occur"""
        text = "abc abc\nabc xy xyz xyzw, xy xy xy! xy"
        merges = recounted(counted([text]), 262)
        sample = "abc xyz abc, xy\nxyz!"
        got = submission.run(trained, text, 262, [], sample)
        assert_equal(got, tokenized(sample, merges), what=f"ids of {sample!r} after training on {text!r}")

    @pytest.mark.part("Tokenizer")
    def test_decode_tokenizer(self, submission):
        """ids come back as text, special tokens included"""
        got = submission.run(decoded, HI, SPECIAL, [256, 258, 257, 33, 259])
        assert_equal(got, "hi<|end|> hi!<|pad|>", what="text")

    @pytest.mark.part("Tokenizer")
    def test_saved_form(self, submission):
        """a saved file holds the merges and special tokens in their order, as JSON"""
        expected = {"merges": [[104, 105], [32, 256], [97, 98]], "special": ["<|z|>", "<|é|>", "<|a|>"]}
        got = submission.run(saved, [*HI, (97, 98)], expected["special"])
        assert_equal(got, expected, what="content of the file")

    @pytest.mark.part("Tokenizer")
    def test_loaded(self, submission):
        """a tokenizer that is loaded encodes with the merges and special tokens of the file"""
        content = {"merges": [list(pair) for pair in HI], "special": SPECIAL}
        text = "hi hi<|pad|>hi"
        got = submission.run(loaded, content, text)
        assert_equal(got, tokenized(text, HI, SPECIAL), what=f"ids of {text!r}")


class TestStability:
    @pytest.mark.part("encode_chunk")
    def test_long_chunk(self, submission):
        """one chunk of twelve hundred equal bytes is encoded"""
        ranks = {(97, 97): 256, (256, 256): 257, (257, 257): 258, (258, 97): 259}
        got = submission.encode_chunk(b"a" * 1203, ranks)
        assert_equal(got, [258] * 150 + [256, 97], what="ids of 1203 times `a`")

    @pytest.mark.part("decode")
    def test_long_text(self, submission):
        """an emoji whose bytes are four tokens comes back, a thousand times over"""
        vocab = {byte: bytes([byte]) for byte in range(256)}
        assert_equal(submission.decode(list("😀é".encode()) * 1000, vocab), "😀é" * 1000, what="text")

    @pytest.mark.part("pretokenize")
    @pytest.mark.points(2)
    def test_random_chunks(self, submission, random):
        """random unicode falls into the stated chunks, which joined are the text"""
        for _ in range(3):
            text = random_text(random, 300)
            assert_equal(submission.pretokenize(text), scan(text), what=f"chunks of {text!r}")

    @pytest.mark.part("Tokenizer")
    @pytest.mark.points(2)
    def test_round_trip(self, submission, random):
        """random unicode survives encoding and decoding, with merges inside and across characters"""
        merges = [(0xF0, 0x9F), (256, 0x98), (0xE3, 0x81), (0x98, 0x80), (0x81, 0xE3), (32, 97), (0xC3, 0xA9)]
        text = random_text(random, 400) + "😀 é\n\n あ a"
        got = submission.run(there_and_back, merges, SPECIAL, text, False)
        assert_equal(got, text, what="text after encoding and decoding")

    @pytest.mark.part("Tokenizer")
    @pytest.mark.points(2)
    def test_saved_and_loaded(self, submission):
        """a trained tokenizer that was saved and loaded gives the same ids, and they decode to the text"""
        text = "naïve café, naïve cafés 😀😀 😀<|end|>café"
        special = ["<|end|>", "<|😀|>"]
        counts = counted(text.split("<|end|>"))
        sample = "cafés<|😀|>naïve 😀<|end|>"
        ids = tokenized(sample, recounted(counts, 270), special)
        got = submission.run(saved_and_loaded, text, 270, special, sample)
        assert_equal(got, (ids, ids, sample), what="ids before, ids after and the text")


class TestEdgeCases:
    @pytest.mark.part("pretokenize")
    def test_empty_text(self, submission):
        """an empty text has no chunks, and a single space is one"""
        assert_equal(submission.pretokenize(" "), [" "], what="chunks of ' '")
        assert_equal(submission.pretokenize(""), [], what="chunks of ''")

    @pytest.mark.part("merge")
    @pytest.mark.parametrize("count", [2, 3, 4, 7])
    def test_merge_overlaps(self, submission, count):
        """in a run of equal ids pairs are taken from the left and do not overlap"""
        expected = [256] * (count // 2) + [97] * (count % 2)
        assert_equal(submission.merge([97] * count, (97, 97), 256), expected, what=f"{count} equal ids")

    @pytest.mark.part("merge")
    def test_merge_nothing(self, submission):
        """a list too short for a pair stays as it is"""
        for ids in ([], [97]):
            assert_equal(submission.merge(ids, (97, 97), 256), ids, what=f"{ids} with (97, 97) merged")

    @pytest.mark.part("train")
    @pytest.mark.points(2)
    @pytest.mark.parametrize("case", [case_of(name) for name in TIES])
    def test_ties(self, submission, case):
        """of pairs with equal counts the smallest pair of ids is merged"""
        counts, vocab_size = TIES[case]
        assert_equal(submission.train(counts, vocab_size), recounted(counts, vocab_size), what=f"merges of {counts}")

    @pytest.mark.part("train")
    @pytest.mark.parametrize("case", [case_of(name) for name in OVERLAPS])
    def test_overlapping_counts(self, submission, case):
        """a pair is counted at every place that holds it, overlapping ones too"""
        counts, vocab_size = OVERLAPS[case]
        assert_equal(submission.train(counts, vocab_size), recounted(counts, vocab_size), what=f"merges of {counts}")

    @pytest.mark.part("train")
    @pytest.mark.parametrize("counts", [{}, {b"a": 9}, {b"abab": 1}], ids=["empty", "one-byte", "one-word"])
    def test_no_pair_left(self, submission, counts):
        """training ends early when every word is a single token"""
        assert_equal(submission.train(counts, 300), recounted(counts, 300), what=f"merges of {counts}")

    @pytest.mark.part("train")
    def test_no_merges(self, submission):
        """a vocabulary of 256 has no merges"""
        assert_equal(submission.train(LOWEST, 256), [], what="merges for a vocabulary of 256")

    @pytest.mark.part("train")
    @pytest.mark.parametrize("vocab_size", [255, 0])
    def test_too_small(self, submission, vocab_size):
        """a vocabulary smaller than the bytes is a ValueError"""
        with submission.expect_raises(ValueError):
            submission.train(LOWEST, vocab_size)

    @pytest.mark.part("encode_chunk")
    @pytest.mark.parametrize("case", [case_of(name) for name in RUNS])
    def test_encode_overlaps(self, submission, case):
        """of equal pairs the leftmost is merged first"""
        chunk, ranks = RUNS[case]
        assert_equal(
            submission.encode_chunk(chunk, ranks), scanned(chunk, ranks), what=f"ids of {chunk!r} under {ranks}"
        )

    @pytest.mark.part("encode_chunk")
    def test_encode_nothing(self, submission):
        """a chunk without a known pair is the list of its bytes"""
        for chunk in (b"abc", b"a", b""):
            assert_equal(submission.encode_chunk(chunk, {(97, 99): 256}), list(chunk), what=f"ids of {chunk!r}")

    @pytest.mark.part("decode")
    @pytest.mark.parametrize(
        "pieces", [(b"\xf0\x9f", b"\x98\x80"), (b"a\xf0", b"\x9f\x98", b"\x80b"), (b"\xc3", b"\xa9")]
    )
    def test_split_characters(self, submission, pieces):
        """a character whose bytes are spread over tokens is decoded whole"""
        expected = b"".join(pieces).decode()
        got = submission.decode(list(range(len(pieces))), dict(enumerate(pieces)))
        assert_equal(got, expected, what=f"text of {list(pieces)}")

    @pytest.mark.part("decode")
    @pytest.mark.parametrize(
        ("pieces", "expected"),
        [
            ((b"a", b"\xf0\x9f\x98"), "a\ufffd"),
            ((b"\x80", b"b", b"\xff"), "\ufffdb\ufffd"),
            ((b"\xe2\x82", b"x"), "\ufffdx"),
        ],
        ids=["cut-off", "stray", "interrupted"],
    )
    def test_invalid_bytes(self, submission, pieces, expected):
        """bytes that are not UTF-8 become U+FFFD"""
        got = submission.decode(list(range(len(pieces))), dict(enumerate(pieces)))
        assert_equal(got, expected, what=f"text of {list(pieces)}")

    @pytest.mark.part("decode")
    def test_unknown_id(self, submission):
        """an id without bytes is a KeyError"""
        with submission.expect_raises(KeyError):
            submission.decode([0, 5], {0: b"a", 4: b"b"})

    @pytest.mark.part("split_special")
    @pytest.mark.parametrize("special", [[], ["<|end|>"]], ids=["none", "one"])
    def test_no_pieces(self, submission, special):
        """an empty text has no pieces"""
        assert_equal(submission.split_special("", special), [], what="pieces of ''")

    @pytest.mark.part("Tokenizer")
    @pytest.mark.parametrize(
        ("text", "merges", "special"),
        [
            ("<|end|>", HI, SPECIAL),
            ("hi<|pad|> hi<|end|>", HI, SPECIAL),
            ("this hill", [(116, 104), (256, 105), (105, 108)], ["hi"]),
        ],
        ids=["alone", "inside", "within words"],
    )
    def test_special_not_allowed(self, submission, text, merges, special):
        """special tokens in a text are ordinary characters by default: merges go across their ends"""
        got = submission.run(encoded_by_default, merges, special, text)
        assert_equal(got, tokenized(text, merges), what=f"ids of {text!r}")

    @pytest.mark.part("Tokenizer")
    @pytest.mark.parametrize(
        ("text", "special"),
        [
            ("hi<|end|> hi<|pad|><|end|>", SPECIAL),
            ("<|end|>hi<|end<|", NESTED),
            ("<|end|>", SPECIAL),
        ],
        ids=["inside", "nested", "alone"],
    )
    def test_special_allowed(self, submission, text, special):
        """allowed special tokens become their ids, in the order the tokens were given"""
        got = submission.run(encoded, HI, special, text, True)
        assert_equal(got, tokenized(text, HI, special), what=f"ids of {text!r}")

    @pytest.mark.part("Tokenizer")
    def test_special_kept_out_of_training(self, submission):
        """nothing is learned from special tokens or across them, and they come on top of the vocabulary"""
        text = "<|end|>".join(["ab", "cd", "ab!", "cd", "!ab", "cd", "xy xy", "!"])
        counts = counted(text.split("<|end|>"))
        sample = "<|pad|>end abcd xy cd |>! <| <|end|>ab"
        for vocab_size in (290, 258):
            expected = tokenized(sample, recounted(counts, vocab_size), SPECIAL)
            got = submission.run(trained, text, vocab_size, SPECIAL, sample)
            assert_equal(got, expected, what=f"ids of {sample!r} after training on {text!r}")


def hot_and_cold(random, cold):
    """Eight frequent words, then rare words in other letters, which hold no pair of the first merges."""
    counts = {}
    while len(counts) < 8:
        counts[bytes(random.choices(b"abcdefghij", k=12))] = 80 + len(counts)
    while len(counts) < 8 + cold:
        counts[bytes(random.choices(b"uvwxyz", k=4))] = 1
    return counts


def shuffled_merges(random, chunk):
    """Merges, one of a random pair of neighbours at a time, until `chunk` is a single token."""
    ids, ranks = list(chunk), {}
    while len(ids) > 1:
        i = random.randrange(len(ids) - 1)
        pair = (ids[i], ids[i + 1])
        ranks[pair] = 256 + len(ranks)
        ids = replaced(ids, pair, ranks[pair])
    return ranks


class TestPerformance:
    @pytest.mark.part("train")
    @pytest.mark.points(3)
    def test_merges_leave_other_words_alone(self, submission, random):
        """what a merge costs does not depend on words that do not hold its pair"""
        counts = hot_and_cold(random, 240)
        fewer = dict(list(counts.items())[: 8 + 60])
        costs = []
        for words in (fewer, counts):
            few, many = (submission.measure("train", words, vocab_size) for vocab_size in (266, 281))
            assert_equal(few.value, recounted(words, 266), what="merges")
            assert_equal(many.value[:10], few.value, what="the first ten merges")
            costs.append(Cost(lines=many.cost.lines - few.cost.lines))
        small, large = costs
        assert_growth(small, large, "lines", at_most=2, when="there are four times as many other words")

    @pytest.mark.part("train")
    @pytest.mark.points(2)
    def test_distinct_words(self, submission, random):
        """training on words that occur ten times as often costs no more"""
        counts = random_counts(random, b"abcdefgh", 25, 9)
        often = {word: 10 * count for word, count in counts.items()}
        small, large = (submission.measure("train", c, 276) for c in (counts, often))
        assert_equal(large.value, recounted(counts, 276), what="merges")
        assert_growth(small.cost, large.cost, "lines", at_most=1.2, when="every word occurs ten times as often")

    @pytest.mark.part("encode_chunk")
    @pytest.mark.points(3)
    def test_long_chunks(self, submission, random):
        """a chunk twice as long takes about twice as many steps, though it needs twice as many merges"""
        costs = []
        for n in (150, 300):
            chunk = bytes(random.choices(range(256), k=n))
            ranks = shuffled_merges(random, chunk)
            measured = submission.measure("encode_chunk", chunk, ranks)
            assert_equal(measured.value, [255 + len(ranks)], what="ids of a chunk that is one token")
            costs.append(measured.cost)
        assert_growth(*costs, "lines", at_most=2.7, when="the chunk is twice as long")

    @pytest.mark.part("encode_chunk")
    @pytest.mark.points(2)
    def test_many_merges(self, submission, random):
        """a chunk costs the same however many merges there are"""
        chunk = bytes(random.choices(b"abcd", k=60))
        ranks = random_ranks(random, b"abcd", 30)
        more = ranks | {(500, i): 1000 + i for i in range(1500)}
        small, large = (submission.measure("encode_chunk", chunk, table) for table in (ranks, more))
        assert_equal(large.value, scanned(chunk, ranks), what="ids")
        assert_growth(small.cost, large.cost, "lines", at_most=1.2, when="there are fifty times as many merges")


MISTAKES = [
    Mistake(
        "contractions-missing",
        "contractions such as `'ll` fall apart; they are the first alternative of the pattern",
        {'"|".join([contraction, letters,': '"|".join([letters,'},
    ),
    Mistake(
        "contractions-in-capitals",
        "contractions are matched in capitals too; GPT-2's pattern knows the small letters only",
        {'''r"'(?:[stmd]|re|ve|ll)"''': '''r"'(?i:[stmd]|re|ve|ll)"'''},
    ),
    Mistake(
        "space-cut-from-word",
        "the space before a word is a chunk of its own; one space belongs to the word that follows",
        {'r" ?[^\\W\\d_]+", r" ?\\d+", r" ?(?:[^\\s\\w]|_)+"': 'r"[^\\W\\d_]+", r"\\d+", r"(?:[^\\s\\w]|_)+"'},
    ),
    Mistake(
        "spaces-taken-whole",
        "a run of spaces takes the last one too; that one is left to the word after it (the pattern's `(?!\\S)`)",
        {'r"\\s+(?!\\S)|\\s+"': 'r"\\s+"'},
    ),
    Mistake(
        "many-spaces-before-word",
        "a word takes all the spaces before it; it takes one at most",
        {'r" ?[^\\W\\d_]+", r" ?\\d+", r" ?(?:[^\\s\\w]|_)+"': 'r" *[^\\W\\d_]+", r" *\\d+", r" *(?:[^\\s\\w]|_)+"'},
    ),
    Mistake(
        "newline-before-word",
        "a word takes any white space before it, line ends too; only a space belongs to the word",
        {
            'r" ?[^\\W\\d_]+", r" ?\\d+", r" ?(?:': 'r"\\s?[^\\W\\d_]+", r"\\s?\\d+", r"\\s?(?:',
        },
    ),
    Mistake(
        "white-space-dropped",
        "white space is dropped between chunks; joined, the chunks must be the text",
        {
            "numbers, others, spaces])": "numbers, others])",
        },
    ),
    Mistake(
        "underscore-lost",
        "the underscore falls into no chunk and is lost; it counts as punctuation",
        {"(?:[^\\s\\w]|_)": "[^\\s\\w]"},
    ),
    Mistake(
        "underscore-as-letter",
        "the underscore is taken for a letter, since `\\w` matches it; it counts as punctuation",
        {"[^\\W\\d_]": "[^\\W\\d]"},
    ),
    Mistake(
        "digits-with-letters",
        "letters and digits share a chunk; a word and a number are two",
        {"[^\\W\\d_]": "[^\\W_]"},
    ),
    Mistake(
        "ascii-letters",
        "only a to z count as letters, so that accents cut words apart; `\\w` knows every script",
        {'r" ?[^\\W\\d_]+"': 'r" ?[a-zA-Z]+"', "(?:[^\\s\\w]|_)": "(?:[^\\s\\da-zA-Z])"},
    ),
    Mistake(
        "lower-case",
        "the text is changed to lower case; a byte-level tokenizer keeps it as it is",
        {"numbers, others, spaces]), text)": "numbers, others, spaces]), text.lower())"},
    ),
    Mistake(
        "normalised",
        "the text is normalised (NFC), so that decoding gives another text; a byte-level tokenizer keeps it as it is",
        {
            "import re\n": "import re\nimport unicodedata\n",
            "numbers, others, spaces]), text)": 'numbers, others, spaces]), unicodedata.normalize("NFC", text))',
        },
    ),
    Mistake(
        "merge-overlaps",
        "after a match the scan goes on at the pair's second half, so that it is merged twice; skip both halves",
        {"            i += 2\n": "            i += 1\n"},
    ),
    Mistake(
        "merge-first-only",
        "only the first place of a pair is merged; all of them are",
        {"if tuple(ids[i : i + 2]) == pair:": "if tuple(ids[i : i + 2]) == pair and new_id not in merged:"},
    ),
    Mistake(
        "merge-loses-last",
        "the scan stops before the last id and loses it when that is not merged",
        {"while i < len(ids):": "while i < len(ids) - 1:"},
    ),
    Mistake(
        "merge-from-right",
        "a run of equal ids is paired from the right; it is paired from the left",
        {
            "    merged = []\n    i = 0\n": "    merged, ids, pair = [], ids[::-1], pair[::-1]\n    i = 0\n",
            "    return merged\n": "    return merged[::-1]\n",
        },
    ),
    Mistake(
        "merge-either-order",
        "a pair is merged in either order; (a, b) is not (b, a)",
        {"if tuple(ids[i : i + 2]) == pair:": "if tuple(ids[i : i + 2]) in (pair, pair[::-1]):"},
    ),
    Mistake(
        "frequency-ignored",
        "every distinct word is counted once; a pair counts as often as its word occurs",
        {"frequency = list(counts.values())": "frequency = [1] * len(counts)"},
    ),
    Mistake(
        "pair-counted-once-a-word",
        "a pair that a word holds twice is counted once; every place counts",
        {
            "total[pair] += frequency[w]\n": "total[pair] += frequency[w] * (w not in where[pair])\n",
            "for old in pairwise(words[w]):": "for old in set(pairwise(words[w])):",
            "for new in pairwise(words[w]):": "for new in set(pairwise(words[w])):",
        },
    ),
    Mistake(
        "counted-without-overlap",
        "`aaaa` is counted as two places of (a, a), which a merge replaces; here overlapping places count, so three",
        {
            "        for pair in pairwise(ids):\n": "        for pair in apart(ids):\n",
            "for old in pairwise(words[w]):": "for old in apart(words[w]):",
            "for new in pairwise(words[w]):": "for new in apart(words[w]):",
            "    words = [list(word) for word in counts]\n": "    def apart(ids):\n"
            "        last = {}\n"
            "        for i, pair in enumerate(pairwise(ids)):\n"
            "            if last.get(pair) != i - 1:\n"
            "                last[pair] = i\n"
            "                yield pair\n\n"
            "    words = [list(word) for word in counts]\n",
        },
    ),
    Mistake(
        "ties-to-largest",
        "ties go to the largest pair of ids; they go to the smallest",
        {
            "(-count, pair) for pair, count": "(-count, (-pair[0], -pair[1])) for pair, count",
            "count, pair = heapq.heappop(heap)": "count, (a, b) = heapq.heappop(heap)\n        pair = (-a, -b)",
            "heapq.heappush(heap, (-total[pair], pair))": "heapq.heappush(heap, (-total[pair], (-pair[0], -pair[1])))",
        },
    ),
    Mistake(
        "ties-to-first-seen",
        "ties go to the pair that was seen first, as `max` over a dict gives; they go to the smallest pair of ids",
        {
            "    heap = [(-count, pair)": "    order = {pair: i for i, pair in enumerate(total)}\n"
            "    heap = [(-count, order[pair], pair)",
            "count, pair = heapq.heappop(heap)": "count, _, pair = heapq.heappop(heap)",
            "(-total[pair], pair)": "(-total[pair], order.setdefault(pair, len(order)), pair)",
            "        changed = set()\n": "        changed = {}\n",
            "                changed.add(old)\n": "                changed[old] = True\n",
            "                changed.add(new)\n": "                changed[new] = True\n",
        },
    ),
    Mistake(
        "ties-by-bytes",
        "ties are broken by the bytes of the pair; they are broken by its ids",
        {
            "    heap = [(-count, pair)": "    names = [bytes([i]) for i in range(256)]\n"
            "    heap = [(-count, (names[pair[0]], names[pair[1]]), pair)",
            "count, pair = heapq.heappop(heap)": "count, _, pair = heapq.heappop(heap)",
            "merges.append(pair)\n": "merges.append(pair)\n        names.append(names[pair[0]] + names[pair[1]])\n",
            "(-total[pair], pair)": "(-total[pair], (names[pair[0]], names[pair[1]]), pair)",
        },
    ),
    Mistake(
        "neighbours-keep-counts",
        "the pairs around a merge keep their old counts; they lose the places that the merge took",
        {
            "total[old] -= frequency[w]": "total[old] -= frequency[w] * (old == pair)",
            "total[new] += frequency[w]": "total[new] += frequency[w] * (new_id in new)",
        },
    ),
    Mistake(
        "old-counts-in-heap",
        "a popped entry is believed although its count has changed since; compare it with the table",
        {"if -count != total[pair]:  #": "if not total[pair]:  #"},
    ),
    Mistake(
        "fallen-counts-lost",
        "only pairs that hold the new id are pushed, so that pairs whose count fell are never merged",
        {"            if total[pair]:\n": "            if total[pair] and new_id in pair:\n"},
    ),
    Mistake(
        "index-not-extended",
        "words are not entered under their new pairs, so that later merges miss them",
        {"                where[new].add(w)\n": "", "where.pop(pair):": "where.pop(pair, ()):"},
    ),
    Mistake(
        "single-pairs-left",
        "training stops at pairs that occur once; they are merged like any other",
        {"        merges.append(pair)\n": "        if count == -1:\n            break\n        merges.append(pair)\n"},
    ),
    Mistake(
        "no-pair-left-crashes",
        "training crashes when no pair is left; it ends with fewer merges",
        {"while heap and len(merges) <": "while len(merges) <"},
    ),
    Mistake(
        "too-small-accepted",
        "a `vocab_size` below 256 gives no merges silently; it is a ValueError",
        {"if vocab_size < 256:": "if vocab_size < 0:"},
    ),
    Mistake(
        "exactly-bytes-rejected",
        "a `vocab_size` of 256 is rejected; it is a vocabulary without merges",
        {"if vocab_size < 256:": "if vocab_size <= 256:"},
    ),
    Mistake(
        "vocabulary-counts-merges",
        "`vocab_size` merges are made; the 256 bytes count as well",
        {"len(merges) < vocab_size - 256:": "len(merges) < vocab_size:"},
    ),
    Mistake(
        "all-words-for-each-merge",
        "every merge goes through all words; keep an index from a pair to the words that hold it",
        {"for w in where.pop(pair):": "for w in range(len(words)):"},
    ),
    Mistake(
        "words-repeated",
        "a word is kept as often as it occurs; keep it once, with its frequency",
        {
            "[list(word) for word in counts]": "[list(word) for word, n in counts.items() for _ in range(n)]",
            "frequency = list(counts.values())": "frequency = [1] * len(words)",
        },
    ),
    Mistake(
        "byte-as-character",
        "bytes from 128 are encoded as characters, which makes two bytes of each; use `bytes([byte])`",
        {"bytes([byte]) for byte": "chr(byte).encode() for byte"},
    ),
    Mistake(
        "halves-swapped",
        "the halves of a merged token are joined in the wrong order",
        {"vocab[left] + vocab[right]": "vocab[right] + vocab[left]"},
    ),
    Mistake(
        "special-before-merges",
        "special tokens take the ids from 256 on and overwrite merges; they follow the last merge",
        {
            "for token in special:\n": "for i, token in enumerate(special):\n",
            "vocab[len(vocab)] = token": "vocab[256 + i] = token",
        },
    ),
    Mistake(
        "special-sorted",
        "special tokens are numbered in alphabetical order; they keep the order given",
        {"    for token in special:\n": "    for token in sorted(special):\n"},
    ),
    Mistake(
        "short-chunk-returned",
        "a chunk too short for a pair is returned as it is; the result is always a list of ids",
        {"    n = len(chunk)\n": "    n = len(chunk)\n    if n < 2:\n        return chunk\n"},
    ),
    Mistake(
        "longest-match",
        "a chunk is cut into the longest known tokens from left to right (WordPiece); BPE merges pairs by rank",
        {
            "    n = len(chunk)\n": "    bytes_of = {i: bytes([i]) for i in range(256)}\n"
            "    for (a, b), i in sorted(ranks.items(), key=lambda item: item[1]):\n"
            "        bytes_of[i] = bytes_of.get(a, b'') + bytes_of.get(b, b'')\n"
            "    known, longest, start = {piece: i for i, piece in bytes_of.items()}, [], 0\n"
            "    while start < len(chunk):\n"
            "        ends = range(len(chunk), start, -1)\n"
            "        end = next(end for end in ends if chunk[start:end] in known)\n"
            "        longest.append(known[chunk[start:end]])\n"
            "        start = end\n"
            "    return longest\n"
            "    n = len(chunk)\n"
        },
    ),
    Mistake(
        "first-pair-that-fits",
        "the first known pair from the left is merged; the one of the lowest rank comes first",
        {
            "heap = [(ranks[pair], i) for i, pair": "heap = [(i, ranks[pair]) for i, pair",
            "token, i = heapq.heappop(heap)": "i, token = heapq.heappop(heap)",
            "heapq.heappush(heap, (ranks[pair], k))": "heapq.heappush(heap, (k, ranks[pair]))",
        },
    ),
    Mistake(
        "latest-merge-first",
        "the pair of the highest rank is merged first; the lowest comes first",
        {
            "heap = [(ranks[pair], i) for i, pair": "heap = [(-ranks[pair], i) for i, pair",
            "token, i = heapq.heappop(heap)": "token, i = heapq.heappop(heap)\n        token = -token",
            "heapq.heappush(heap, (ranks[pair], k))": "heapq.heappush(heap, (-ranks[pair], k))",
        },
    ),
    Mistake(
        "rightmost-first",
        "of equal pairs the rightmost is merged first; the leftmost is",
        {
            "heap = [(ranks[pair], i) for i, pair": "heap = [(ranks[pair], -i) for i, pair",
            "token, i = heapq.heappop(heap)": "token, i = heapq.heappop(heap)\n        i = -i",
            "heapq.heappush(heap, (ranks[pair], k))": "heapq.heappush(heap, (ranks[pair], -k))",
        },
    ),
    Mistake(
        "stale-candidates",
        "a popped candidate is merged although its neighbours have changed; check that the pair still stands there",
        {"if ranks.get((ids[i], ids[j])) != token:  #": "if ids[i] < 0 or ids[j] < 0:  #"},
    ),
    Mistake(
        "left-neighbour-forgotten",
        "after a merge only the pair with the right neighbour is looked up; the left one may be known too",
        {"for k in (left[i], i):": "for k in (i,):"},
    ),
    Mistake(
        "right-neighbour-forgotten",
        "after a merge only the pair with the left neighbour is looked up; the right one may be known too",
        {"for k in (left[i], i):": "for k in (left[i],):"},
    ),
    Mistake(
        "new-pairs-forgotten",
        "only pairs of single bytes are merged; a merged token may be merged again",
        {"for k in (left[i], i):": "for k in ():"},
    ),
    Mistake(
        "scan-for-each-merge",
        "the whole chunk is scanned before each merge, which takes O(n^2); keep the candidates in a heap",
        {
            "    n = len(chunk)\n": "    parts = list(chunk)\n"
            "    while True:\n"
            "        known = []\n"
            "        for i in range(len(parts) - 1):\n"
            "            if (parts[i], parts[i + 1]) in ranks:\n"
            "                known.append((ranks[parts[i], parts[i + 1]], i))\n"
            "        if not known:\n"
            "            return parts\n"
            "        token, i = min(known)\n"
            "        parts[i : i + 2] = [token]\n"
            "    n = len(chunk)\n"
        },
    ),
    Mistake(
        "every-merge-tried",
        "every merge is tried on the chunk in turn, which costs O(n) for each; look only at the pairs that are there",
        {
            "    n = len(chunk)\n": "    parts = list(chunk)\n"
            "    for pair, token in sorted(ranks.items(), key=lambda item: item[1]):\n"
            "        parts = merge(parts, pair, token)\n"
            "    return parts\n"
            "    n = len(chunk)\n"
        },
    ),
    Mistake(
        "decoded-token-by-token",
        "each token is decoded on its own, which breaks characters that are spread over several; join the bytes first",
        {
            'b"".join(vocab[i] for i in ids)': '"".join(vocab[i]',
            'errors="replace")': 'errors="replace") for i in ids)',
        },
    ),
    Mistake(
        "invalid-bytes-dropped",
        "bytes that are not UTF-8 are dropped; they become U+FFFD",
        {'errors="replace")': 'errors="ignore")'},
    ),
    Mistake(
        "invalid-bytes-raise",
        "bytes that are not UTF-8 raise an error; they become U+FFFD",
        {'errors="replace")': 'errors="strict")'},
    ),
    Mistake(
        "decoded-as-latin-1",
        "every byte becomes a character of its own; the bytes are UTF-8",
        {'.decode("utf-8", errors="replace")': '.decode("latin-1")'},
    ),
    Mistake(
        "unknown-ids-skipped",
        "ids without bytes are skipped silently; they are a KeyError",
        {"vocab[i] for i in ids": 'vocab.get(i, b"") for i in ids'},
    ),
    Mistake(
        "special-not-escaped",
        'special tokens are used as patterns, so that `|` in `<|end|>` means "or"; escape them',
        {"re.escape(token) for token in longest_first": "token for token in longest_first"},
    ),
    Mistake(
        "shortest-special-first",
        "of special tokens that start at the same place the shortest is taken; the longest is",
        {"sorted(special, key=len, reverse=True)": "sorted(special, key=len)"},
    ),
    Mistake(
        "special-in-order-given",
        "of special tokens that start at the same place the one given first is taken; the longest is",
        {"sorted(special, key=len, reverse=True)": "list(special)"},
    ),
    Mistake(
        "longest-special-anywhere",
        "the longest special token is cut out first wherever it stands; the leftmost comes first",
        {
            "    return [piece for piece in re.split(": "    pieces = [text]\n"
            "    for token in longest_first:\n"
            "        cut = [[p] if p in special else re.split(f'({re.escape(token)})', p) for p in pieces]\n"
            "        pieces = [p for group in cut for p in group if p]\n"
            "    return pieces\n"
            "    return [piece for piece in re.split("
        },
    ),
    Mistake(
        "empty-pieces",
        "empty pieces are kept before, between and after special tokens",
        {'re.split(f"({pattern})", text) if piece]': 're.split(f"({pattern})", text)]'},
    ),
    Mistake(
        "no-special-cuts-everywhere",
        "without special tokens the pattern is empty and cuts the text into characters; it is one piece",
        {"    if not special:\n        return [text] if text else []\n": ""},
    ),
    Mistake(
        "empty-text-is-a-piece",
        "an empty text without special tokens is one empty piece; it has none",
        {"return [text] if text else []": "return [text]"},
    ),
    Mistake(
        "special-cut-away",
        "special tokens are cut away; they are pieces like the text between them",
        {'re.split(f"({pattern})", text)': "re.split(pattern, text)"},
    ),
    Mistake(
        "training-not-pretokenised",
        "training takes the text as one chunk, so that merges are learned across words",
        {"counts.update(chunk.encode() for chunk in pretokenize(piece))": "counts.update([piece.encode()])"},
    ),
    Mistake(
        "last-piece-only",
        "the counts of each piece between special tokens replace those of the pieces before; add them up",
        {"counts.update(chunk": "counts = Counter(chunk"},
    ),
    Mistake(
        "special-trained-as-text",
        "merges are learned from the special tokens in the text; cut them out first",
        {"for piece in split_special(text, special):": "for piece in split_special(text, []):"},
    ),
    Mistake(
        "special-pieces-counted",
        "the text is cut at special tokens, but these are counted as chunks like the rest; leave them out",
        {"            if piece not in special:\n": "            if True:\n"},
    ),
    Mistake(
        "special-glued-in-training",
        "special tokens are deleted from the text before it is cut, so that merges are learned across them",
        {
            "for piece in split_special(text, special):\n": "pieces = split_special(text, special)\n"
            '        for piece in ["".join(p for p in pieces if p not in special)]:\n'
        },
    ),
    Mistake(
        "special-inside-vocab-size",
        "special tokens are counted in `vocab_size`; they come on top of it",
        {"train(counts, vocab_size)": "train(counts, vocab_size - len(special))"},
    ),
    Mistake(
        "special-forged",
        "special tokens in a text become their ids although they are not allowed: a user could type control tokens",
        {"text: str, allow_special: bool = False)": "text: str, allow_special: bool = True)"},
    ),
    Mistake(
        "special-encoded-as-text",
        "allowed special tokens are encoded like text; each becomes its own id",
        {"            if allow_special and piece in self.special_ids:\n": "            if False:\n"},
    ),
    Mistake(
        "encoding-not-pretokenised",
        "the text is encoded as one chunk, so that merges cross words",
        {"                for chunk in pretokenize(piece):": "                for chunk in [piece]:"},
    ),
    Mistake(
        "special-not-decoded",
        "special tokens are left out of the decoded text; they come back like any token",
        {"return decode(ids, self.vocab)": "return decode([i for i in ids if i < 256 + len(self.merges)], self.vocab)"},
    ),
    Mistake(
        "saved-merges-sorted",
        "the merges are saved in sorted order; their order is their rank",
        {'{"merges": self.merges, ': '{"merges": sorted(self.merges), '},
    ),
    Mistake(
        "special-not-saved",
        "the special tokens are missing in the file",
        {'"special": self.special}': '"special": []}'},
    ),
    Mistake(
        "saved-special-sorted",
        "the special tokens are saved in sorted order; their order gives their ids",
        {'"special": self.special}': '"special": sorted(self.special)}'},
    ),
    Mistake(
        "special-not-loaded",
        "the special tokens are not read from the file",
        {'content["merges"]], content["special"])': 'content["merges"]])'},
    ),
    Mistake(
        "merges-loaded-reversed",
        "the merges are read in reverse order; the file lists the first merge first",
        {'for left, right in content["merges"]]': 'for left, right in content["merges"][::-1]]'},
    ),
    Mistake(
        "byte-0-dropped",
        "the id 0 is lost, as what is false; the byte 0 is a token like any other",
        {"if token >= 0]": "if token > 0]"},
    ),
]

EQUIVALENT = [
    Equivalent(
        "any negative number marks what is no token", {" [*chunk, -1": " [*chunk, -2", " = token, -1": " = token, -2"}
    ),
    Equivalent(
        "nobody asks for the neighbours of the end mark",
        {
            "*range(-1, n": "*range(-1, (n) + 1",
            "[*range(1, n": "[*range(1, (n + 1)",
            "range(1, n +": "range(1, (n + 1) -",
            "range(1, n + 1": ("range(1, n + 2", "range(1, n + 0"),
        },
    ),
    Equivalent(
        "of tokens that match at one place, each begins the next longer, which sorts behind it",
        {"special, key=len": "special"},
    ),
    Equivalent("JSON escapes everything beyond ASCII", {', encoding="utf-8"': "", '(encoding="utf-8"': "("}),
]
