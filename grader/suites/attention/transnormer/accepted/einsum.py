"""Einsum throughout; causal chunks all at once by an exclusive running sum; the tail of the blocks on its own."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import einsum


def feature_map(x):
    return F.elu(x) + 1 if x.dtype == torch.float64 else torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def score_gradient(scores, upstream):
    z = einsum("...j->...", scores)[..., None]
    p = scores / z
    return upstream / z - einsum("...j,...j->...", p, upstream)[..., None] / z


def steepest_slope(scores, exponential=False):
    if exponential:
        p = torch.softmax(scores, -1)
        return torch.max(p - p**2, dim=-1).values
    z = scores.sum(-1, keepdim=True)
    slopes = 1 / z - scores / z / z
    return slopes.max(-1)[0]


def rms_norm(x, eps=1e-6):
    high = x if x.dtype == torch.float64 else x.float()
    power = einsum("...d,...d->...", high, high)[..., None] / x.shape[-1]
    return (high / torch.sqrt(power + eps)).to(x.dtype)


def _join(y):
    b, h, t, m = y.shape
    return y.permute(0, 2, 1, 3).reshape(b, t, h * m)


def _high(*xs):
    return [x if x.dtype == torch.float64 else x.float() for x in xs]


def norm_attention(q, k, v, causal=False, chunk_size=64, eps=1e-6):
    out_type = v.dtype
    q, k, v = _high(q, k, v)
    q, k = feature_map(q), feature_map(k)
    if not causal:
        kv = einsum("bhtd,bhtm->bhdm", k, v)
        y = einsum("bhtd,bhdm->bhtm", q, kv)
    else:
        t = q.shape[2]
        c = min(chunk_size, t)
        extra = (c - t % c) % c
        q, k, v = (F.pad(x, (0, 0, 0, extra)).unflatten(2, (-1, c)) for x in (q, k, v))
        kv = einsum("bhncd,bhncm->bhndm", k, v)
        before = torch.cat([torch.zeros_like(kv[:, :, :1]), kv[:, :, :-1]], dim=2).cumsum(2)
        inside = einsum("bhncd,bhned->bhnce", q, k).tril()
        y = einsum("bhnce,bhnem->bhncm", inside, v) + einsum("bhncd,bhndm->bhncm", q, before)
        y = y.flatten(2, 3)[:, :, :t]
    return rms_norm(_join(y), eps).to(out_type)


def _softmax_blocks(q, k, v, causal):
    logits = einsum("...id,...jd->...ij", q, k) / q.shape[-1] ** 0.5
    if causal:
        n = q.shape[-2]
        logits = logits + torch.full((n, n), float("-inf"), dtype=q.dtype, device=q.device).triu(1)
    return einsum("...ij,...jm->...im", logits.softmax(-1), v)


def diag_attention(q, k, v, size, causal=False):
    out_type, t = v.dtype, q.size(2)
    q, k, v = _high(q, k, v)
    full = t - t % size
    pieces = []
    if full:
        heads = [x[:, :, :full].unflatten(2, (full // size, size)) for x in (q, k, v)]
        pieces.append(_softmax_blocks(*heads, causal).flatten(2, 3))
    if full < t:
        pieces.append(_softmax_blocks(*(x[:, :, full:] for x in (q, k, v)), causal))
    return _join(torch.cat(pieces, dim=2)).to(out_type)


class TransNormerLayer(nn.Module):
    def __init__(self, width, heads, hidden, size=None):
        super().__init__()
        self.heads = heads
        self.size = size
        for name in ("query", "key", "value", "output"):
            setattr(self, name, nn.Linear(width, width, bias=False))
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x, causal=False):
        b, t, e = x.shape
        y = rms_norm(x)
        q, k, v = (
            layer(y).reshape(b, t, self.heads, e // self.heads).permute(0, 2, 1, 3)
            for layer in (self.query, self.key, self.value)
        )
        mixed = diag_attention(q, k, v, self.size, causal) if self.size else norm_attention(q, k, v, causal)
        x = x + self.output(mixed)
        y = rms_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class TransNormer(nn.Module):
    def __init__(self, width, heads, hidden, diag, norm, size=64):
        super().__init__()
        self.layers = nn.ModuleList()
        for i in range(diag + norm):
            self.layers.append(TransNormerLayer(width, heads, hidden, size if i < diag else None))

    def forward(self, x, causal=False):
        for layer in self.layers:
            x = layer(x, causal=causal)
        return x
