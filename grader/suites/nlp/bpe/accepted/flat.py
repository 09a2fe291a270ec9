"""One flat array for the whole corpus, words parted by -1; every pair knows its places. A binary heap by hand."""

import io
import json
import re
from array import array
from collections import defaultdict

SPLIT = re.compile(
    r"""
    '(?:s|t|re|ve|m|ll|d)
    | [ ]?[^\W\d_]+
    | [ ]?\d+
    | [ ]?(?:[^\s\w]|_)+
    | \s+(?!\S)
    | \s+
    """,
    re.VERBOSE,
)


class Heap:
    """A binary heap of tuples, smallest first."""

    def __init__(self, items=()):
        self.items = sorted(items)

    def push(self, item):
        items, i = self.items, len(self.items)
        items.append(item)
        while i and item < items[(i - 1) // 2]:
            items[i] = items[(i - 1) // 2]
            i = (i - 1) // 2
        items[i] = item

    def pop(self):
        items = self.items
        top, item = items[0], items.pop()
        if not items:
            return top
        i, child = 0, 1
        while child < len(items):
            if child + 1 < len(items) and items[child + 1] < items[child]:
                child += 1
            if item <= items[child]:
                break
            items[i] = items[child]
            i, child = child, 2 * child + 1
        items[i] = item
        return top

    def __bool__(self):
        return bool(self.items)


def pretokenize(text):
    chunks, start = [], 0
    while start < len(text):
        match = SPLIT.match(text, start)
        chunks.append(match[0])
        start = match.end()
    return chunks


def merge(ids, pair, new_id):
    result, skip = [], False
    for here, there in zip(ids, [*ids[1:], None]):
        if skip:
            skip = False
        elif (here, there) == pair:
            result.append(new_id)
            skip = True
        else:
            result.append(here)
    return result


def train(counts, vocab_size):
    if not vocab_size >= 256:
        raise ValueError(f"{vocab_size} is less than 256")
    flat, weight = array("l"), array("l")
    for word, n in counts.items():
        flat.extend([*word, -1])
        weight.extend([n] * (len(word) + 1))
    size = len(flat)
    after = array("l", range(1, size + 1))
    before = array("l", range(-1, size))
    total, places = defaultdict(int), defaultdict(set)

    def pair_at(i):
        if i < 0 or flat[i] < 0 or flat[after[i]] < 0:
            return None
        return flat[i], flat[after[i]]

    def change(i, sign, changed):
        pair = pair_at(i)
        if pair is not None:
            total[pair] += sign * weight[i]
            (places[pair].add if sign > 0 else places[pair].discard)(i)
            changed[pair] = total[pair]

    changed = {}
    for i in range(size - 1):
        change(i, 1, changed)
    heap = Heap((-n, pair) for pair, n in changed.items())
    merges = []
    while heap and len(merges) < vocab_size - 256:
        n, pair = heap.pop()
        if n == 0 or total[pair] != -n:
            continue
        merges.append(pair)
        changed = {}
        for i in sorted(places[pair]):
            if pair_at(i) != pair:
                continue
            j = after[i]
            for k in (before[i], i, j):
                change(k, -1, changed)
            flat[i] = 255 + len(merges)
            after[i] = after[j]
            before[after[j]] = i
            flat[j] = -2
            for k in (before[i], i):
                change(k, 1, changed)
        for other, n in changed.items():
            if n > 0:
                heap.push((-n, other))
    return merges


def vocabulary(merges, special=()):
    vocab, merges = {i: bytes([i]) for i in range(256)}, list(merges)
    for i, (a, b) in enumerate(merges):
        vocab[256 + i] = vocab[a] + vocab[b]
    vocab.update(enumerate((token.encode() for token in special), start=256 + len(list(merges))))
    return vocab


def encode_chunk(chunk, ranks):
    ids = array("l", [*chunk, -1])
    after = array("l", range(1, len(ids) + 1))
    before = array("l", range(-1, len(ids) - 1))
    heap = Heap()
    for i in range(len(chunk)):
        rank = ranks.get((ids[i], ids[i + 1]))
        if rank:
            heap.push((rank, i))
    while heap:
        rank, i = heap.pop()
        if ids[i] == -2 or ids[i] == -1 or ranks.get((ids[i], ids[after[i]])) != rank:
            continue
        j = after[i]
        ids[i], ids[j], after[i] = rank, -2, after[j]
        before[after[i]] = i
        rank = ranks.get((ids[i], ids[after[i]]))
        if rank:
            heap.push((rank, i))
        h = before[i]
        rank = ranks.get((ids[h], ids[i])) if h >= 0 else None
        if rank:
            heap.push((rank, h))
    return [i for i in ids if i >= 0]


def decode(ids, vocab):
    stream = io.BytesIO()
    for i in ids:
        stream.write(vocab[i])
    return stream.getvalue().decode("utf-8", errors="replace")


def split_special(text, special):
    at = 0
    pieces = [""]
    while at < len(text):
        fits = [token for token in special if text[at:].startswith(token)]
        if fits:
            best = max(fits, key=len)
            pieces += [best, ""]
            at += len(best)
        else:
            pieces[-1] += text[at]
            at += 1
    return list(filter(None, pieces))


class Tokenizer:
    def __init__(self, merges, special=()):
        self.merges, self.special = list(map(tuple, merges)), list(special)

    @property
    def ranks(self):
        return {pair: 256 + i for i, pair in enumerate(self.merges)}

    @classmethod
    def train(cls, text, vocab_size, special=()):
        counts = defaultdict(int)
        for piece in split_special(text, special):
            if piece not in special:
                for chunk in pretokenize(piece):
                    counts[chunk.encode()] += 1
        return cls(train(counts, vocab_size), special)

    def encode(self, text, allow_special=False):
        ids, ranks = [], self.ranks
        for piece in split_special(text, self.special if allow_special else ()):
            if allow_special and piece in self.special:
                ids.append(256 + len(self.merges) + self.special.index(piece))
            else:
                for chunk in pretokenize(piece):
                    ids.extend(encode_chunk(chunk.encode(), ranks))
        return ids

    def decode(self, ids):
        return decode(ids, vocabulary(self.merges, self.special))

    def save(self, path):
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"merges": self.merges, "special": self.special}, file, sort_keys=True)

    @classmethod
    def load(cls, path):
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        return cls(content["merges"], content["special"])
