"""Preallocated buffers that are written to, in-place operations where autograd allows them, inverse of the drawn rank."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def wide(*tensors):
    """Half precision becomes float32; float32 and float64 stay what they are (given)."""
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


class LayerNorm(nn.Module):
    def __init__(self, width, eps=1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width).fill_(1))
        self.bias = nn.Parameter(torch.empty(width).fill_(0))
        self.eps = eps

    def forward(self, x):
        z, weight, bias = wide(x, self.weight, self.bias)
        n = z.size(-1)
        mean = z.sum(dim=-1, keepdim=True).div_(n)
        z = z - mean
        std = (z * z).sum(dim=-1, keepdim=True).div_(n).add_(self.eps).sqrt_()
        return (z / std * weight).add_(bias).to(x.dtype)


def split_heads(x, heads):
    B, T, E = x.shape
    y = x.new_empty(B, heads, T, E // heads)
    y.copy_(x.reshape(B, T, heads, E // heads).swapaxes(1, 2))
    return y


def merge_heads(x):
    B, H, T, D = x.shape
    y = x.new_empty(B, T, H, D)
    y.copy_(x.swapaxes(1, 2))
    return y.view(B, T, H * D)


def causal_mask(queries, keys, device=None):
    mask = torch.zeros(queries, keys, dtype=torch.bool, device=device)
    for row in range(queries):
        mask[row, : keys - queries + row + 1] = True
    return mask


def _late(queries, keys, device):
    place = torch.arange(keys, device=device)
    return place[None] > place[keys - queries :, None]


def attention(query, key, value):
    dtype = value.dtype
    query, key, value = wide(query, key, value)
    scores = query @ key.transpose(2, 3)
    scores = scores.div_(query.shape[3] ** 0.5)
    scores = scores.masked_fill_(_late(query.shape[2], key.shape[2], query.device), float("-inf"))
    return (scores.softmax(3) @ value).to(dtype)


def extend_cache(cache, key, value):
    if cache is None:
        return key, value
    T = cache[0].shape[2]
    shape = list(key.shape)
    shape[2] += T
    keys, values = key.new_empty(shape), value.new_empty(shape)
    keys[:, :, :T], values[:, :, :T] = cache[0], cache[1]
    keys[:, :, T:], values[:, :, T:] = key, value
    return keys, values


class SelfAttention(nn.Module):
    def __init__(self, width, heads, dropout=0.0):
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, width + 2 * width)
        self.output = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, cache=None):
        B, T, E = x.shape
        mixed = self.project(x).view(B, T, 3, self.heads, E // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = mixed[0], mixed[1], mixed[2]
        cache = extend_cache(cache, key, value)
        y = attention(query, *cache)
        return self.dropout(self.output(merge_heads(y))), cache


class MLP(nn.Module):
    def __init__(self, width, dropout=0.0):
        super().__init__()
        self.expand = nn.Linear(width, 4 * width)
        self.output = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout, inplace=True)

    def forward(self, x):
        return self.dropout(self.output(F.gelu(self.expand(x), approximate="none")))


class Block(nn.Module):
    def __init__(self, width, heads, dropout=0.0):
        super().__init__()
        self.attention_norm = LayerNorm(width)
        self.attention = SelfAttention(width, heads, dropout)
        self.mlp_norm = LayerNorm(width)
        self.mlp = MLP(width, dropout)

    def forward(self, x, cache=None):
        y, cache = self.attention(self.attention_norm(x), cache)
        y += x
        y = y + self.mlp(self.mlp_norm(y))
        return y, cache


def initialise(model):
    for p in model.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, 0, 0.02)
    for block in model.blocks:
        for part in (block.attention, block.mlp):
            part.output.weight.data /= (2 * len(model.blocks)) ** 0.5
        for layer in (block.attention.project, block.attention.output, block.mlp.expand, block.mlp.output):
            layer.bias.data.zero_()


class GPT(nn.Module):
    def __init__(self, vocabulary, context, width, heads, layers, dropout=0.0):
        super().__init__()
        self.context = context
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.ModuleList([Block(width, heads, dropout) for _ in range(layers)])
        self.norm = LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        initialise(self)

    def forward(self, tokens, caches=None):
        past = caches[0][0].shape[2] if caches else 0
        if past + tokens.shape[1] > self.context:
            raise ValueError("too many tokens")
        x = self.token(tokens)
        x += self.position.weight.narrow(0, past, tokens.shape[1])
        x = self.dropout(x)
        caches = list(caches) if caches else [None] * len(self.blocks)
        for i in range(len(self.blocks)):
            x, caches[i] = self.blocks[i](x, caches[i])
        return self.norm(x) @ self.token.weight.T, caches


def next_token_loss(logits, tokens, ignore_index=-100):
    logits, targets = wide(logits[:, :-1])[0].flatten(0, 1), tokens[:, 1:].flatten()
    (places,) = torch.nonzero(targets != ignore_index, as_tuple=True)
    if not len(places):
        return logits.new_zeros(()) + 0 * logits.sum()
    log_p = logits[places].log_softmax(-1)
    return -log_p[torch.arange(len(places), device=logits.device), targets[places]].mean()


def sampling_probabilities(logits, temperature=1.0, top_k=None, top_p=None):
    z = wide(logits)[0].clone()
    if temperature == 0:
        best = z.argmax(-1, keepdim=True)
        return z.zero_().scatter_(-1, best, 1)
    z.div_(temperature)
    order = z.argsort(dim=-1, descending=True, stable=True)
    if top_k is not None and top_k < z.shape[-1]:
        z.scatter_(-1, order[..., top_k:], float("-inf"))
    p = z.sub_(z.max(-1, keepdim=True).values).exp_()
    p.div_(p.sum(-1, keepdim=True))
    if top_p is not None:
        reached = p.gather(-1, order).cumsum_(-1) >= top_p
        drop = torch.zeros_like(reached)
        drop[..., 1:] = reached[..., :-1]
        p.masked_fill_(torch.zeros_like(drop).scatter_(-1, order, drop), 0)
        p.div_(p.sum(-1, keepdim=True))
    return p


@torch.no_grad()
def generate(model, tokens, steps, temperature=1.0, top_k=None, top_p=None):
    mode = model.training
    model.eval()
    B, T = tokens.shape
    buffer = tokens.new_empty(B, T + steps)
    buffer[:, :T] = tokens
    caches, start = None, 0
    for stop in range(T, T + steps):
        logits, caches = model(buffer[:, start:stop], caches)
        p = sampling_probabilities(logits[:, -1], temperature, top_k, top_p)
        # the first token at which the cumulative sum passes a uniform number
        u = torch.rand(B, 1, dtype=p.dtype, device=p.device) * p.sum(-1, keepdim=True)
        buffer[:, stop] = (p.cumsum(-1) <= u).sum(-1).clamp(max=p.shape[-1] - 1)
        start = stop
    model.train(mode)
    return buffer
