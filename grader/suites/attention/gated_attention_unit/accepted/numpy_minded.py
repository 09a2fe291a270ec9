"""Reshapes, broadcasting and index arithmetic as in numpy, with all leading axes folded into one."""

from __future__ import annotations

import torch


def affine_heads(z, gamma, beta):
    return torch.stack([z * gamma[h] + beta[h] for h in range(gamma.shape[0])], dim=0)


def into_chunks(x, chunk_size):
    tokens = x.shape[-2]
    size = min(chunk_size, tokens)
    places = torch.arange(-(-tokens // size) * size, device=x.device)
    chosen = x[..., places.clamp(max=tokens - 1), :]
    chosen = torch.where((places < tokens)[:, None], chosen, torch.zeros_like(chosen))
    return chosen.reshape((*x.shape[:-2], -1, size, x.shape[-1]))


def earlier_sums(x):
    sums = torch.cumsum(x, dim=x.ndim - 3)
    moved = torch.roll(sums, 1, dims=x.ndim - 3)
    first = (torch.arange(x.shape[-3], device=x.device) == 0)[:, None, None]
    return torch.where(first, torch.zeros_like(moved), moved)


def _double_width(x):
    return x.to(torch.float32) if x.element_size() == 2 else x


def _fold(x, axes):
    return _double_width(x).reshape((-1, *x.shape[-axes:]))


def _all_real(x):
    return torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device)


def quadratic_attention(q, k, v, mask=None, causal=False):
    shape, kind = v.shape, v.dtype
    real = (_all_real(k) if mask is None else mask).reshape(-1, k.shape[-2])
    q, k, v = _fold(q, 2), _fold(k, 2), _fold(v, 2)
    k = torch.where(real[:, :, None], k, torch.zeros_like(k))
    positive = torch.clamp(torch.bmm(q, torch.transpose(k, 1, 2)), min=0)
    weights = torch.square(positive)
    numbers = torch.sum(real, dim=1, keepdim=True).expand(real.shape)
    if causal:
        weights = torch.tril(weights)
        numbers = torch.cumsum(real, dim=1)
    average = torch.bmm(weights, v) / torch.clamp(numbers, min=1)[:, :, None]
    return average.reshape(shape).to(kind)


def global_attention(q, k, v, chunk_size, mask=None, causal=False):
    shape, kind, tokens = v.shape, v.dtype, v.shape[-2]
    real = (_all_real(k) if mask is None else mask).reshape(-1, tokens)[:, :, None]
    q, k, v = _fold(q, 2), _fold(k, 2), _fold(v, 2)
    k = torch.where(real, k, torch.zeros_like(k))
    size = chunk_size if causal else tokens
    Q, K, V, R = into_chunks(q, size), into_chunks(k, size), into_chunks(v, size), into_chunks(real, size)
    state = torch.matmul(torch.swapaxes(K, 2, 3), V)
    numbers = torch.sum(R, dim=2, keepdim=True)
    if causal:
        state, numbers = earlier_sums(state), earlier_sums(numbers)
    result = torch.matmul(Q, state) / torch.clamp(numbers, min=1)
    result = result.reshape(result.shape[0], -1, shape[-1])[:, :tokens]
    return result.reshape(shape).to(kind)


def mixed_chunk_attention(quadratic_q, quadratic_k, linear_q, linear_k, v, chunk_size=256, mask=None, causal=False):
    shape, kind = v.shape, v.dtype
    real = (_all_real(v) if mask is None else mask)[..., None]
    v = _double_width(v)
    Q, K, V, R = (into_chunks(x, chunk_size) for x in (quadratic_q, quadratic_k, v, real))
    near = quadratic_attention(_double_width(Q), _double_width(K), V, R[..., 0], causal)
    near = near.reshape((*shape[:-2], -1, shape[-1]))[..., : shape[-2], :]
    far = global_attention(linear_q, linear_k, v, chunk_size, mask, causal)
    return torch.add(near, far).to(kind)


class GatedAttentionUnit(torch.nn.Module):
    def __init__(self, width, expanded, shared, chunk_size=None):
        super().__init__()
        self.gate = torch.nn.Linear(width, expanded)
        self.value = torch.nn.Linear(width, expanded)
        self.base = torch.nn.Linear(width, shared)
        self.gamma = torch.nn.Parameter(torch.rand(2 + 2 * (chunk_size is not None), shared))
        self.beta = torch.nn.Parameter(torch.rand(2 + 2 * (chunk_size is not None), shared))
        self.output = torch.nn.Linear(expanded, width)
        self.chunk_size = chunk_size

    @staticmethod
    def _silu(y):
        return y / (1 + torch.exp(-y))

    def forward(self, x, mask=None, causal=False):
        u = self._silu(self.gate(x))
        v = self._silu(self.value(x))
        z = self._silu(self.base(x))
        heads = list(affine_heads(z, self.gamma, self.beta))
        if self.chunk_size is None:
            return self.output(u * quadratic_attention(*heads, v, mask=mask, causal=causal))
        return self.output(u * mixed_chunk_attention(*heads, v, self.chunk_size, mask=mask, causal=causal))
