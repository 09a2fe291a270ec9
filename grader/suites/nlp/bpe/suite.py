"""Hidden suite for nlp/bpe: a trainer that recounts everything and an encoder that scans for every merge."""

import json

import pytest

from grader.compare import assert_equal
from grader.cost import Cost, assert_growth
from grader.properties import (
    any_iterable,
    any_sequence,
    case,
    given,
    holds,
    no_state_between_calls,
    on,
    result_is_new,
)
from grader.suite import probe


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


@probe
def encoder(module, merges, special):
    """What encodes by these merges."""
    return module.Tokenizer(merges, special).encode


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
    """The ids of a text in which these special tokens are allowed."""
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
SPECIAL = ["<|pad|>", "<|end|>"]  # not sorted


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
        assert_equal(got, "hi<|pad|> hi!<|end|>", what="text")

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


def words_of(random, count=12):
    """Words of five letters, as many and as long in every draw."""
    return ["".join(random.choices("abc", k=5)) for _ in range(count)]


def several_ids(random):
    """Ids with the pair, without it, one, and none."""
    return [
        given([random.randrange(97, 99) for _ in range(9)], (97, 98), 256),
        given([1, 2, 3], (8, 8), 9),
        given([7], (7, 7), 8),
    ]


def trainings(random):
    """Words with frequencies, many and few."""
    return [given({word.encode(): random.randrange(1, 9) for word in words_of(random, n)}, 256 + n) for n in (6, 2)]


def texts(random):
    """Texts for one tokenizer, with a special token and without."""
    ranks = random_ranks(random, b"abc ", 20)
    calls = [given(f"{' '.join(words_of(random, n))}<|pad|>ab", True) for n in (9, 3)]
    return on((list(ranks), SPECIAL), *calls, given("cab<|end|>", False))


TestProperties = holds(
    case(
        "pretokenize",
        lambda random: [given(" ".join(words_of(random, n))) for n in (5, 2)],
        no_state_between_calls,
        result_is_new,
        expect=scan,
    ),
    case("merge", several_ids, no_state_between_calls, result_is_new, any_sequence(0), expect=replaced),
    case("train", trainings, no_state_between_calls, result_is_new, expect=recounted),
    case("vocabulary", lambda random: [given(HI, ["<z>", "<a>"]), given([], [])], any_iterable(0, 1), result_is_new),
    case(
        "encode_chunk",
        lambda random: [given(bytes(random.choices(b"abc", k=n)), random_ranks(random, b"abc", 9)) for n in (20, 5)],
        no_state_between_calls,
        result_is_new,
        expect=scanned,
    ),
    case(
        "decode",
        lambda random: [given([104, 105, 33], {i: bytes([i]) for i in range(256)})],
        any_iterable(0),
    ),
    case(
        "split_special",
        lambda random: [given(f"{random.choice('abc')}<z>b<a>", ["<z>", "<a>"]), given("ab", [])],
        any_sequence(1),
        result_is_new,
        expect=cut,
    ),
    case(
        "Tokenizer",
        texts,
        no_state_between_calls,
        result_is_new,
        made=encoder,
        expect=lambda merges, special, text, allowed: tokenized(text, merges, special if allowed else ()),
        target="Tokenizer.encode",
    ),
    case(
        "Tokenizer",
        lambda random: [given(HI, SPECIAL, [256, 257, 258, 259])],
        any_iterable(2),
        of=decoded,
        target="Tokenizer.decode",
    ),
    case(
        "Tokenizer",
        lambda random: [given("<z>hi hi<a>", 257, ["<z>", "<a>"], "hi<a>")],
        any_sequence(2),
        of=trained,
        target="Tokenizer.train",
    ),
)


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
