"""Attention as an object that a layer is given, one product for queries, keys and values, a Sequential-like stack."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F


def feature_map(x):
    return x.clamp(max=0).exp() + x.relu()


def score_gradient(scores, upstream):
    z = scores.sum(-1, True)
    return upstream.div(z).sub((scores.div(z) * upstream.div(z)).sum(-1, True))


def steepest_slope(scores, exponential=False):
    if not exponential:
        z = scores.sum(-1)
        rest = z - scores.min(-1).values
        return rest / z / z
    logs = scores.log_softmax(-1)
    p = logs.exp()
    return (p * -torch.expm1(logs)).max(-1).values


def rms_norm(x, eps=1e-6):
    work = torch.float64 if x.dtype is torch.float64 else torch.float32
    y = x.to(work)
    return y.div(y.pow(2).mean(-1, True).add(eps).sqrt()).to(x.dtype)


def sums_of_all(q, k, v, chunk_size):
    return q @ (k.transpose(2, 3) @ v)


def sums_so_far(q, k, v, chunk_size):
    carried, parts = None, []
    for start in range(0, q.shape[2], chunk_size):
        qc, kc, vc = (x.narrow(2, start, min(chunk_size, x.shape[2] - start)) for x in (q, k, v))
        n = qc.shape[2]
        lower = torch.ones(n, n, device=q.device, dtype=q.dtype).tril()
        part = (qc @ kc.mT * lower) @ vc
        pair = kc.mT @ vc
        parts.append(part if carried is None else part + qc @ carried)
        carried = pair if carried is None else carried + pair
    return torch.cat(parts, 2)


def norm_attention(q, k, v, causal=False, chunk_size=64, eps=1e-6):
    work = torch.float64 if v.dtype is torch.float64 else torch.float32
    q, k = feature_map(q.to(work)), feature_map(k.to(work))
    sums = (sums_so_far if causal else sums_of_all)(q, k, v.to(work), chunk_size)
    return rms_norm(sums.transpose(1, 2).flatten(-2), eps).to(v.dtype)


def diag_attention(q, k, v, size, causal=False):
    work = torch.float64 if v.dtype is torch.float64 else torch.float32
    length = v.shape[2]
    size = min(length, size)
    missing = -length % size

    def cut(x):
        x = x.to(work)
        if missing:
            x = torch.cat([x, x.new_zeros(*x.shape[:2], missing, x.shape[3])], 2)
        return x.reshape(*x.shape[:2], -1, size, x.shape[3])

    logits = cut(q) @ cut(k).mT / q.shape[3] ** 0.5
    bias = logits.new_zeros(logits.shape[2:])
    if missing:
        bias[-1, :, size - missing :] = -torch.inf
    if causal:
        bias = bias + logits.new_full((size, size), -torch.inf).triu(1)
    out = F.softmax(logits + bias, -1) @ cut(v)
    return out.flatten(2, 3).narrow(2, 0, length).transpose(1, 2).flatten(2).to(v.dtype)


class TransNormerLayer(nn.Module):
    def __init__(self, width, heads, hidden, size=None):
        super().__init__()
        linear = partial(nn.Linear, bias=False)
        self.query, self.key, self.value = linear(width, width), linear(width, width), linear(width, width)
        self.output = linear(width, width)
        self.gate, self.up, self.down = linear(width, hidden), linear(width, hidden), linear(hidden, width)
        self.attention = norm_attention if size is None else partial(diag_attention, size=size)
        self.split = (3, heads, width // heads)

    def attend(self, x, causal):
        weight = torch.cat([self.query.weight, self.key.weight, self.value.weight])
        q, k, v = F.linear(rms_norm(x), weight).unflatten(-1, self.split).permute(2, 0, 3, 1, 4)
        return self.output(self.attention(q, k, v, causal=causal))

    def feed(self, x):
        y = rms_norm(x)
        gate = self.gate(y)
        return self.down(gate.sigmoid() * gate * self.up(y))

    def forward(self, x, causal=False):
        x = x + self.attend(x, causal)
        return x + self.feed(x)


class TransNormer(nn.Module):
    def __init__(self, width, heads, hidden, diag, norm, size=64):
        super().__init__()
        self.layers = nn.ModuleList(
            TransNormerLayer(width, heads, hidden, size=kind) for kind in diag * (size,) + norm * (None,)
        )

    def forward(self, x, causal=False):
        for block in self.layers:
            x = block(x, causal)
        return x
