"""Einsums over named axes; the mask compares places; the loss is written out; Gumbel noise draws the tokens."""

from __future__ import annotations

import torch
from torch import nn


def wide(*tensors: torch.Tensor) -> list[torch.Tensor]:
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


class LayerNorm(nn.Module):
    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.full((width,), 1.0))
        self.bias = nn.Parameter(torch.full((width,), 0.0))

    def forward(self, x):
        z, w, b = wide(x, self.weight, self.bias)
        var, mean = torch.var_mean(z, dim=-1, unbiased=False, keepdim=True)
        z = (z - mean) * (var + self.eps) ** -0.5
        return torch.addcmul(b, z, w).to(x.dtype)


def split_heads(x, heads):
    return torch.stack(x.chunk(heads, dim=-1), dim=1)


def merge_heads(x):
    return torch.cat(x.unbind(dim=1), dim=-1)


def causal_mask(queries, keys, device=None):
    i = torch.arange(keys - queries, keys, device=device)
    j = torch.arange(keys, device=device)
    return i[:, None] >= j[None, :]


def attention(query, key, value):
    q, k, v = wide(query, key, value)
    s = torch.einsum("bhid,bhjd->bhij", q * q.shape[-1] ** -0.5, k)
    see = causal_mask(q.shape[2], k.shape[2], q.device)
    s = torch.where(see, s, torch.tensor(-torch.inf, dtype=s.dtype, device=s.device))
    e = (s - s.amax(-1, keepdim=True).detach()).exp()
    o = torch.einsum("bhij,bhjd->bhid", e, v) / e.sum(-1, keepdim=True)
    return o.to(value.dtype)


def extend_cache(cache, key, value):
    return (key, value) if cache is None else tuple(torch.cat(two, 2) for two in zip(cache, (key, value)))


class SelfAttention(nn.Module):
    def __init__(self, width, heads, dropout=0.0):
        super().__init__()
        self.project = nn.Linear(width, width * 3)
        self.output = nn.Linear(width, width)
        self.heads, self.p = heads, dropout

    def forward(self, x, cache=None):
        B, T, E = x.shape
        weight = self.project.weight.reshape(3, self.heads, E // self.heads, E)
        bias = self.project.bias.reshape(3, 1, self.heads, 1, E // self.heads)
        q, k, v = torch.einsum("bte,chde->cbhtd", x, weight) + bias
        cache = extend_cache(cache, k, v)
        y = self.output(merge_heads(attention(q, *cache)))
        return nn.functional.dropout(y, self.p, self.training), cache


class MLP(nn.Module):
    def __init__(self, width, dropout=0.0):
        super().__init__()
        self.expand = nn.Linear(width, width * 4)
        self.output = nn.Linear(width * 4, width)
        self.p = dropout

    def forward(self, x):
        h = self.expand(x)
        h = h * torch.special.ndtr(h)
        return nn.functional.dropout(self.output(h), self.p, self.training)


class Block(nn.Module):
    def __init__(self, width, heads, dropout=0.0):
        super().__init__()
        self.attention_norm, self.mlp_norm = LayerNorm(width), LayerNorm(width)
        self.attention, self.mlp = SelfAttention(width, heads, dropout), MLP(width, dropout)

    def forward(self, x, cache=None):
        a, cache = self.attention(self.attention_norm(x), cache)
        h = a + x
        return self.mlp(self.mlp_norm(h)) + h, cache


@torch.no_grad()
def initialise(model):
    L = len(model.blocks)
    for path, p in model.named_parameters():
        kind = path.split(".")[-2:]
        if "norm" in kind[0]:
            p.fill_(1.0 if kind[1] == "weight" else 0.0)
        elif kind[1] == "bias":
            p.zero_()
        else:
            p.normal_(0.0, 0.02)
            if kind[0] == "output":
                p.mul_((2 * L) ** -0.5)


class GPT(nn.Module):
    def __init__(self, vocabulary, context, width, heads, layers, dropout=0.0):
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.ModuleList()
        for _ in range(layers):
            self.blocks.append(Block(width, heads, dropout))
        self.norm = LayerNorm(width)
        self.p = dropout
        initialise(self)

    def forward(self, tokens, caches=None):
        start = caches[-1][1].shape[-2] if caches else 0
        stop = start + tokens.shape[-1]
        if stop > len(self.position.weight):
            raise ValueError("the context is full")
        x = self.token(tokens) + self.position.weight[start:stop]
        x = nn.functional.dropout(x, self.p, self.training)
        out = []
        for n, block in enumerate(self.blocks):
            x, new = block(x, caches[n] if caches else None)
            out.append(new)
        return torch.einsum("bte,ve->btv", self.norm(x), self.token.weight), out


def next_token_loss(logits, tokens, ignore_index=-100):
    (z,) = wide(logits)
    z, y = z[:, :-1], tokens[:, 1:]
    real = y != ignore_index
    chosen = z.gather(2, y.where(real, 0).unsqueeze(2)).squeeze(2)
    loss = (z.logsumexp(2) - chosen).where(real, 0.0)
    return loss.sum() / max(int(real.sum()), 1)


def sampling_probabilities(logits, temperature=1.0, top_k=None, top_p=None):
    (z,) = wide(logits)
    V = z.shape[-1]
    if temperature == 0:
        return (torch.arange(V, device=z.device) == z.argmax(-1, keepdim=True)).to(z.dtype)
    order = z.argsort(dim=-1, descending=True, stable=True)
    rank = order.argsort(dim=-1)
    keep = rank < (V if top_k is None else top_k)
    p = torch.softmax((z / temperature).masked_fill(~keep, -torch.inf), -1)
    if top_p is not None:
        falling = p.gather(-1, order)
        above = falling.cumsum(-1) - falling
        p = torch.where(above.gather(-1, rank) < top_p, p, 0)
    return p / p.sum(-1, keepdim=True)


@torch.no_grad()
def generate(model, tokens, steps, temperature=1.0, top_k=None, top_p=None):
    mode = model.training
    model.eval()
    try:
        feed, caches = tokens, None
        for _ in range(steps):
            logits, caches = model(feed, caches)
            p = sampling_probabilities(logits[:, -1], temperature, top_k, top_p)
            noise = -torch.log(-torch.log(torch.rand_like(p)))
            feed = (p.log() + noise).argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, feed], -1)
    finally:
        model.train(mode)
    return tokens
