"""Divide and conquer: scan both halves at once by folding them into a new axis; everything widened at the door."""

from __future__ import annotations

import torch
import torch.nn as nn


def combine(first, second):
    (a1, b1), (a2, b2) = first, second
    return (a1 * a2, a2 * b1 + b2)


def blocks(a, b):
    """Scans within blocks of 1, 2, 4, ... steps; two neighbours are joined by the last state of the left one."""
    n = b.shape[1]
    rest = b.shape[2:]
    size = 1
    while size < n:
        a = a.reshape(a.shape[0], n // (2 * size), 2, size, *rest)
        b = b.reshape(b.shape[0], n // (2 * size), 2, size, *rest)
        left_a, left_b, right_a, right_b = a[:, :, 0], b[:, :, 0], a[:, :, 1], b[:, :, 1]
        joined_a, joined_b = combine((left_a[:, :, -1:], left_b[:, :, -1:]), (right_a, right_b))
        a = torch.cat([left_a, joined_a], dim=2).reshape(a.shape[0], n, *rest)
        b = torch.cat([left_b, joined_b], dim=2).reshape(b.shape[0], n, *rest)
        size *= 2
    return a, b


def parallel_scan(a, b, h=None):
    n = b.shape[1]
    more = (1 << (n - 1).bit_length()) - n
    if more:
        filler = torch.zeros_like(b[:, :1]).expand(-1, more, *b.shape[2:])
        a, b = torch.cat([a, filler], dim=1), torch.cat([b, filler], dim=1)
    a, b = blocks(a, b)
    if h is not None:
        b = b + a * h[:, None]
    return b[:, :n].clone()


def discretise(u, delta, A, B):
    exponent = delta[..., None] * A
    return exponent.exp(), (u * delta)[..., None] * B[..., None, :]


def _float(tensors):
    return tuple(t if t.dtype.itemsize >= 4 else t.float() for t in tensors)


def _read(states, C):
    return torch.matmul(states, C.unsqueeze(-1))[..., 0]


def selective_scan(u, delta, A, B, C, D, h=None):
    result = u.dtype
    u, delta, A, B, C, D = _float((u, delta, A, B, C, D))
    if h is None:
        h = torch.zeros(u.shape[0], *A.shape, dtype=A.dtype)
    y = D * u
    outputs = []
    for t in range(u.shape[1]):
        a = torch.exp(delta[:, t, :, None] * A)
        h = a * h + delta[:, t, :, None] * u[:, t, :, None] * B[:, t, None, :]
        outputs.append(y[:, t] + _read(h, C[:, t]))
    return torch.stack(outputs, 1).to(result), h


def chunked_scan(u, delta, A, B, C, D, h=None, chunk_size=64):
    result = u.dtype
    u, delta, A, B, C, D = _float((u, delta, A, B, C, D))
    outputs = []
    while u.shape[1] > 0:
        now, later = zip(*((x[:, :chunk_size], x[:, chunk_size:]) for x in (u, delta, B, C)), strict=True)
        a, b = discretise(now[0], now[1], A, now[2])
        states = parallel_scan(a, b, h)
        outputs.append(_read(states, now[3]) + D * now[0])
        h = states[:, -1].clone()
        u, delta, B, C = later
    return torch.cat(outputs, 1).to(result), h


def causal_conv(x, weight, bias, state=None):
    n, taps = x.shape[1], weight.shape[1]
    if state is None:
        state = torch.zeros(x.shape[0], taps - 1, x.shape[2], dtype=x.dtype)
    x = torch.cat((state, x), 1)
    y = bias.expand(x.shape[0], n, -1)
    for back in range(taps):
        y = y + weight[:, taps - 1 - back] * x[:, taps - 1 - back : taps - 1 - back + n]
    return y, x[:, n:].clone()


class MambaBlock(nn.Module):
    def __init__(self, dim, inner, states, kernel, rank):
        super().__init__()
        self.inner, self.states, self.rank = inner, states, rank
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv_weight = nn.Parameter(torch.zeros(inner, kernel))
        self.conv_bias = nn.Parameter(torch.zeros(inner))
        self.x_proj = nn.Linear(inner, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.zeros(inner, states))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def _run(self, x, lines, h, keep):
        u, z = torch.split(self.in_proj(x), self.inner, dim=-1)
        u, lines = causal_conv(u * keep, self.conv_weight, self.conv_bias, lines)
        u = u * torch.sigmoid(u) * keep
        parts = self.x_proj(u)
        delta = self.dt_proj(parts[..., : self.rank])
        delta = torch.logaddexp(delta, torch.zeros_like(delta))
        B = parts[..., self.rank : self.rank + self.states]
        C = parts[..., self.rank + self.states :]
        y, h = selective_scan(u, delta, -self.A_log.exp(), B, C, self.D, h)
        return self.out_proj(y * z * torch.sigmoid(z)), (lines, h)

    def forward(self, x, state=None, mask=None):
        lines, h = (None, None) if state is None else state
        keep = 1 if mask is None else mask[:, :, None].to(x.dtype)
        return self._run(x, lines, h, keep)

    def step(self, x, state):
        y, state = self._run(x[:, None, :], *state, 1)
        return y[:, 0, :], state


def retention(q, k, v, gamma, S=None):
    b = k[..., None] @ v[..., None, :]
    a = torch.ones_like(b) * gamma[:, None, None]
    states = parallel_scan(a, b, S)
    return (states.transpose(-1, -2) @ q[..., None])[..., 0], states[:, -1]


def lru(u, nu, theta, B, C, D, x=None):
    rate = nu.exp()
    lam = torch.exp(-rate + 1j * theta.exp())
    root = torch.sqrt(-torch.expm1(-2 * rate))
    b = (u.to(B.dtype) @ B.transpose(0, 1)) * root
    x = parallel_scan(torch.ones_like(b) * lam, b, x)
    return torch.real(x @ C.transpose(0, 1)) + u * D, x[:, -1]
