"""Small pure functions, a decorator for the types, and sums divided before they meet the queries."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import nn


def affine_heads(z, gamma, beta):
    return torch.stack([torch.addcmul(b, z, g) for g, b in zip(gamma, beta, strict=True)])


def into_chunks(x, chunk_size):
    size = min(chunk_size, x.shape[-2])
    missing = -x.shape[-2] % size
    padded = F.pad(x.movedim(-2, -1), (0, missing))  # (..., D, T)
    return padded.unflatten(-1, (-1, size)).movedim(-3, -1)


def earlier_sums(x):
    return torch.cumsum(F.pad(x[..., :-1, :, :], (0, 0, 0, 0, 1, 0)), dim=-3)


def _in_float32(attention):
    """Runs an attention in float32 or better, and rounds its result to the type of the values."""

    @functools.wraps(attention)
    def call(*tensors, **how):
        heads = [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]
        return attention(*heads, **how).to(tensors[-1].dtype)

    return call


def _divide(total, count):
    return total * (1.0 / count.clamp(min=1).to(total.dtype))


@_in_float32
def _quadratic(q, k, v, real, causal):
    visible = real.unsqueeze(-2).expand(*real.shape, real.shape[-1])
    visible = visible.tril() if causal else visible
    weights = F.relu(torch.where(visible, q @ k.transpose(-2, -1), 0.0)).pow(2)
    return _divide(weights @ v, visible.sum(-1, keepdim=True))


@_in_float32
def _linear(q, k, v, real, causal, chunk_size):
    k = torch.where(real.unsqueeze(-1), k, 0.0)
    if not causal:
        return q @ _divide(k.transpose(-2, -1) @ v, real.sum(-1)[..., None, None])
    Q, K, V, R = (into_chunks(x, chunk_size) for x in (q, k, v, real.unsqueeze(-1)))
    earlier = _divide(earlier_sums(K.transpose(-2, -1) @ V), earlier_sums(R.sum(-2, keepdim=True)))
    return (Q @ earlier).flatten(-3, -2).narrow(-2, 0, q.shape[-2])


@_in_float32
def _mixed(a, b, c, d, v, real, causal, chunk_size):
    A, B, V, R = (into_chunks(x, chunk_size) for x in (a, b, v, real.unsqueeze(-1)))
    local = _quadratic(A, B, V, real=R.squeeze(-1), causal=causal).flatten(-3, -2).narrow(-2, 0, v.shape[-2])
    return local + _linear(c, d, v, real=real, causal=causal, chunk_size=chunk_size)


def _real(v, mask):
    return v.new_ones(v.shape[:-1], dtype=torch.bool) if mask is None else mask


def quadratic_attention(q, k, v, mask=None, causal=False):
    return _quadratic(q, k, v, real=_real(v, mask), causal=causal)


def global_attention(q, k, v, chunk_size, mask=None, causal=False):
    return _linear(q, k, v, real=_real(v, mask), causal=causal, chunk_size=chunk_size)


def mixed_chunk_attention(quadratic_q, quadratic_k, linear_q, linear_k, v, chunk_size=256, mask=None, causal=False):
    heads = quadratic_q, quadratic_k, linear_q, linear_k
    return _mixed(*heads, v, real=_real(v, mask), causal=causal, chunk_size=chunk_size)


class GatedAttentionUnit(nn.Module):
    def __init__(self, width, expanded, shared, chunk_size=None):
        super().__init__()
        rows = 2 if chunk_size is None else 4
        self.output, self.base = nn.Linear(expanded, width), nn.Linear(width, shared)
        self.value, self.gate = nn.Linear(width, expanded), nn.Linear(width, expanded)
        self.beta, self.gamma = nn.Parameter(torch.zeros(rows, shared)), nn.Parameter(torch.ones(rows, shared))
        self.attend = (
            quadratic_attention
            if chunk_size is None
            else functools.partial(mixed_chunk_attention, chunk_size=chunk_size)
        )

    def forward(self, x, mask=None, causal=False):
        gate, value, base = (F.silu(f(x)) for f in (self.gate, self.value, self.base))
        heads = affine_heads(base, self.gamma, self.beta)
        return self.output(gate * self.attend(*heads, value, mask=mask, causal=causal))
