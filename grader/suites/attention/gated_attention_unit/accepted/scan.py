"""A doubling scan instead of `cumsum`, a count column beside the values, and one product for all projections."""

from __future__ import annotations

import torch
from torch import nn


def affine_heads(z, gamma, beta):
    shape = (len(gamma),) + (1,) * (z.dim() - 1) + (z.shape[-1],)
    return gamma.view(shape) * z + beta.view(shape)


def into_chunks(x, chunk_size):
    T = x.size(-2)
    C = T if chunk_size >= T else chunk_size
    tail = T % C
    if tail:
        zeros = torch.zeros((*x.shape[:-2], C - tail, x.size(-1)), dtype=x.dtype, device=x.device)
        x = torch.cat((x, zeros), -2)
    return torch.stack(x.split(C, -2), -3) if x.size(-2) == C else x.unflatten(-2, (x.size(-2) // C, C))


def _shift(x, by):
    """Moves chunks to the back by so many places; zeros come in."""
    return torch.cat((torch.zeros_like(x[..., :by, :, :]), x[..., : x.size(-3) - by, :, :]), -3)


def earlier_sums(x):
    total, by = _shift(x, 1), 1
    while by < x.size(-3):
        total = total + _shift(total, by)
        by *= 2
    return total


def _up(x):
    return x if x.dtype == torch.float64 else x.float()


def _with_count(v):
    return torch.cat((v, torch.ones_like(v[..., :1])), -1)


def quadratic_attention(q, k, v, mask=None, causal=False):
    T = q.size(-2)
    index = torch.arange(T, device=q.device)
    seen = index[:, None] >= index if causal else (index >= 0).expand(T, T)
    if mask is not None:
        seen = seen & mask[..., None, :]
    zero = torch.zeros((), dtype=_up(q).dtype, device=q.device)
    scores = torch.where(seen, _up(q) @ _up(k).mT, zero)
    weights = scores * scores * (scores > 0)
    divisor = torch.where(seen, zero + 1, zero).sum(-1, True)
    return ((weights @ _up(v)) / torch.maximum(divisor, zero + 1)).type(v.dtype)


def global_attention(q, k, v, chunk_size, mask=None, causal=False):
    T, real = q.size(-2), torch.ones(q.shape[:-1], dtype=torch.bool, device=q.device)
    real = (real if mask is None else mask)[..., None]
    keys = torch.where(real, _up(k), torch.zeros_like(_up(k)))
    if not causal:
        number = real.sum(-2, True).clamp(min=1)
        return (_up(q) @ ((keys.mT @ _up(v)) / number)).type(v.dtype)
    Q, K, V, R = (into_chunks(x, chunk_size) for x in (_up(q), keys, _up(v), real))
    S, number = earlier_sums(K.mT @ V), earlier_sums(R.sum(-2, True))
    out = Q @ (S / number.clamp(min=1))
    return out.reshape(*q.shape[:-2], -1, v.size(-1))[..., :T, :].type(v.dtype)


def mixed_chunk_attention(quadratic_q, quadratic_k, linear_q, linear_k, v, chunk_size=256, mask=None, causal=False):
    T = v.size(-2)
    a, b, c, d, w = map(_up, (quadratic_q, quadratic_k, linear_q, linear_k, v))
    real = torch.ones(v.shape[:-1], dtype=torch.bool, device=v.device) if mask is None else mask
    A, B, W, R = (into_chunks(x, chunk_size) for x in (a, b, w, real[..., None]))
    inside = quadratic_attention(A, B, W, R[..., 0], causal).reshape(*v.shape[:-2], -1, v.size(-1))
    return (inside[..., :T, :] + global_attention(c, d, w, chunk_size, mask, causal)).type(v.dtype)


class GatedAttentionUnit(nn.Module):
    def __init__(self, width, expanded, shared, chunk_size=None):
        super().__init__()
        self.gate = nn.Linear(width, expanded)
        self.value = nn.Linear(width, expanded)
        self.base = nn.Linear(width, shared)
        self.output = nn.Linear(expanded, width)
        self.gamma = nn.Parameter(torch.randn(4 if chunk_size is not None else 2, shared))
        self.beta = nn.Parameter(torch.zeros_like(self.gamma))
        self.chunk_size = chunk_size
        self.sizes = (expanded, expanded, shared)

    def forward(self, x, mask=None, causal=False):
        layers = (self.gate, self.value, self.base)
        weight, bias = torch.cat([y.weight for y in layers]), torch.cat([y.bias for y in layers])
        y = x @ weight.T + bias
        u, v, z = (y * y.sigmoid()).split(self.sizes, -1)
        heads = affine_heads(z, self.gamma, self.beta)
        if len(heads) == 2:
            mixed = quadratic_attention(heads[0], heads[1], v, mask, causal)
        else:
            mixed = mixed_chunk_attention(*heads.unbind(), v, self.chunk_size, mask, causal)
        return self.output(mixed * u)
