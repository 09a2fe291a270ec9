"""Preallocated results that are filled by slices, and in-place steps on tensors of our own."""

from __future__ import annotations

import torch
import torch.nn as nn


def affine_heads(z, gamma, beta):
    out = z.new_empty(gamma.shape[0], *z.shape)
    for h in range(gamma.shape[0]):
        out[h] = torch.addcmul(beta[h], z, gamma[h])
    return out


def into_chunks(x, chunk_size):
    T = x.shape[-2]
    if chunk_size > T:
        chunk_size = T
    count = (T + chunk_size - 1) // chunk_size
    out = x.new_zeros(*x.shape[:-2], count * chunk_size, x.shape[-1])
    out[..., :T, :] = x
    return out.view(*x.shape[:-2], count, chunk_size, x.shape[-1])


def earlier_sums(x):
    out = torch.zeros_like(x, memory_format=torch.contiguous_format)
    if x.shape[-3] > 1:
        out[..., 1:, :, :] = x[..., :-1, :, :].cumsum(dim=-3)
    return out


def _full(x):
    return x.to(torch.float32) if x.dtype in (torch.float16, torch.bfloat16) else x


def quadratic_attention(q, k, v, mask=None, causal=False):
    T = q.shape[-2]
    scores = torch.matmul(_full(q), _full(k).transpose(-1, -2))
    hidden = torch.zeros(scores.shape, dtype=torch.bool, device=q.device)
    if causal:
        hidden |= torch.ones(T, T, dtype=torch.bool, device=q.device).triu_(1)
    if mask is not None:
        hidden |= ~mask.unsqueeze(-2)
    weights = scores.masked_fill_(hidden, -1.0).relu_()
    seen = (~hidden).sum(dim=-1, keepdim=True)
    out = torch.matmul(weights * weights, _full(v))
    out /= seen.clamp_(min=1)
    return out.to(v.dtype)


def global_attention(q, k, v, chunk_size, mask=None, causal=False):
    T = q.shape[-2]
    keys = _full(k)
    if mask is not None:
        keys = keys.masked_fill(~mask.unsqueeze(-1), 0.0)
    flags = torch.ones(k.shape[:-1], dtype=torch.int64, device=k.device) if mask is None else mask.long()
    if causal:
        Q, K, V = into_chunks(_full(q), chunk_size), into_chunks(keys, chunk_size), into_chunks(_full(v), chunk_size)
        state = earlier_sums(torch.matmul(K.transpose(-1, -2), V))
        number = earlier_sums(into_chunks(flags.unsqueeze(-1), chunk_size).sum(dim=-2, keepdim=True))
        out = torch.matmul(Q, state)
        out /= number.clamp_(min=1)
        return out.flatten(-3, -2)[..., :T, :].to(v.dtype)
    out = torch.matmul(_full(q), torch.matmul(keys.transpose(-1, -2), _full(v)))
    out /= flags.sum(dim=-1).clamp_(min=1)[..., None, None]
    return out.to(v.dtype)


def mixed_chunk_attention(quadratic_q, quadratic_k, linear_q, linear_k, v, chunk_size=256, mask=None, causal=False):
    T, values = v.shape[-2], _full(v)
    out = global_attention(_full(linear_q), _full(linear_k), values, chunk_size, mask, causal)
    flags = torch.ones(v.shape[:-1], dtype=torch.bool, device=v.device) if mask is None else mask
    local = quadratic_attention(
        into_chunks(_full(quadratic_q), chunk_size),
        into_chunks(_full(quadratic_k), chunk_size),
        into_chunks(values, chunk_size),
        into_chunks(flags.unsqueeze(-1), chunk_size)[..., 0],
        causal,
    )
    out = out + local.flatten(-3, -2)[..., :T, :]
    return out.to(v.dtype)


class GatedAttentionUnit(nn.Module):
    def __init__(self, width, expanded, shared, chunk_size=None):
        super().__init__()
        self.chunk_size = chunk_size
        for name, inner, outer in (
            ("gate", width, expanded),
            ("value", width, expanded),
            ("base", width, shared),
            ("output", expanded, width),
        ):
            setattr(self, name, nn.Linear(inner, outer))
        number = 2 if chunk_size is None else 4
        self.gamma = nn.Parameter(torch.empty(number, shared).normal_(std=0.02))
        self.beta = nn.Parameter(torch.zeros(number, shared))

    def forward(self, x, mask=None, causal=False):
        values = nn.functional.silu(self.value(x))
        heads = affine_heads(nn.functional.silu(self.base(x)), self.gamma, self.beta).unbind(0)
        if self.chunk_size is None:
            values = quadratic_attention(heads[0], heads[1], values, mask, causal)
        else:
            values = mixed_chunk_attention(
                heads[0], heads[1], heads[2], heads[3], values, self.chunk_size, mask, causal
            )
        return self.output(nn.functional.silu(self.gate(x)).mul(values))
