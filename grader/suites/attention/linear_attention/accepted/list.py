"""A list of chunks and a running state; the ones trick: a column of ones beside the values makes z a column of S."""

from __future__ import annotations

import torch


def feature_map(x):
    return torch.where(x < 0, torch.exp(torch.where(x < 0, x, 0)), 1 + x)


def normalise(numerator, denominator):
    return numerator * torch.where(denominator == 0, 0, 1 / torch.where(denominator == 0, 1, denominator))


def _prepare(q, k, v):
    precise = torch.float64 if v.dtype == torch.float64 else torch.float32
    q, k, v = (x.to(precise) for x in (q, k, v))
    return feature_map(q), feature_map(k), torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)


def _divide(both, dtype):
    return normalise(both[..., :-1], both[..., -1:]).to(dtype)


def linear_attention(q, k, v, mask=None):
    dtype = v.dtype
    q, k, v = _prepare(q, k, v)
    if mask is not None:
        k = torch.where(mask[:, None, :, None], k, 0)
    return _divide(q @ (k.transpose(-1, -2) @ v), dtype)


def causal_linear_attention(q, k, v, mask=None, chunk_size=64, state=None):
    dtype = v.dtype
    q, k, v = _prepare(q, k, v)
    if mask is not None:
        k = torch.where(mask[:, None, :, None], k, 0)
    states = [0 * (k[:, :, 0, :, None] * v[:, :, 0, None, :])]
    if state is not None:
        states = [torch.cat([state[0], state[1][..., None]], dim=-1)]
    outputs = []
    for start in range(0, q.shape[2], chunk_size):
        Q, K, V = (x[:, :, start : start + chunk_size] for x in (q, k, v))
        size = Q.shape[2]
        seen = torch.ones(size, size, dtype=torch.bool, device=q.device).tril()
        scores = (Q @ K.transpose(-1, -2)).masked_fill(~seen, 0)
        outputs.append(_divide(scores @ V + Q @ states[-1], dtype))
        states.append(states[-1] + K.transpose(-1, -2) @ V)
    return torch.cat(outputs, dim=2), (states[-1][..., :-1], states[-1][..., -1])


def linear_attention_step(q, k, v, state=None):
    dtype = v.dtype
    q, k, v = _prepare(q, k, v)
    both = k.unsqueeze(-1) * v.unsqueeze(-2)
    if state is not None:
        both = both + torch.cat([state[0], state[1].unsqueeze(-1)], dim=-1)
    return _divide((q.unsqueeze(-2) @ both).squeeze(-2), dtype), (both[..., :-1], both[..., -1])
