"""Classes throughout: words and tokens as linked nodes, counts kept place by place."""

import heapq
import json
import re


class Node:
    __slots__ = ("alive", "id", "next", "position", "previous", "weight")

    def __init__(self, id, position, weight):
        self.id, self.position, self.weight = id, position, weight
        self.previous = self.next = None
        self.alive = True


class Chain:
    """A doubly linked list of tokens."""

    def __init__(self, data, weight=1, start=0):
        nodes = [Node(byte, start + i, weight) for i, byte in enumerate(data)]
        for a, b in zip(nodes, nodes[1:]):
            a.next, b.previous = b, a
        self.nodes = nodes

    def ids(self):
        return [node.id for node in self.nodes if node.alive]


def join(node, new_id):
    """Merge a node with the one after it."""
    gone = node.next
    gone.alive = False
    node.id = new_id
    node.next = gone.next
    if gone.next is not None:
        gone.next.previous = node


LETTER, NUMBER = r"[^\W\d_]", r"\d"
PATTERN = re.compile(
    rf"'s|'t|'re|'ve|'m|'ll|'d| ?{LETTER}+| ?{NUMBER}+| ?(?:(?!{LETTER}|{NUMBER})\S)+|\s+(?!\S)|\s+"
)


def pretokenize(text):
    return [match.group() for match in PATTERN.finditer(text)]


def merge(ids, pair, new_id):
    out = []
    for x in ids:
        if out and out[-1] is not None and (out[-1], x) == tuple(pair):
            out[-1:] = [None, new_id]  # a fence keeps the new id from matching as a first half
            out.append(None)
        else:
            out.append(x)
    return [x for x in out if x is not None]


class Trainer:
    def __init__(self, counts):
        self.count, self.places, self.touched = {}, {}, set()
        start = 0
        for word, weight in counts.items():
            for node in Chain(word, weight, start).nodes:
                self.add(node)
            start += len(word)
        self.queue = [(-n, pair) for pair, n in self.count.items()]
        heapq.heapify(self.queue)

    def add(self, node):
        if node is not None and node.next is not None:
            pair = (node.id, node.next.id)
            self.count[pair] = self.count.get(pair, 0) + node.weight
            self.places.setdefault(pair, []).append(node)
            self.touched.add(pair)

    def remove(self, node):
        if node is not None and node.next is not None:
            pair = (node.id, node.next.id)
            self.count[pair] -= node.weight
            self.touched.add(pair)

    def best(self):
        while self.queue:
            n, pair = heapq.heappop(self.queue)
            if self.count[pair] == -n and n:
                return pair
        return None

    def apply(self, pair, new_id):
        self.touched = set()
        for node in sorted(self.places.pop(pair), key=lambda node: node.position):
            if not node.alive or node.next is None or (node.id, node.next.id) != pair:
                continue
            for old in (node.previous, node, node.next):
                self.remove(old)
            join(node, new_id)
            for new in (node.previous, node):
                self.add(new)
        for changed in self.touched:
            if self.count[changed]:
                heapq.heappush(self.queue, (-self.count[changed], changed))


def train(counts, vocab_size):
    if vocab_size < 256:
        raise ValueError("too small for the bytes")
    trainer, merges = Trainer(counts), []
    for new_id in range(256, vocab_size):
        pair = trainer.best()
        if pair is None:
            break
        merges.append(pair)
        trainer.apply(pair, new_id)
    return merges


def vocabulary(merges, special=()):
    table = [bytes((b,)) for b in range(256)]
    for a, b in merges:
        table.append(table[a] + table[b])
    table.extend(token.encode("utf-8") for token in special)
    return dict(enumerate(table))


def encode_chunk(chunk, ranks):
    chain = Chain(chunk)
    queue = []

    def offer(node):
        if node is not None and node.next is not None and (node.id, node.next.id) in ranks:
            heapq.heappush(queue, (ranks[node.id, node.next.id], node.position, node.id, node.next.id))

    for node in chain.nodes:
        offer(node)
    while queue:
        new_id, position, a, b = heapq.heappop(queue)
        node = chain.nodes[position]
        if node.alive and node.next is not None and (node.id, node.next.id) == (a, b):
            join(node, new_id)
            offer(node.previous)
            offer(node)
    return chain.ids()


def decode(ids, vocab):
    buffer = bytearray()
    for i in ids:
        buffer += vocab[i]
    return buffer.decode(errors="replace")


def split_special(text, special):
    pieces, plain, i = [], "", 0
    ordered = sorted(special, key=lambda token: -len(token))
    while i < len(text):
        for token in ordered:
            if text.startswith(token, i):
                pieces += [plain, token] if plain else [token]
                plain = ""
                i += len(token)
                break
        else:
            plain += text[i]
            i += 1
    return pieces + [plain] if plain else pieces


class Tokenizer:
    def __init__(self, merges, special=()):
        self.merges, self.special = [tuple(pair) for pair in merges], tuple(special)
        self.vocab = vocabulary(self.merges, self.special)
        self.ranks = {pair: 256 + i for i, pair in enumerate(self.merges)}

    @classmethod
    def train(cls, text, vocab_size, special=()):
        counts = {}
        for piece in split_special(text, special):
            for chunk in [] if piece in special else pretokenize(piece):
                data = chunk.encode()
                counts[data] = counts.get(data, 0) + 1
        return cls(train(counts, vocab_size), special)

    def encode(self, text, allow_special=False):
        if not allow_special:
            return self._ordinary(text)
        first = 256 + len(self.merges)
        ids = []
        for piece in split_special(text, self.special):
            ids += [first + self.special.index(piece)] if piece in self.special else self._ordinary(piece)
        return ids

    def _ordinary(self, text):
        return [i for chunk in pretokenize(text) for i in encode_chunk(chunk.encode(), self.ranks)]

    def decode(self, ids):
        return decode(ids, self.vocab)

    def save(self, path):
        with open(path, "w") as file:
            json.dump({"special": list(self.special), "merges": [list(pair) for pair in self.merges]}, file, indent=1)

    @classmethod
    def load(cls, path):
        with open(path) as file:
            return cls(**json.load(file))
