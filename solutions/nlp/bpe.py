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
    ### BEGIN SOLUTION
    contraction = r"'(?:[stmd]|re|ve|ll)"
    letters, numbers, others = r" ?[^\W\d_]+", r" ?\d+", r" ?(?:[^\s\w]|_)+"
    spaces = r"\s+(?!\S)|\s+"  # the last space before a word belongs to the word
    return re.findall("|".join([contraction, letters, numbers, others, spaces]), text)
    ### END SOLUTION


def merge(ids: Sequence[int], pair: Pair, new_id: int) -> list[int]:
    """A new list in which `new_id` stands for every `pair`, found from left to right."""
    ### BEGIN SOLUTION
    merged = []
    i = 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged
    ### END SOLUTION


def train(counts: Mapping[bytes, int], vocab_size: int) -> list[Pair]:
    """The merges learned from distinct chunks and their frequencies, at most `vocab_size - 256`.

    Raises ValueError if `vocab_size` is below 256.
    """
    ### BEGIN SOLUTION
    if vocab_size < 256:
        raise ValueError(f"vocab_size must be at least 256, not {vocab_size}")
    words = [list(word) for word in counts]
    frequency = list(counts.values())
    total: Counter[Pair] = Counter()
    where: dict[Pair, set[int]] = defaultdict(set)  # the words that hold a pair
    for w, ids in enumerate(words):
        for pair in pairwise(ids):
            total[pair] += frequency[w]
            where[pair].add(w)
    heap = [(-count, pair) for pair, count in total.items()]
    heapq.heapify(heap)

    merges: list[Pair] = []
    while heap and len(merges) < vocab_size - 256:
        count, pair = heapq.heappop(heap)
        if -count != total[pair]:  # the count changed since; the right one is in the heap too
            continue
        merges.append(pair)
        new_id = 255 + len(merges)
        changed = set()
        for w in where.pop(pair):
            for old in pairwise(words[w]):
                total[old] -= frequency[w]
                changed.add(old)
            words[w] = merge(words[w], pair, new_id)
            for new in pairwise(words[w]):
                total[new] += frequency[w]
                where[new].add(w)
                changed.add(new)
        for pair in changed:
            if total[pair]:
                heapq.heappush(heap, (-total[pair], pair))
    return merges
    ### END SOLUTION


def vocabulary(merges: Iterable[Pair], special: Iterable[str] = ()) -> dict[int, bytes]:
    """The bytes of every id: the 256 bytes, the merges, the special tokens."""
    ### BEGIN SOLUTION
    vocab = {byte: bytes([byte]) for byte in range(256)}
    for left, right in merges:
        vocab[len(vocab)] = vocab[left] + vocab[right]
    for token in special:
        vocab[len(vocab)] = token.encode()
    return vocab
    ### END SOLUTION


def encode_chunk(chunk: bytes, ranks: Mapping[Pair, int]) -> list[int]:
    """The ids of one chunk. `ranks` maps a pair to the id it becomes; lower ids are merged first."""
    ### BEGIN SOLUTION
    n = len(chunk)
    ids = [*chunk, -1]  # -1 is no token: it ends the list, and marks what was swallowed
    left, right = [*range(-1, n)], [*range(1, n + 1), n]
    heap = [(ranks[pair], i) for i, pair in enumerate(pairwise(ids)) if pair in ranks]
    heapq.heapify(heap)
    while heap:
        token, i = heapq.heappop(heap)
        j = right[i]
        if ranks.get((ids[i], ids[j])) != token:  # one of the two was merged since
            continue
        ids[i], ids[j] = token, -1
        right[i] = right[j]
        left[right[j]] = i
        for k in (left[i], i):
            pair = (ids[k], ids[right[k]])
            if pair in ranks:
                heapq.heappush(heap, (ranks[pair], k))
    return [token for token in ids if token >= 0]
    ### END SOLUTION


def decode(ids: Iterable[int], vocab: Mapping[int, bytes]) -> str:
    """The text of `ids`. Raises KeyError for an id that `vocab` does not hold."""
    ### BEGIN SOLUTION
    return b"".join(vocab[i] for i in ids).decode("utf-8", errors="replace")
    ### END SOLUTION


def split_special(text: str, special: Sequence[str]) -> list[str]:
    """`text` cut into special tokens and what lies between them, without empty pieces."""
    ### BEGIN SOLUTION
    if not special:
        return [text] if text else []
    longest_first = sorted(special, key=len, reverse=True)
    pattern = "|".join(re.escape(token) for token in longest_first)
    return [piece for piece in re.split(f"({pattern})", text) if piece]
    ### END SOLUTION


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
        ### BEGIN SOLUTION
        counts: Counter[bytes] = Counter()
        for piece in split_special(text, special):
            if piece not in special:
                counts.update(chunk.encode() for chunk in pretokenize(piece))
        return cls(train(counts, vocab_size), special)
        ### END SOLUTION

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """The ids of `text`; special tokens in it are ordinary text unless they are allowed."""
        ### BEGIN SOLUTION
        ids = []
        for piece in split_special(text, self.special if allow_special else []):
            if allow_special and piece in self.special_ids:
                ids.append(self.special_ids[piece])
            else:
                for chunk in pretokenize(piece):
                    ids += encode_chunk(chunk.encode(), self.ranks)
        return ids
        ### END SOLUTION

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, special tokens included."""
        ### BEGIN SOLUTION
        return decode(ids, self.vocab)
        ### END SOLUTION

    def save(self, path: str) -> None:
        """Write the file that `load` reads: JSON, `{"merges": [[left, right], ...], "special": ["...", ...]}`."""
        ### BEGIN SOLUTION
        content = {"merges": self.merges, "special": self.special}
        Path(path).write_text(json.dumps(content), encoding="utf-8")
        ### END SOLUTION

    @classmethod
    def load(cls, path: str) -> Tokenizer:
        """The tokenizer in a file that `save` wrote."""
        ### BEGIN SOLUTION
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls([(left, right) for left, right in content["merges"]], content["special"])
        ### END SOLUTION
