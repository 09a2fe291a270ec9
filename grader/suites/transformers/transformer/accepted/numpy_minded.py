"""Positions by numpy, masks multiplied, and the stacks as one loop over parameters."""

import numpy as np
import torch
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
    t, j = np.mgrid[0:length, 0:width]
    angle = t / np.power(10000.0, 2 * (j // 2) / width)
    table = np.where(j % 2 == 0, np.sin(angle), np.cos(angle))
    return torch.from_numpy(table).to(device=device, dtype=dtype)


def _float(*tensors):
    return tuple(t.to(torch.float32) if t.dtype.itemsize == 2 else t for t in tensors)


def layer_norm(x, weight, bias, eps=1e-5):
    a, w, b = _float(x, weight, bias)
    mean = torch.mean(a, dim=-1)[..., np.newaxis]
    var = torch.mean((a - mean) ** 2, dim=-1)[..., np.newaxis]
    return ((a - mean) / torch.sqrt(var + eps) * w + b).type(x.dtype)


@torch.no_grad()
def layer_norm_gradients(upstream, x, weight, eps=1e-5):
    a, w, d = _float(x, weight, upstream)
    N = x.shape[-1]
    xc = a - torch.sum(a, -1, keepdim=True) / N
    var = torch.sum(xc**2, -1, keepdim=True) / N
    std = torch.sqrt(var + eps)
    # step by step backwards through the computation
    dn = d * w
    dxc = dn / std
    dstd = -torch.sum(dn * xc, -1, keepdim=True) / std**2
    dvar = 0.5 * dstd / std
    dxc = dxc + 2 * xc * dvar / N
    dx = dxc - torch.sum(dxc, -1, keepdim=True) / N
    rows = int(np.prod(x.shape[:-1]))
    dw = torch.sum((d * xc / std).reshape(rows, N), 0)
    db = torch.sum(d.reshape(rows, N), 0)
    return dx.type(x.dtype), dw.type(weight.dtype), db.type(weight.dtype)


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
        return self.down(torch.maximum(self.up(x), torch.zeros((), dtype=x.dtype, device=x.device)))


def residual(x, sublayer, norm, pre_norm):
    before, after = (norm, nn.Identity()) if pre_norm else (nn.Identity(), norm)
    return after(x + sublayer(before(x)))


def source_mask(tokens, padding):
    return ~torch.eq(tokens, padding)[:, np.newaxis, np.newaxis, :]


def target_mask(tokens, padding):
    T = tokens.shape[1]
    lower = torch.from_numpy(np.tri(T, dtype=bool)).to(tokens.device)
    return source_mask(tokens, padding) * lower


class EncoderLayer(nn.Module):
    def __init__(self, width, heads, hidden, pre_norm):
        super().__init__()
        self.pre_norm = pre_norm
        self.attention = MultiHeadAttention(width, heads)
        self.norm_1 = LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden)
        self.norm_2 = LayerNorm(width)

    def forward(self, x, mask):
        return self.run(x, [lambda y: self.attention(y, y, mask), self.feed_forward])

    def run(self, x, sublayers):
        for number, sublayer in enumerate(sublayers, 1):
            x = residual(x, sublayer, getattr(self, f"norm_{number}"), self.pre_norm)
        return x


class DecoderLayer(EncoderLayer):
    def __init__(self, width, heads, hidden, pre_norm):
        super().__init__(width, heads, hidden, pre_norm)
        self.cross_attention = MultiHeadAttention(width, heads)
        self.norm_3 = LayerNorm(width)

    def forward(self, x, memory, mask, memory_mask):
        def cross(y):
            return self.cross_attention(y, memory, memory_mask)

        return self.run(x, [lambda y: self.attention(y, y, mask), cross, self.feed_forward])


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
        x = np.sqrt(self.embedding.embedding_dim) * self.embedding(tokens)
        return x + sinusoidal_positions(*x.shape[1:], x.dtype, x.device)

    def stack(self, layers, norm, tokens, *rest):
        x = self.embed(tokens)
        for layer in layers:
            x = layer(x, *rest)
        return norm(x)

    def encode(self, source):
        return self.stack(self.encoder, self.encoder_norm, source, source_mask(source, self.padding))

    def decode(self, target, memory, source):
        masks = target_mask(target, self.padding), source_mask(source, self.padding)
        x = self.stack(self.decoder, self.decoder_norm, target, memory, *masks)
        return torch.matmul(x, self.embedding.weight.T)

    def forward(self, source, target):
        return self.decode(target, self.encode(source), source)

    @torch.no_grad()
    def translate(self, source, start, steps):
        memory, out = self.encode(source), [torch.full_like(source[:, 0], start)]
        while len(out) <= steps:
            logits = self.decode(torch.stack(out, 1), memory, source)
            out.append(torch.argmax(logits[:, -1], dim=-1))
        return torch.stack(out[1:], 1)


def label_smoothed_loss(logits, targets, smoothing=0.1, padding=0):
    (scores,) = _float(logits)
    shifted = scores - scores.max(dim=-1, keepdim=True).values.detach()
    lp = shifted - torch.log(torch.sum(torch.exp(shifted), dim=-1, keepdim=True))
    keep = (targets != padding).to(lp.dtype)
    index = torch.where(targets == padding, torch.zeros_like(targets), targets)
    right = torch.take_along_dim(lp, index[..., np.newaxis], dim=-1)[..., 0]
    cost = (smoothing - 1) * right - smoothing / lp.shape[-1] * torch.sum(lp, dim=-1)
    total = torch.sum(keep)
    return torch.sum(cost * keep) / (total + (total == 0).to(total.dtype))
