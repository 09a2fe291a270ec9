"""Small functions over parameters; modules only hold them. Heads are cut by reshape and joined by permute."""

import math

import torch
from torch import nn
from torch.nn.functional import cross_entropy, dropout as drop, embedding, gelu, linear


def wide(*tensors):
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


def normalise(x, weight, bias, eps):
    z = wide(x)[0]
    z = z - z.mean(-1, True)
    z = z / (z.square().mean(-1, True) + eps).sqrt()
    return (z * wide(weight)[0] + wide(bias)[0]).to(x.dtype)


class LayerNorm(nn.Module):
    def __init__(self, width, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.register_parameter("weight", nn.Parameter(torch.ones(width)))
        self.register_parameter("bias", nn.Parameter(torch.zeros(width)))

    def forward(self, x):
        return normalise(x, self.weight, self.bias, self.eps)


def split_heads(x, heads):
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).movedim(2, 1)


def merge_heads(x):
    x = x.movedim(1, 2)
    return x.reshape(*x.shape[:2], -1)


def causal_mask(queries, keys, device=None):
    hidden = torch.ones((queries, keys), dtype=torch.bool, device=device).triu(1 + keys - queries)
    return ~hidden


def attention(query, key, value):
    root = math.sqrt(math.sqrt(query.shape[-1]))
    q, k, v = wide(query, key, value)
    logits = torch.matmul(q / root, (k / root).mT)
    logits.masked_fill_(~causal_mask(q.size(2), k.size(2), q.device), -math.inf)
    return torch.softmax(logits, -1).matmul(v).type_as(value)


def extend_cache(cache, key, value):
    if cache is None:
        return (key, value)
    return (torch.concat([cache[0], key], 2), torch.concat([cache[1], value], 2))


class SelfAttention(nn.Module):
    def __init__(self, width, heads, dropout=0.0):
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.project, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x, cache=None):
        E = x.shape[-1]
        both = self.project(x)
        query = split_heads(both[..., :E], self.heads)
        key = split_heads(both[..., E : 2 * E], self.heads)
        value = split_heads(both[..., 2 * E :], self.heads)
        cache = extend_cache(cache, key, value)
        y = self.output(merge_heads(attention(query, cache[0], cache[1])))
        return drop(y, self.rate, self.training), cache


class MLP(nn.Module):
    def __init__(self, width, dropout=0.0):
        super().__init__()
        self.rate = dropout
        self.expand, self.output = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return drop(self.output(gelu(self.expand(x))), self.rate, self.training)


class Block(nn.Module):
    def __init__(self, width, heads, dropout=0.0):
        super().__init__()
        self.attention_norm = LayerNorm(width)
        self.attention = SelfAttention(width, heads, dropout)
        self.mlp_norm = LayerNorm(width)
        self.mlp = MLP(width, dropout)

    def forward(self, x, cache=None):
        branch, cache = self.attention(self.attention_norm(x), cache)
        stream = x + branch
        return stream + self.mlp(self.mlp_norm(stream)), cache


def initialise(model):
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                module.weight.copy_(0.02 * torch.randn(module.weight.shape))
            if isinstance(module, nn.Linear):
                module.bias.zero_()
            if isinstance(module, Block):
                for layer in (module.attention.output, module.mlp.output):
                    layer.weight.copy_(torch.randn(layer.weight.shape))
        small = 0.02 / (2 * len(model.blocks)) ** 0.5
        for block in model.blocks:
            block.attention.output.weight.copy_(small * torch.randn(block.attention.output.weight.shape))
            block.mlp.output.weight.copy_(small * torch.randn(block.mlp.output.weight.shape))


class GPT(nn.Module):
    def __init__(self, vocabulary, context, width, heads, layers, dropout=0.0):
        super().__init__()
        self.rate = dropout
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = LayerNorm(width)
        initialise(self)

    def forward(self, tokens, caches=None):
        caches = caches or [None] * len(self.blocks)
        first = 0 if caches[0] is None else caches[0][0].shape[2]
        last = first + tokens.shape[1]
        if last > self.position.weight.shape[0]:
            raise ValueError(f"{last} tokens, and a context of {self.position.weight.shape[0]}")
        x = embedding(tokens, self.token.weight) + self.position.weight[first:last]
        x = drop(x, self.rate, self.training)
        results = []
        for block, cache in zip(self.blocks, caches):
            x, cache = block(x, cache)
            results += [cache]
        return linear(self.norm(x), self.token.weight), results


def next_token_loss(logits, tokens, ignore_index=-100):
    z, y = wide(logits)[0][:, :-1].transpose(1, 2), tokens[:, 1:]
    terms = cross_entropy(z, y, ignore_index=ignore_index, reduction="none")
    return terms.sum() / (y != ignore_index).sum().clamp_min(1)


def one_row(row, temperature, top_k, top_p):
    if temperature == 0:
        return torch.eye(len(row), dtype=row.dtype, device=row.device)[row.argmax()]
    values, tokens = torch.sort(row / temperature, stable=True, descending=True)
    p = torch.softmax(values[:top_k], 0)
    if top_p is not None:
        # how many tokens lie wholly below the threshold, and one more
        count = int((p.cumsum(0) < top_p).sum()) + 1
        p = p[:count]
    result = torch.zeros_like(row)
    result[tokens[: len(p)]] = p / p.sum()
    return result


def sampling_probabilities(logits, temperature=1.0, top_k=None, top_p=None):
    rows = wide(logits)[0].reshape(-1, logits.shape[-1])
    return torch.stack([one_row(row, temperature, top_k, top_p) for row in rows]).reshape(logits.shape)


@torch.no_grad()
def generate(model, tokens, steps, temperature=1.0, top_k=None, top_p=None):
    before = model.training
    model.train(False)
    result, caches = [tokens], None
    for _ in range(steps):
        logits, caches = model(result[-1], caches)
        result.append(sampling_probabilities(logits[:, -1], temperature, top_k, top_p).multinomial(1))
    model.train(before)
    return torch.cat(result, 1)
