"""No heapq: training keeps pairs in buckets by count, encoding keeps places in buckets by rank."""

import json
from bisect import insort


def is_letter(c):
    return c.isalnum() and not c.isdecimal()


def is_other(c):
    return not c.isspace() and not c.isalnum()


def pretokenize(text):
    """A scanner without regular expressions."""
    out = []
    i = 0
    while i < len(text):
        end = None
        for short in ("'s", "'t", "'m", "'d", "'re", "'ve", "'ll"):
            if text[i : i + len(short)] == short:
                end = i + len(short)
        if end is None:
            first = i + 1 if text[i] == " " and i + 1 < len(text) else i
            for test in (is_letter, str.isdecimal, is_other):
                if test(text[first]):
                    end = first
                    while end < len(text) and test(text[end]):
                        end += 1
                    break
        if end is None:
            end = i
            while end < len(text) and text[end].isspace():
                end += 1
            if end < len(text) and end - i > 1:
                end -= 1
        out.append(text[i:end])
        i = end
    return out


def merge(ids, pair, new_id):
    a, b = pair
    ids = list(ids)
    write = read = 0
    while read < len(ids):
        if ids[read] == a and read + 1 < len(ids) and ids[read + 1] == b:
            ids[write] = new_id
            read += 2
        else:
            ids[write] = ids[read]
            read += 1
        write += 1
    del ids[write:]
    return ids


def train(counts, vocab_size):
    merges_wanted = vocab_size - 256
    if merges_wanted < 0:
        raise ValueError("vocab_size is below 256")
    words = {number: [list(word), n] for number, (word, n) in enumerate(counts.items())}
    count, holders = {}, {}
    buckets = {}  # count -> pairs that have it
    levels = []  # the counts in use, ascending

    def move(pair, change):
        old = count.get(pair, 0)
        new = old + change
        if old:
            buckets[old].discard(pair)
        count[pair] = new
        if new:
            if new not in buckets:
                buckets[new] = set()
                insort(levels, new)
            buckets[new].add(pair)

    for number, (ids, n) in words.items():
        for i in range(1, len(ids)):
            pair = (ids[i - 1], ids[i])
            move(pair, n)
            holders.setdefault(pair, {})[number] = True

    merges = []
    while len(merges) < merges_wanted:
        while levels and not buckets[levels[-1]]:
            del buckets[levels.pop()]
        if not levels:
            break
        best = min(buckets[levels[-1]])
        merges.append(best)
        for number in list(holders.pop(best)):
            ids, n = words[number]
            for pair in zip(ids, ids[1:]):
                move(pair, -n)
            ids = words[number][0] = merge(ids, best, 255 + len(merges))
            for pair in zip(ids, ids[1:]):
                move(pair, n)
                holders.setdefault(pair, {})[number] = True
    return merges


def vocabulary(merges, special=()):
    vocab = {}
    for byte in range(256):
        vocab[byte] = bytes([byte])
    for number, (a, b) in enumerate(merges, start=256):
        vocab[number] = b"".join([vocab[a], vocab[b]])
    for number, token in enumerate(special, start=len(vocab)):
        vocab[number] = bytes(token, "utf-8")
    return vocab


def encode_chunk(chunk, ranks):
    """All places of the lowest rank are merged at once; merging makes only higher ranks."""
    ids = list(chunk)
    n = len(ids)
    following = list(range(1, n + 1))
    preceding = list(range(-1, n - 1))
    places, waiting = {}, []  # rank -> places, and the ranks in use, descending

    def note(i):
        j = following[i]
        if i >= 0 and j < n:
            rank = ranks.get((ids[i], ids[j]))
            if rank is not None:
                if rank not in places:
                    places[rank] = []
                    insort(waiting, -rank)
                places[rank].append(i)

    for i in range(n):
        note(i)
    while waiting:
        rank = -waiting.pop()
        for i in sorted(places.pop(rank)):
            j = following[i]
            if ids[i] is None or j >= n or ranks.get((ids[i], ids[j])) != rank:
                continue
            ids[i], ids[j] = rank, None
            following[i] = following[j]
            if following[i] < n:
                preceding[following[i]] = i
            if preceding[i] >= 0:
                note(preceding[i])
            note(i)
    return [x for x in ids if x is not None]


def decode(ids, vocab):
    joined = b""
    pieces = []
    for i in ids:
        pieces.append(vocab[i])
    return joined.join(pieces).decode("utf8", "replace")


def split_special(text, special):
    rest, out = text, []
    while rest:
        hits = [(rest.find(token), -len(token), token) for token in special if token in rest]
        if not hits:
            out.append(rest)
            break
        at, _, token = min(hits)
        if at:
            out.append(rest[:at])
        out.append(token)
        rest = rest[at + len(token) :]
    return out


class Tokenizer:
    def __init__(self, merges, special=()):
        self.merges = list(merges)
        self.special = list(special)
        self.ranks = {tuple(pair): i for i, pair in enumerate(self.merges, start=256)}
        self.vocab = vocabulary(self.merges, self.special)
        self.special_ids = {token: 256 + len(self.ranks) + i for i, token in enumerate(self.special)}

    @classmethod
    def train(cls, text, vocab_size, special=()):
        chunks = []
        for piece in split_special(text, special):
            if piece not in set(special):
                chunks += pretokenize(piece)
        counts = {}
        for chunk in chunks:
            counts[chunk.encode()] = counts.setdefault(chunk.encode(), 0) + 1
        return cls(train(counts, vocab_size), special)

    def encode(self, text, allow_special=False):
        out = []
        pieces = split_special(text, self.special) if allow_special else [text]
        for piece in pieces:
            if allow_special and piece in self.special:
                out.append(self.special_ids[piece])
                continue
            for chunk in pretokenize(piece):
                out.extend(encode_chunk(chunk.encode("utf-8"), self.ranks))
        return out

    def decode(self, ids):
        return decode(ids, self.vocab)

    def save(self, path):
        with open(path, "wb") as file:
            file.write(json.dumps({"merges": [[int(a), int(b)] for a, b in self.merges], "special": self.special}).encode())

    @classmethod
    def load(cls, path):
        with open(path, "rb") as file:
            saved = json.load(file)
        merges = []
        for a, b in saved["merges"]:
            merges.append((a, b))
        return cls(merges, saved["special"])
