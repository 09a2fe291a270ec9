"""Decoding with cached keys and values, a table of positions kept by the model, and a loss over real tokens only."""

from __future__ import annotations

import torch
import torch.nn as nn


class MultiHeadAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.output = nn.Linear(width, width), nn.Linear(width, width)

    def split(self, x):
        return x.reshape(*x.shape[:2], self.heads, self.size).permute(0, 2, 1, 3)

    def keys_and_values(self, context):
        return self.split(self.key(context)), self.split(self.value(context))

    def attend(self, x, key, value, mask):
        scores = torch.matmul(self.split(self.query(x)) * self.size**-0.5, key.transpose(-1, -2))
        if mask is not None:
            scores = scores.masked_fill(mask.logical_not(), torch.finfo(scores.dtype).min)
        mixed = torch.matmul(torch.softmax(scores, -1), value)
        return self.output(mixed.permute(0, 2, 1, 3).reshape(x.shape))

    def forward(self, x, context, mask):
        return self.attend(x, *self.keys_and_values(context), mask)


def sinusoidal_positions(length, width, dtype=torch.float32, device=None):
    feature = torch.arange(width, device=device)
    exponent = (feature - feature % 2).double() / width
    angle = torch.arange(length, device=device).double()[:, None] / torch.pow(10000.0, exponent)
    return torch.where(feature % 2 == 0, torch.sin(angle), torch.cos(angle)).to(dtype)


def computed_in(x):
    return torch.promote_types(x.dtype, torch.float32)


def layer_norm(x, weight, bias, eps=1e-5):
    kind = computed_in(x)
    y = x.to(kind)
    y = y - y.mean(-1, keepdim=True)
    y = y / torch.sqrt(torch.mean(y * y, -1, keepdim=True) + eps)
    return torch.addcmul(bias.to(kind), y, weight.to(kind)).to(x.dtype)


@torch.no_grad()
@torch.no_grad()
def layer_norm_gradients(upstream, x, weight, eps=1e-5):
    kind = computed_in(x)
    dy, y = upstream.to(kind), x.to(kind)
    y = y - y.mean(-1, keepdim=True)
    sigma = torch.sqrt(torch.mean(y * y, -1, keepdim=True) + eps)
    y = y / sigma
    d_weight = (dy * y).flatten(end_dim=-2).sum(0) if x.dim() > 1 else dy * y
    d_bias = dy.flatten(end_dim=-2).sum(0) if x.dim() > 1 else dy.clone()
    g = dy * weight.to(kind)
    g = g - g.mean(-1, keepdim=True)
    g = g - y * (g * y).mean(-1, keepdim=True)  # y has mean 0, so taking the mean off first changes nothing
    return (g / sigma).to(x.dtype), d_weight.to(weight.dtype), d_bias.to(weight.dtype)


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
        h = self.up(x)
        h = h * (h > 0)
        return self.down(h)


def residual(x, sublayer, norm, pre_norm):
    y = sublayer(norm(x) if pre_norm else x)
    return x + y if pre_norm else norm(x + y)


def source_mask(tokens, padding):
    return torch.ne(tokens, padding)[:, None, None]


def target_mask(tokens, padding):
    n = tokens.shape[-1]
    lower = torch.tril(tokens.new_ones(n, n, dtype=torch.bool))
    return lower * source_mask(tokens, padding)


class EncoderLayer(nn.Module):
    def __init__(self, width, heads, hidden, pre_norm):
        super().__init__()
        self.pre_norm = pre_norm
        self.attention = MultiHeadAttention(width, heads)
        self.norm_1 = LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden)
        self.norm_2 = LayerNorm(width)

    def forward(self, x, mask):
        x = residual(x, lambda y: self.attention(y, y, mask), self.norm_1, self.pre_norm)
        return residual(x, self.feed_forward, self.norm_2, self.pre_norm)


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
        return self.step(x, None, self.cross_attention.keys_and_values(memory), mask, memory_mask)[0]

    def step(self, x, past, memory, mask, memory_mask):
        """New tokens after `past` keys and values; returns these with the new ones at their end."""
        kept = []

        def look_back(y):
            new = self.attention.keys_and_values(y)
            if past is not None:
                new = [torch.cat(pair, dim=2) for pair in zip(past, new, strict=True)]
            kept.extend(new)
            return self.attention.attend(y, *new, mask)

        x = residual(x, look_back, self.norm_1, self.pre_norm)
        x = residual(x, lambda y: self.cross_attention.attend(y, *memory, memory_mask), self.norm_2, self.pre_norm)
        return residual(x, self.feed_forward, self.norm_3, self.pre_norm), kept


class Transformer(nn.Module):
    def __init__(self, vocabulary, width, heads, hidden, layers, pre_norm, padding=0):
        super().__init__()
        self.padding = padding
        self.embedding = nn.Embedding(vocabulary, width)
        self.encoder = nn.ModuleList(EncoderLayer(width, heads, hidden, pre_norm) for _ in range(layers))
        self.decoder = nn.ModuleList(DecoderLayer(width, heads, hidden, pre_norm) for _ in range(layers))
        self.encoder_norm = LayerNorm(width) if pre_norm else nn.Identity()
        self.decoder_norm = LayerNorm(width) if pre_norm else nn.Identity()
        self.table = None

    def positions(self, length, like):
        if self.table is None or len(self.table) < length or self.table.dtype != like.dtype:
            self.table = sinusoidal_positions(max(length, 64), like.shape[-1], like.dtype, like.device)
        return self.table[:length]

    def embed(self, tokens):
        x = self.embedding(tokens)
        return x.mul(x.shape[-1] ** 0.5).add(self.positions(tokens.shape[1], x))

    def encode(self, source):
        x, mask = self.embed(source), source_mask(source, self.padding)
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoder_norm(x)

    def decode(self, target, memory, source):
        x, masks = self.embed(target), (target_mask(target, self.padding), source_mask(source, self.padding))
        for layer in self.decoder:
            x = layer(x, memory, *masks)
        return self.decoder_norm(x) @ self.embedding.weight.t()

    def forward(self, source, target):
        return self.decode(target, self.encode(source), source)

    @torch.no_grad()
    def translate(self, source, start, steps):
        memory = self.encode(source)
        memories = [layer.cross_attention.keys_and_values(memory) for layer in self.decoder]
        pasts = [None] * len(self.decoder)
        tokens = torch.full((source.shape[0], 1), start, device=source.device)
        for n in range(steps):
            x = self.embedding(tokens[:, -1:])
            x = x * x.shape[-1] ** 0.5 + self.positions(n + 1, x)[n]
            for i, layer in enumerate(self.decoder):
                masks = source_mask(tokens, self.padding), source_mask(source, self.padding)
                x, pasts[i] = layer.step(x, pasts[i], memories[i], *masks)
            logits = self.decoder_norm(x) @ self.embedding.weight.t()
            tokens = torch.cat([tokens, logits.argmax(-1)], dim=-1)
        return tokens[:, 1:]


def label_smoothed_loss(logits, targets, smoothing=0.1, padding=0):
    real = targets != padding
    rows, labels = logits[real], targets[real]
    rows = rows.to(computed_in(rows))
    top = rows.logsumexp(-1)
    right = rows.gather(1, labels.unsqueeze(1)).squeeze(1)
    per_token = top - (1 - smoothing) * right - smoothing * rows.mean(-1)
    return per_token.sum() / max(len(labels), 1)
