"""Blelloch's two sweeps over a padded power of two, without recursion; a step of its own; forward by steps."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def combine(first, second):
    a1, b1 = first
    a2, b2 = second
    return a2 * a1, b2 + a2 * b1


def up_and_down(a, b):
    """Exclusive prefixes of steps, whose number is a power of two, over axis 1."""
    levels = []
    while b.shape[1] > 1:
        left, right = (a[:, 0::2], b[:, 0::2]), (a[:, 1::2], b[:, 1::2])
        levels.append(left)
        a, b = combine(left, right)
    prefix = torch.ones_like(a), torch.zeros_like(b)
    for left in reversed(levels):
        passed = combine(prefix, left)
        prefix = tuple(torch.stack(pair, dim=2).flatten(1, 2) for pair in zip(prefix, passed, strict=True))
    return prefix


def parallel_scan(a, b, h=None):
    length = b.shape[1]
    size = 1 << (length - 1).bit_length()
    tail = (0, 0) * (b.dim() - 2) + (0, size - length)
    padded = F.pad(a, tail, value=1), F.pad(b, tail)
    before_a, before_b = (x[:, :length] for x in up_and_down(*padded))
    before = before_b if h is None else before_a * h.unsqueeze(1) + before_b
    return a * before + b


def discretise(u, delta, A, B):
    return torch.exp(delta.unsqueeze(-1) * A), delta.unsqueeze(-1) * B.unsqueeze(-2) * u.unsqueeze(-1)


def in_float(x):
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def one(u, delta, A, B, C, D, h):
    a, b = discretise(u, delta, A, B)
    h = a * h + b
    return (h * C[:, None, :]).sum(-1) + D * u, h


def selective_scan(u, delta, A, B, C, D, h=None):
    out = u.dtype
    u, delta, A, B, C, D = map(in_float, (u, delta, A, B, C, D))
    batch, length, channels = u.shape
    if h is None:
        h = torch.zeros((batch, channels, A.shape[1]), dtype=u.dtype, device=u.device)
    y = []
    for t in range(length):
        y_t, h = one(u[:, t], delta[:, t], A, B[:, t], C[:, t], D, h)
        y.append(y_t.to(out))
    return torch.stack(y, dim=1), h


def chunked_scan(u, delta, A, B, C, D, h=None, chunk_size=64):
    out = u.dtype
    u, delta, A, B, C, D = map(in_float, (u, delta, A, B, C, D))
    y = torch.empty_like(u)
    length = u.shape[1]
    for i in range(0, length, chunk_size):
        j = min(i + chunk_size, length)
        a, b = discretise(u[:, i:j], delta[:, i:j], A, B[:, i:j])
        states = parallel_scan(a, b, h)
        y[:, i:j] = (states * C[:, i:j, None, :]).sum(-1)
        h = states[:, j - i - 1]
    return (y + D * u).to(out), h


def causal_conv(x, weight, bias, state=None):
    taps = weight.shape[1]
    if state is None:
        state = torch.zeros_like(x[:, :1]).expand(-1, taps - 1, -1)
    line = torch.cat([state, x], dim=1)
    windows = line.unfold(1, taps, 1)  # (B, L, E, K)
    return (windows * weight).sum(-1) + bias, line[:, line.shape[1] - (taps - 1) :]


class MambaBlock(torch.nn.Module):
    def __init__(self, dim: int, inner: int, states: int, kernel: int, rank: int) -> None:
        super().__init__()
        self.in_proj = torch.nn.Linear(dim, 2 * inner, bias=False)
        self.conv_weight = torch.nn.Parameter(torch.randn(inner, kernel))
        self.conv_bias = torch.nn.Parameter(torch.zeros(inner))
        self.x_proj = torch.nn.Linear(inner, rank + 2 * states, bias=False)
        self.dt_proj = torch.nn.Linear(rank, inner)
        self.A_log = torch.nn.Parameter(torch.arange(1.0, states + 1).log().repeat(inner, 1))
        self.D = torch.nn.Parameter(torch.ones(inner))
        self.out_proj = torch.nn.Linear(inner, dim, bias=False)

    def forward(self, x, state=None, mask=None):
        inner, states = self.A_log.shape
        if state is None:
            taps = self.conv_weight.shape[1]
            state = x.new_zeros(len(x), taps - 1, inner), x.new_zeros(len(x), inner, states)
        real = torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask
        y = []
        for t in range(x.shape[1]):
            y_t, state = self.token(x[:, t], state, real[:, t, None])
            y.append(y_t)
        return torch.stack(y, dim=1), state

    def step(self, x, state):
        return self.token(x, state, torch.ones(len(x), 1, dtype=torch.bool))

    def token(self, x, state, real):
        line, h = state
        inner, states = self.A_log.shape
        both = self.in_proj(x)
        u, z = both[:, :inner], both[:, inner:]
        line = torch.cat([line, torch.where(real, u, 0)[:, None]], dim=1)
        u = F.silu((line * self.conv_weight.T).sum(1) + self.conv_bias)
        u = torch.where(real, u, 0)
        made = self.x_proj(u)
        B, C = made[:, -2 * states : -states], made[:, -states:]
        delta = F.softplus(self.dt_proj(made[:, : -2 * states]))
        y, h = one(*map(in_float, (u, delta, -self.A_log.exp(), B, C, self.D)), h)
        return self.out_proj(y.to(x.dtype) * F.silu(z)), (line[:, 1:], h)


def retention(q, k, v, gamma, S=None):
    b = k.unsqueeze(-1) * v.unsqueeze(-2)
    a = gamma.reshape(-1, 1, 1) + torch.zeros_like(b)
    S = parallel_scan(a, b, S)
    return (q.unsqueeze(-1) * S).sum(-2), S[:, -1]


def lru(u, nu, theta, B, C, D, x=None):
    size, angle = torch.exp(-torch.exp(nu)), torch.exp(theta)
    lam = torch.complex(size * angle.cos(), size * angle.sin())
    keep = torch.sqrt(-torch.expm1(-2 * torch.exp(nu)))
    b = keep * torch.complex(u @ B.real.T, u @ B.imag.T)
    x = parallel_scan(lam.repeat(*b.shape[:2], 1), b, x)
    return x.real @ C.real.T - x.imag @ C.imag.T + D * u, x[:, -1]
