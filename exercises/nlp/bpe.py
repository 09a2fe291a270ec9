r"""# Byte-pair encoding

Write the tokenizer of GPT-2: byte-level BPE, from the text it is trained on to the ids a model reads, and back.
BPE began as a compressor (Gage, 1994, "A New Algorithm for Data Compression"): replace the most frequent pair of
neighbours by a new symbol, and again. Sennrich et al. (2016, arXiv:1508.07909, algorithm 1) made it a vocabulary, by
remembering the replacements and never merging across words. GPT-2 (Radford et al., 2019, section 2.2) starts from the
256 bytes of UTF-8, so that no text is ever unknown.

**Ids.** Byte $b$ has id $b$. Merge number $i = 0, 1, \dots$ makes id $256 + i$ of a pair of smaller ids. Special
tokens follow the last merge, in the order given.

**Pre-tokenising** cuts the text into chunks that no merge crosses, with GPT-2's pattern (alternatives in this order):

    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+

The standard library's `re` has no `\p`. Here a number $\p{N}$ is what `\d` matches, and a letter $\p{L}$ is what `\w`
matches but for numbers and the underscore. So `_` is punctuation, and every character falls into some chunk.

**Training** gets the count of each distinct chunk and makes `vocab_size - 256` merges, or fewer if no pair is left:

- The count of a pair is the number of neighbouring places that hold it, times the chunk's frequency. Places may
  overlap, as in subword-nmt and Hugging Face's trainer: `aaaa` holds (a, a) three times, although a merge replaces two.
- The pair with the largest count is merged. **Ties go to the smallest pair of ids**, compared as tuples.
- A merge replaces the pair everywhere, from left to right.
- Pairs that occur once are merged like any other. `vocab_size` below 256 is a `ValueError`.

**Encoding** a chunk starts from its bytes and merges, as long as some neighbours are a known pair, the one with the
lowest id ("rank"); among equal ones the leftmost. That is neither the longest match nor the first pair that fits.

**Decoding** joins the bytes of all tokens first and decodes once, since a character may be spread over several tokens;
what is not UTF-8 becomes U+FFFD (`errors="replace"`).

**Special tokens** are whole strings such as `<|end|>`. Where several fit, the leftmost wins, then the longest. They are
recognised by `encode` only with `allow_special=True`: otherwise a user could type control tokens. No merge is learned
from them or across them.

**Cost.**

- A merge in training looks only at the words that hold its pair: counts and an index of words by pair are kept up to
  date. (It may look at every *pair* to find the largest count.) A word's frequency costs nothing.
- Encoding a chunk of $n$ bytes takes $O(n \log n)$ steps, however many merges there are: a heap of candidates over a
  linked list.

Rules: the standard library only; no `tokenizers`, `tiktoken`, `sentencepiece` or `torch`. Arguments are left as they
are, results are new, and one call does not affect the next. An `Iterable` may be one that can be read once only, and a
`Sequence` may be a list or a tuple.

>>> pretokenize("I'm  not_here 42!")
['I', "'m", ' ', ' not', '_', 'here', ' 42', '!']
>>> merge([7, 7, 7, 8], (7, 7), 256)
[256, 7, 8]

Sennrich's example. First e + s and s + t both occur nine times, and (101, 115) is the smaller pair:

>>> train({b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}, 259)
[(101, 115), (256, 116), (108, 111)]

With the merges h + i and then t + h, `thi` is t, hi:

>>> encode_chunk(b"thi", {(104, 105): 256, (116, 104): 257})
[116, 256]
>>> decode([195, 169, 195], vocabulary([]))
'é�'
>>> split_special("a<|end|>b", ["<|end|>"])
['a', '<|end|>', 'b']
>>> tokenizer = Tokenizer.train("low low lower", 258, special=["<|end|>"])
>>> tokenizer.encode("low<|end|>", allow_special=True)
[257, 258]
>>> tokenizer.decode([257, 258])
'low<|end|>'
"""

from __future__ import annotations

import heapq
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

Pair = tuple[int, int]


def pretokenize(text: str) -> list[str]:
    """The chunks of `text`, in order; joined they are `text` again."""
    # YOUR CODE HERE
    raise NotImplementedError()


def merge(ids: Sequence[int], pair: Pair, new_id: int) -> list[int]:
    """A new list in which `new_id` stands for every `pair`, found from left to right."""
    # YOUR CODE HERE
    raise NotImplementedError()


def train(counts: Mapping[bytes, int], vocab_size: int) -> list[Pair]:
    """The merges learned from distinct chunks and their frequencies, at most `vocab_size - 256`.

    Raises ValueError if `vocab_size` is below 256.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def vocabulary(merges: Iterable[Pair], special: Iterable[str] = ()) -> dict[int, bytes]:
    """The bytes of every id: the 256 bytes, the merges, the special tokens."""
    # YOUR CODE HERE
    raise NotImplementedError()


def encode_chunk(chunk: bytes, ranks: Mapping[Pair, int]) -> list[int]:
    """The ids of one chunk. `ranks` maps a pair to the id it becomes; lower ids are merged first."""
    # YOUR CODE HERE
    raise NotImplementedError()


def decode(ids: Iterable[int], vocab: Mapping[int, bytes]) -> str:
    """The text of `ids`. Raises KeyError for an id that `vocab` does not hold."""
    # YOUR CODE HERE
    raise NotImplementedError()


def split_special(text: str, special: Sequence[str]) -> list[str]:
    """`text` cut into special tokens and what lies between them, without empty pieces."""
    # YOUR CODE HERE
    raise NotImplementedError()


class Tokenizer:
    """Merges and special tokens (distinct, not empty), put to work."""

    def __init__(self, merges: Iterable[Pair], special: Iterable[str] = ()) -> None:
        self.merges = list(merges)
        self.special = list(special)
        self.ranks = {pair: 256 + i for i, pair in enumerate(self.merges)}
        self.special_ids = {token: 256 + len(self.merges) + i for i, token in enumerate(self.special)}
        self.vocab = vocabulary(self.merges, self.special)

    @classmethod
    def train(cls, text: str, vocab_size: int, special: Sequence[str] = ()) -> Tokenizer:
        """A tokenizer trained on `text`; `vocab_size` counts bytes and merges, special tokens come on top."""
        # YOUR CODE HERE
        raise NotImplementedError()

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """The ids of `text`; special tokens in it are ordinary text unless they are allowed."""
        # YOUR CODE HERE
        raise NotImplementedError()

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, special tokens included."""
        # YOUR CODE HERE
        raise NotImplementedError()

    def save(self, path: str) -> None:
        """Write the file that `load` reads: JSON, `{"merges": [[left, right], ...], "special": ["...", ...]}`."""
        # YOUR CODE HERE
        raise NotImplementedError()

    @classmethod
    def load(cls, path: str) -> Tokenizer:
        """The tokenizer in a file that `save` wrote."""
        # YOUR CODE HERE
        raise NotImplementedError()
