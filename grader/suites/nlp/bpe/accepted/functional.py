"""Functions and comprehensions: the largest count by `max` over all pairs, words rebuilt only where the pair is."""

import json
import re
from collections import Counter
from functools import reduce
from heapq import heappop, heappush
from itertools import chain


def pretokenize(text):
    found = re.finditer(r"('(?:s|t|re|ve|m|ll|d)| ?[^\W\d_]+| ?[\d]+| ?(?:_|[^\w\s])+|\s+(?!\S)|\s+)", text)
    return [m[0] for m in found]


def neighbours(ids):
    return list(zip(ids, ids[1:]))


def merge(ids, pair, new_id):
    def step(state, x):
        done, held = state
        if held is None:
            return done, [x]
        if (held[0], x) == pair:
            done.append(new_id)
            return done, None
        done.append(held[0])
        return done, [x]

    done, held = reduce(step, ids, ([], None))
    return done + (held or [])


def train(counts, vocab_size):
    if vocab_size < 256:
        raise ValueError(vocab_size)
    words = [(tuple(word), n) for word, n in counts.items()]
    index = {}
    totals = Counter()
    for number, (ids, n) in enumerate(words):
        for pair in neighbours(ids):
            totals[pair] += n
            index.setdefault(pair, set()).add(number)
    merges = []
    for new_id in range(256, vocab_size):
        totals = +totals
        if not totals:
            break
        best = max(totals, key=lambda pair: (totals[pair], -pair[0], -pair[1]))
        merges.append(best)
        for number in index.pop(best):
            ids, n = words[number]
            after = tuple(merge(ids, best, new_id))
            totals.subtract({pair: n * k for pair, k in Counter(neighbours(ids)).items()})
            totals.update({pair: n * k for pair, k in Counter(neighbours(after)).items()})
            for pair in neighbours(after):
                index.setdefault(pair, set()).add(number)
            words[number] = (after, n)
    return merges


def vocabulary(merges, special=()):
    grown = reduce(lambda table, pair: {**table, len(table): table[pair[0]] + table[pair[1]]}, merges, base())
    return grown | {len(grown) + i: token.encode() for i, token in enumerate(special)}


def base():
    return {b: b.to_bytes(1, "little") for b in range(256)}


def encode_chunk(chunk, ranks):
    token = dict(enumerate(chunk))
    after = {i: i + 1 for i in token}
    before = {i + 1: i for i in token}

    def candidate(i):
        j = after.get(i)
        pair = (token.get(i), token.get(j))
        return [(ranks[pair], i, j)] if pair in ranks else []

    queue = sorted(chain.from_iterable(candidate(i) for i in token))
    while queue:
        new, i, j = heappop(queue)
        if after.get(i) != j or ranks.get((token.get(i), token.get(j))) != new:
            continue
        token[i] = new
        del token[j]
        after[i] = after.pop(j)
        before[after[i]] = i
        for fresh in candidate(before.get(i)) + candidate(i):
            heappush(queue, fresh)
    return [token[i] for i in sorted(token)]


def decode(ids, vocab):
    return str(b"".join(map(vocab.__getitem__, ids)), "utf-8", "replace")


def split_special(text, special):
    if not special:
        return [text][: len(text)]
    either = "|".join(map(re.escape, sorted(special, key=len)[::-1]))
    cuts = [0, *chain.from_iterable(m.span() for m in re.finditer(either, text)), len(text)]
    return [text[a:b] for a, b in zip(cuts, cuts[1:]) if a < b]


class Tokenizer:
    def __init__(self, merges, special=()):
        self.merges = merges
        self.special = special
        self.ranks = dict(zip(map(tuple, merges), range(256, 256 + len(merges))))
        self.vocab = vocabulary(merges, special)
        self.special_ids = dict(zip(special, range(256 + len(merges), 256 + len(merges) + len(special))))

    @classmethod
    def train(cls, text, vocab_size, special=()):
        plain = (piece for piece in split_special(text, special) if piece not in special)
        chunks = chain.from_iterable(map(pretokenize, plain))
        return cls(train(Counter(map(str.encode, chunks)), vocab_size), special)

    def encode(self, text, allow_special=False):
        names = self.special_ids if allow_special else {}
        return [
            i
            for piece in split_special(text, list(names))
            for i in ([names[piece]] if piece in names else self._plain(piece))
        ]

    def _plain(self, text):
        cache = {}
        for chunk in pretokenize(text):
            data = chunk.encode()
            if data not in cache:
                cache[data] = encode_chunk(data, self.ranks)
            yield from cache[data]

    def decode(self, ids):
        return decode(ids, self.vocab)

    def save(self, path):
        open_and_write(path, json.dumps(dict(merges=self.merges, special=list(self.special)), ensure_ascii=False))

    @classmethod
    def load(cls, path):
        with open(path, encoding="utf-8") as file:
            saved = json.loads(file.read())
        return cls(list(map(tuple, saved["merges"])), saved["special"])


def open_and_write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
