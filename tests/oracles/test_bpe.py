"""The solution of nlp/bpe against Hugging Face's `tokenizers`: its trainer, its encoder and its decoder.

`tokenizers` breaks ties by the smallest pair of ids too, but numbers the bytes by the characters that GPT-2 shows them
as. For the printable ASCII characters that order is the bytes' own, so ties agree on words made of these.
"""

import importlib.util
import random
from pathlib import Path
from types import ModuleType

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

ROOT = Path(__file__).parents[2]
SPECIAL = ["<|end|>", "<|", "<|end|>x"]
WORDS = ["low", "lower", "lowest", "new", "newest", "wide", "widest's", "banana", "bananas", "aaaa", "I'm", "they'll"]
WORDS += ["déjà", "naïve", "straße", "も", "😀😀", "2024", "४२", "__x__", "ok!?", "(a)", "DON'T"]
GAPS = [" ", " ", "  ", "\n", "\n\n ", "\t", "", ", "]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bpe_solution", ROOT / "solutions" / "nlp" / "bpe.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bpe = load()


def shown() -> dict[int, str]:
    """The character that GPT-2 shows for each byte: itself if it is printable in Latin-1, else one from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


SHOWN = shown()


def theirs(merges: list[tuple[int, int]], special: list[str]) -> Tokenizer:
    """A `tokenizers` tokenizer with the same ids."""
    text = {i: "".join(SHOWN[byte] for byte in token) for i, token in bpe.vocabulary(merges).items()}
    assert len(set(text.values())) == len(text), "two ids with the same bytes do not fit into its vocabulary"
    vocab = {token: i for i, token in text.items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[(text[a], text[b]) for a, b in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def sentence(rng: random.Random, length: int) -> str:
    return "".join(rng.choice(WORDS) + rng.choice(GAPS) for _ in range(length))


@pytest.mark.parametrize("seed", range(10))
def test_chunks(seed: int) -> None:
    text = sentence(random.Random(seed), 80)
    spans = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True).pre_tokenize_str(text)
    # a span is counted in characters of the text
    assert bpe.pretokenize(text) == [text[start:end] for _, (start, end) in spans]


@pytest.mark.parametrize("seed", range(10))
def test_encoding(seed: int) -> None:
    rng = random.Random(seed)
    mine = bpe.Tokenizer.train(sentence(rng, 150), 340, SPECIAL)
    other = theirs(mine.merges, SPECIAL)
    text = "<|end|>".join(sentence(rng, 30) for _ in range(4)) + "<|end|>x<|"
    ids = mine.encode(text, allow_special=True)
    assert ids == other.encode(text).ids
    assert mine.decode(ids) == text == other.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("ids", [[0xF0, 0x9F, 0x98, 0x80], [0x61, 0xF0, 0x9F], [0x80, 0x62, 0xFF], [0xE2, 0x82, 0x78]])
def test_decoding(ids: list[int]) -> None:
    assert bpe.decode(ids, bpe.vocabulary([])) == theirs([], []).decode(ids)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("alphabet", ["ab", "abc", "ABCDab.!", "abcdefghijklmnop"])
def test_training(seed: int, alphabet: str) -> None:
    rng = random.Random(seed)
    words = ["".join(rng.choices(alphabet, k=rng.randint(1, 8))) for _ in range(60)]
    counts: dict[bytes, int] = {}
    for word in words:
        counts[word.encode()] = counts.get(word.encode(), 0) + 1
    merges = bpe.train(counts, 300)

    trainer = trainers.BpeTrainer(
        vocab_size=300, min_frequency=0, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    other = Tokenizer(models.BPE())  # no pre-tokenizer: every word is a text of its own
    other.train_from_iterator(words, trainer)
    vocab = other.get_vocab()
    learned = sorted((i, token) for token, i in vocab.items() if i >= 256)
    mine = bpe.vocabulary(merges)
    assert [token.encode() for _, token in learned] == [mine[256 + i] for i in range(len(merges))]
