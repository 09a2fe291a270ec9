"""Einsums with named axes; counts are kept as floats, and padded keys are zeroed before they are scored."""

from __future__ import annotations

import torch
from torch import nn


def affine_heads(z, gamma, beta):
    return torch.einsum("...ts,hs->h...ts", z, gamma) + beta.reshape(len(beta), *[1] * (z.ndim - 1), -1)


def into_chunks(x, chunk_size):
    *before, T, D = x.shape
    size = min(T, chunk_size)
    chunks = -(-T // size)
    missing = x.new_zeros(*before, chunks * size - T, D)
    return torch.cat([x, missing], dim=-2).reshape(*before, chunks, size, D)


def earlier_sums(x):
    running = x.cumsum(-3)
    return torch.cat([torch.zeros_like(running[..., :1, :, :]), running[..., :-1, :, :]], dim=-3)


def _precise(x):
    return x.float() if x.dtype.itemsize == 2 else x


def _ones(x, mask):
    return torch.ones_like(x[..., 0]) if mask is None else mask.to(x.dtype)


def _hide(k, real):
    return torch.where(real.unsqueeze(-1) > 0, k, torch.zeros_like(k))


def quadratic_attention(q, k, v, mask=None, causal=False):
    kind = v.dtype
    q, k, v = _precise(q), _precise(k), _precise(v)
    real = _ones(k, mask)
    weights = torch.einsum("...is,...js->...ij", q, _hide(k, real)).clamp(min=0) ** 2
    if causal:
        weights = weights.tril()
        count = real.cumsum(-1)
    else:
        count = real.sum(-1, keepdim=True).expand_as(real)
    total = torch.einsum("...ij,...je->...ie", weights, v)
    return (total / count.clamp(min=1).unsqueeze(-1)).to(kind)


def global_attention(q, k, v, chunk_size, mask=None, causal=False):
    kind, T = v.dtype, v.shape[-2]
    q, k, v = _precise(q), _precise(k), _precise(v)
    real = _ones(k, mask)
    k = _hide(k, real)
    if not causal:
        S = torch.einsum("...js,...je->...se", k, v)
        count = real.sum(-1).clamp(min=1)
        return (torch.einsum("...is,...se->...ie", q, S) / count[..., None, None]).to(kind)
    Q, K, V = (into_chunks(x, chunk_size) for x in (q, k, v))
    S = earlier_sums(torch.einsum("...cs,...ce->...se", K, V))
    count = earlier_sums(into_chunks(real.unsqueeze(-1), chunk_size).sum(-2, keepdim=True)).clamp(min=1)
    result = torch.einsum("...cs,...se->...ce", Q, S) / count
    return result.flatten(-3, -2)[..., :T, :].to(kind)


def mixed_chunk_attention(quadratic_q, quadratic_k, linear_q, linear_k, v, chunk_size=256, mask=None, causal=False):
    kind, T = v.dtype, v.shape[-2]
    v = _precise(v)
    real = into_chunks(_ones(v, mask).unsqueeze(-1), chunk_size).squeeze(-1) > 0
    chunks = (into_chunks(_precise(x), chunk_size) for x in (quadratic_q, quadratic_k, v))
    near = quadratic_attention(*chunks, mask=real, causal=causal).flatten(-3, -2)[..., :T, :]
    far = global_attention(_precise(linear_q), _precise(linear_k), v, chunk_size, mask=mask, causal=causal)
    return (near + far).to(kind)


class GatedAttentionUnit(nn.Module):
    def __init__(self, width, expanded, shared, chunk_size=None):
        super().__init__()
        self.gate, self.value = nn.Linear(width, expanded), nn.Linear(width, expanded)
        self.base, self.output = nn.Linear(width, shared), nn.Linear(expanded, width)
        self.chunk_size = chunk_size
        rows = 4 if chunk_size else 2
        self.gamma = nn.Parameter(torch.ones(rows, shared))
        self.beta = nn.Parameter(torch.zeros(rows, shared))

    def forward(self, x, mask=None, causal=False):
        act = nn.functional.silu
        u, v = act(self.gate(x)), act(self.value(x))
        heads = affine_heads(act(self.base(x)), self.gamma, self.beta)
        if self.chunk_size:
            v = mixed_chunk_attention(*heads, v, chunk_size=self.chunk_size, mask=mask, causal=causal)
        else:
            v = quadratic_attention(*heads, v, mask=mask, causal=causal)
        return self.output(u * v)
