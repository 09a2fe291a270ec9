"""Branches written out in every layer, var_mean for the norm, and nll_loss under the loss."""

import math

import torch
import torch.nn.functional as F
from torch import nn


class MultiHeadAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x, context, mask):
        query, key, value = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for y in (self.query(x), self.key(context), self.value(context))
        )
        logits = query @ key.mT * query.shape[-1] ** -0.5
        if mask is not None:
            logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
        attended = logits.softmax(dim=-1) @ value
        return self.output(attended.transpose(1, 2).flatten(2))


def sinusoidal_positions(length, width, dtype=torch.float32, device=None):
    position = torch.arange(length, device=device).unsqueeze(1).double()
    rate = torch.exp(torch.arange(0, width, 2, device=device).double() * (-math.log(10000.0) / width))
    pe = torch.zeros(length, width, dtype=torch.float64, device=device)
    pe[:, 0::2] = torch.sin(position * rate)
    pe[:, 1::2] = torch.cos(position * rate[: width // 2])
    return pe.to(dtype)


def layer_norm(x, weight, bias, eps=1e-5):
    y = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    variance, mean = torch.var_mean(y, dim=-1, keepdim=True, correction=0)
    y = (y - mean) * torch.rsqrt(variance + eps)
    return (y * weight.to(y.dtype) + bias.to(y.dtype)).to(x.dtype)


@torch.no_grad()
def layer_norm_gradients(upstream, x, weight, eps=1e-5):
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    dy, gain, values = upstream.to(kind), weight.to(kind), x.to(kind)
    variance, mean = torch.var_mean(values, dim=-1, keepdim=True, correction=0)
    r = torch.rsqrt(variance + eps)
    xhat = (values - mean) * r
    n = x.shape[-1]
    dxhat = dy * gain
    dx = r / n * (n * dxhat - dxhat.sum(-1, keepdim=True) - xhat * (dxhat * xhat).sum(-1, keepdim=True))
    axes = list(range(x.dim() - 1))
    dw, db = dy * xhat, dy
    if axes:
        dw, db = dw.sum(axes), db.sum(axes)
    return dx.to(x.dtype), dw.to(weight.dtype), db.to(weight.dtype)


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
        return self.down(F.relu(self.up(x)))


def residual(x, sublayer, norm, pre_norm):
    if pre_norm:
        out = norm(x)
        out = sublayer(out)
        return x + out
    out = sublayer(x)
    return norm(x + out)


def source_mask(tokens, padding):
    return tokens.ne(padding).unsqueeze(1).unsqueeze(2)


def target_mask(tokens, padding):
    T = tokens.size(1)
    future = torch.triu(torch.ones(T, T, device=tokens.device), diagonal=1).bool()
    return tokens.ne(padding)[:, None, None, :] & ~future[None, None]


class EncoderLayer(nn.Module):
    def __init__(self, width, heads, hidden, pre_norm):
        super().__init__()
        self.pre_norm = pre_norm
        self.attention = MultiHeadAttention(width, heads)
        self.norm_1 = LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden)
        self.norm_2 = LayerNorm(width)

    def forward(self, x, mask):
        if self.pre_norm:
            y = self.norm_1(x)
            x = x + self.attention(y, y, mask)
            x = x + self.feed_forward(self.norm_2(x))
        else:
            x = self.norm_1(x + self.attention(x, x, mask))
            x = self.norm_2(x + self.feed_forward(x))
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
        if self.pre_norm:
            y = self.norm_1(x)
            x = x + self.attention(y, y, mask)
            x = x + self.cross_attention(self.norm_2(x), memory, memory_mask)
            x = x + self.feed_forward(self.norm_3(x))
        else:
            x = self.norm_1(x + self.attention(x, x, mask))
            x = self.norm_2(x + self.cross_attention(x, memory, memory_mask))
            x = self.norm_3(x + self.feed_forward(x))
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
        d = self.embedding.embedding_dim
        x = self.embedding(tokens) * math.sqrt(d)
        pe = sinusoidal_positions(tokens.size(1), d, dtype=x.dtype, device=x.device)
        return x + pe.unsqueeze(0)

    def encode(self, source):
        mask = source_mask(source, self.padding)
        x = self.embed(source)
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoder_norm(x)

    def decode(self, target, memory, source):
        x = self.embed(target)
        for layer in self.decoder:
            x = layer(x, memory, target_mask(target, self.padding), source_mask(source, self.padding))
        x = self.decoder_norm(x)
        return F.linear(x, self.embedding.weight)

    def forward(self, source, target):
        memory = self.encode(source)
        return self.decode(target, memory, source)

    @torch.no_grad()
    def translate(self, source, start, steps):
        memory = self.encode(source)
        tokens = torch.full((source.size(0), 1), start, dtype=torch.long, device=source.device)
        for _ in range(steps):
            logits = self.decode(tokens, memory, source)
            best = logits[:, -1].argmax(-1)
            tokens = torch.cat((tokens, best[:, None]), 1)
        return tokens[:, 1:]


def label_smoothed_loss(logits, targets, smoothing=0.1, padding=0):
    flat = logits.reshape(-1, logits.size(-1))
    if flat.dtype in (torch.float16, torch.bfloat16):
        flat = flat.float()
    targets = targets.reshape(-1)
    lp = F.log_softmax(flat, dim=-1)
    keep = targets != padding
    nll = F.nll_loss(lp, targets, ignore_index=padding, reduction="sum")
    uniform = -(lp.mean(-1) * keep).sum()
    count = max(int(keep.sum()), 1)
    return ((1 - smoothing) * nll + smoothing * uniform) / count
