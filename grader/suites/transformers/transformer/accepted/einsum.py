"""Einsums and complex waves, heads kept as an axis of the weights, the smoothed distribution written out."""

from __future__ import annotations

import torch
from torch import nn


def up(x):
    return x if x.dtype == torch.float64 else x.float()


class MultiHeadAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        for name in ("query", "key", "value", "output"):
            self.add_module(name, nn.Linear(width, width))

    def project(self, layer, x):
        weight = layer.weight.view(self.heads, -1, x.shape[-1])
        return torch.einsum("bte,hde->bhtd", x, weight) + layer.bias.view(self.heads, 1, -1)

    def forward(self, x, context, mask):
        q, k, v = self.project(self.query, x), self.project(self.key, context), self.project(self.value, context)
        scores = torch.einsum("bhid,bhjd->bhij", q, k) / q.shape[-1] ** 0.5
        if mask is not None:
            scores = torch.where(mask, scores, -1e30 if scores.dtype != torch.float16 else -6e4)
        mixed = torch.einsum("bhij,bhjd->bhid", scores.softmax(-1), v)
        weight = self.output.weight.view(-1, self.heads, mixed.shape[-1])
        return torch.einsum("bhtd,ehd->bte", mixed, weight) + self.output.bias


def sinusoidal_positions(length, width, dtype=torch.float32, device=None):
    pairs = (width + 1) // 2
    theta = torch.tensor([10000.0 ** (-2 * i / width) for i in range(pairs)], dtype=torch.float64, device=device)
    t = torch.arange(length, dtype=torch.float64, device=device)
    angle = torch.einsum("t,i->ti", t, theta)
    z = torch.polar(torch.ones_like(angle), angle)  # cos + i sin
    both = torch.view_as_real(z).flip(-1)  # sin, cos
    return both.reshape(length, 2 * pairs)[:, :width].to(dtype)


def standardise(x, eps):
    x = x - torch.einsum("...e->...", x)[..., None] / x.shape[-1]
    variance = torch.einsum("...e,...e->...", x, x)[..., None] / x.shape[-1]
    inverse = 1 / torch.sqrt(variance + eps)
    return x * inverse, inverse


def layer_norm(x, weight, bias, eps=1e-5):
    normal, _ = standardise(up(x), eps)
    return (normal * up(weight) + up(bias)).to(x.dtype)


@torch.no_grad()
def layer_norm_gradients(upstream, x, weight, eps=1e-5):
    normal, inverse = standardise(up(x), eps)
    dy = up(upstream)
    g = dy * up(weight)
    width = x.shape[-1]
    mean = torch.einsum("...e->...", g)[..., None] / width
    along = torch.einsum("...e,...e->...", g, normal)[..., None] / width
    return (
        (inverse * (g - mean - normal * along)).to(x.dtype),
        torch.einsum("...e,...e->e", dy, normal).to(weight.dtype),
        torch.einsum("...e->e", dy).to(weight.dtype),
    )


class LayerNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return layer_norm(x, self.weight, self.bias)


class FeedForward(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x):
        hidden = torch.einsum("...e,fe->...f", x, self.up.weight) + self.up.bias
        return torch.einsum("...f,ef->...e", torch.clamp(hidden, min=0), self.down.weight) + self.down.bias


def residual(x, sublayer, norm, pre_norm):
    return x + sublayer(norm(x)) if pre_norm else norm(x + sublayer(x))


def source_mask(tokens, padding):
    return (tokens != padding).view(tokens.shape[0], 1, 1, tokens.shape[1])


def target_mask(tokens, padding):
    t = torch.arange(tokens.shape[1], device=tokens.device)
    return torch.logical_and(t[:, None] >= t, source_mask(tokens, padding))


class EncoderLayer(nn.Module):
    def __init__(self, width, heads, hidden, pre_norm):
        super().__init__()
        self.pre_norm = pre_norm
        self.attention = MultiHeadAttention(width, heads)
        self.norm_1 = LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden)
        self.norm_2 = LayerNorm(width)

    def forward(self, x, mask):
        steps = [(lambda y: self.attention(y, y, mask), self.norm_1), (self.feed_forward, self.norm_2)]
        for sublayer, norm in steps:
            x = residual(x, sublayer, norm, self.pre_norm)
        return x


class DecoderLayer(nn.Module):
    def __init__(self, width, heads, hidden, pre_norm):
        super().__init__()
        self.pre_norm = pre_norm
        self.attention = MultiHeadAttention(width, heads)
        self.norm_1 = LayerNorm(width)
        self.cross_attention = MultiHeadAttention(width, heads)
        self.norm_2 = LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden)
        self.norm_3 = LayerNorm(width)

    def forward(self, x, memory, mask, memory_mask):
        steps = [
            (lambda y: self.attention(y, y, mask), self.norm_1),
            (lambda y: self.cross_attention(y, memory, memory_mask), self.norm_2),
            (self.feed_forward, self.norm_3),
        ]
        for sublayer, norm in steps:
            x = residual(x, sublayer, norm, self.pre_norm)
        return x


class Transformer(nn.Module):
    def __init__(self, vocabulary, width, heads, hidden, layers, pre_norm, padding=0):
        super().__init__()
        self.padding = padding
        self.embedding = nn.Embedding(vocabulary, width)
        self.encoder = nn.ModuleList(EncoderLayer(width, heads, hidden, pre_norm) for _ in range(layers))
        self.decoder = nn.ModuleList(DecoderLayer(width, heads, hidden, pre_norm) for _ in range(layers))
        self.encoder_norm = LayerNorm(width) if pre_norm else nn.Identity()
        self.decoder_norm = LayerNorm(width) if pre_norm else nn.Identity()

    def embed(self, tokens):
        table = self.embedding.weight
        places = sinusoidal_positions(tokens.shape[1], table.shape[1], table.dtype, table.device)
        return table[tokens] * table.shape[1] ** 0.5 + places

    def encode(self, source):
        x = self.embed(source)
        for layer in self.encoder:
            x = layer(x, source_mask(source, self.padding))
        return self.encoder_norm(x)

    def decode(self, target, memory, source):
        x = self.embed(target)
        masks = target_mask(target, self.padding), source_mask(source, self.padding)
        for layer in self.decoder:
            x = layer(x, memory, *masks)
        return torch.einsum("bte,ve->btv", self.decoder_norm(x), self.embedding.weight)

    def forward(self, source, target):
        return self.decode(target, self.encode(source), source)

    @torch.no_grad()
    def translate(self, source, start, steps):
        memory = self.encode(source)
        out = source.new_full((source.shape[0], steps + 1), start)
        for n in range(1, steps + 1):
            out[:, n] = self.decode(out[:, :n], memory, source)[:, -1].max(dim=-1).indices
        return out[:, 1:]


def label_smoothed_loss(logits, targets, smoothing=0.1, padding=0):
    classes = logits.shape[-1]
    log_p = torch.log_softmax(up(logits), dim=-1)
    keep = targets != padding
    q = torch.full_like(log_p, smoothing / classes)
    q.scatter_(-1, torch.where(keep, targets, 0)[..., None], 1 - smoothing + smoothing / classes)
    q = q * keep[..., None]
    return -torch.einsum("...v,...v->", q, log_p) / keep.sum().clamp(min=1)
