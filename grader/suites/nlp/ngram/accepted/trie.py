"""A trie over contexts, read from the last token backwards: each node holds the words that followed, and their sum."""

import math


class Node:
    __slots__ = ("older", "words", "total")

    def __init__(self):
        self.older = {}
        self.words = {}
        self.total = 0

    def add(self, word, count=1):
        self.words[word] = self.words.get(word, 0) + count
        self.total += count

    def child(self, token):
        node = self.older.get(token)
        if node is None:
            node = self.older[token] = Node()
        return node


def build_vocabulary(sentences, min_count=1):
    seen = {}
    for sentence in sentences:
        for word in sentence:
            seen[word] = seen.get(word, 0) + 1
    return {"</s>", "<unk>"}.union(word for word, count in seen.items() if not count < min_count)


def replace_unknown(tokens, vocabulary):
    result = []
    for token in tokens:
        if token == "<s>" or token in vocabulary:
            result.append(token)
        else:
            result.append("<unk>")
    return result


def pad(sentence, n):
    if n < 1:
        raise ValueError("n < 1")
    return ["<s>" for _ in range(n - 1)] + [*sentence, "</s>"]


def grow(sentences, n):
    root = Node()
    for sentence in sentences:
        line = pad(sentence, n)
        for i in range(n - 1, len(line)):
            node = root
            node.add(line[i])
            for back in range(1, n):
                node = node.child(line[i - back])
                node.add(line[i])
    return root


def count_ngrams(sentences, n):
    table = {}
    stack = [((), grow(sentences, n))]
    while stack:
        context, node = stack.pop()
        if node.words:
            table[context] = node.words
        for token, older in node.older.items():
            stack.append(((token, *context), older))
    return table


class NGramModel:
    def __init__(self, counts, vocabulary, n):
        self.vocabulary = frozenset(vocabulary)
        self.n = n
        self.root = Node()
        for context, followers in counts.items():
            node = self.find(context, make=True)
            for word, count in followers.items():
                node.add(word, count)

    def find(self, context, make=False):
        node = self.root
        for token in reversed(context):
            node = node.child(token) if make else node.older.get(token)
            if node is None:
                return None
        return node

    def path(self, context):
        """The nodes of the empty context, of the last token, of the last two, ... as far as they were seen."""
        node, found = self.root, []
        for token in (*reversed(context), None):
            if not node.total:
                break
            found.append(node)
            node = node.older.get(token)
            if node is None:
                break
        return found

    def total(self, context):
        node = self.find(context)
        return node.total if node else 0

    def probability(self, word, context):
        first = len(context) - (self.n - 1)
        context = context[first:] if first > 0 else context
        if word not in self.vocabulary:
            word = "<unk>"
        return self.estimate(word, replace_unknown(context, self.vocabulary))


class MLE(NGramModel):
    def estimate(self, word, context):
        node = self.find(context)
        if node is None or not node.total:
            return 0.0
        return node.words.get(word, 0) / node.total


class AddK(NGramModel):
    def __init__(self, counts, vocabulary, n, k=1.0):
        if not k > 0:
            raise ValueError("k")
        NGramModel.__init__(self, counts, vocabulary, n)
        self.k = k

    def estimate(self, word, context):
        node = self.find(context) or Node()
        return (node.words.get(word, 0) + self.k) / (node.total + self.k * len(self.vocabulary))


class JelinekMercer(NGramModel):
    def __init__(self, counts, vocabulary, n, weights):
        if len(weights) != n or any(not 0 <= w <= 1 for w in weights):
            raise ValueError("weights")
        NGramModel.__init__(self, counts, vocabulary, n)
        self.weights = weights

    def estimate(self, word, context):
        p = 1 / len(self.vocabulary)
        for weight, node in zip(self.weights, self.path(context)):
            p = weight * node.words.get(word, 0) / node.total + (1 - weight) * p
        return p


class StupidBackoff(NGramModel):
    def __init__(self, counts, vocabulary, n, alpha=0.4):
        NGramModel.__init__(self, counts, vocabulary, n)
        self.alpha = alpha

    def estimate(self, word, context):
        best = 0.0
        for depth, node in enumerate(self.path(context)):
            if word in node.words:
                best = self.alpha ** (len(context) - depth) * node.words[word] / node.total
        return best


class KneserNey(NGramModel):
    def __init__(self, counts, vocabulary, n, discount=0.75):
        if not 0 <= discount <= 1:
            raise ValueError("discount")
        NGramModel.__init__(self, counts, vocabulary, n)
        self.discount = discount
        self.count_continuations(self.root, n - 1)

    def count_continuations(self, node, levels):
        """A node's words become the number of its children that know them; the deepest nodes stay."""
        if levels == 0:
            return
        node.words, node.total = {}, 0
        for child in node.older.values():
            for word in child.words:
                node.add(word)
            self.count_continuations(child, levels - 1)

    def estimate(self, word, context):
        p, d = 1 / len(self.vocabulary), self.discount
        for node in self.path(context):
            count = node.words.get(word, 0)
            p = (max(count - d, 0) + d * len(node.words) * p) / node.total
        return p


def log_probabilities(model, sentence):
    line = pad(sentence, model.n)
    result = []
    for position in range(len(sentence) + 1):
        end = position + model.n - 1
        p = model.probability(line[end], line[position:end])
        try:
            result.append(math.log(p))
        except ValueError:
            result.append(float("-inf"))
    return result


def perplexity(model, sentences):
    logs = []
    for sentence in sentences:
        logs += log_probabilities(model, sentence)
    try:
        return math.exp(-math.fsum(logs) / len(logs))
    except ZeroDivisionError:
        raise ValueError("no sentences") from None


def sample(model, uniforms):
    words = sorted(model.vocabulary)
    line = ["<s>"] * (model.n - 1)
    for u in uniforms:
        shares = [(word, model.probability(word, line[len(line) + 1 - model.n :])) for word in words]
        whole = sum(share for _, share in shares)
        if whole == 0:
            raise ValueError("nothing to draw")
        rest = u * whole
        chosen = None
        for word, share in shares:
            if share > 0:
                chosen = word
                if rest < share:
                    break
            rest -= share
        if chosen == "</s>":
            break
        line.append(chosen)
    return line[model.n - 1 :]


def is_plausible(model, sentence, threshold):
    logs = log_probabilities(model, sentence)
    return math.fsum(logs) >= threshold * len(logs)
