"""A small class for steps, odd and even by stacking; batch and channels folded together before a scan."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch


class Step(NamedTuple):
    decay: torch.Tensor
    add: torch.Tensor

    def then(self, later: Step) -> Step:
        return Step(later.decay * self.decay, later.decay * self.add + later.add)

    def take(self, index) -> Step:
        return Step(self.decay[index], self.add[index])


def combine(first, second):
    return tuple(Step(*first).then(Step(*second)))


def prefixes(steps: Step) -> Step:
    """All inclusive prefixes over axis 0."""
    n = len(steps.add)
    if n < 2:
        return Step(steps.decay, steps.add.clone())
    tail = steps.take(slice(n - 1, n)) if n % 2 else None
    even, odd = steps.take(slice(0, n // 2 * 2, 2)), steps.take(slice(1, n // 2 * 2, 2))
    odds = prefixes(even.then(odd))
    evens = odds.take(slice(0, -1)).then(even.take(slice(1, None)))
    evens = Step(*(torch.cat([e[:1], rest]) for e, rest in zip(even, evens, strict=True)))
    both = Step(*(torch.stack(pair, dim=1).flatten(0, 1) for pair in zip(evens, odds, strict=True)))
    if tail is not None:
        last = both.take(slice(-1, None)).then(tail)
        both = Step(*(torch.cat(pair) for pair in zip(both, last, strict=True)))
    return both


def parallel_scan(a, b, h=None):
    done = prefixes(Step(a.movedim(1, 0), b.movedim(1, 0)))
    states = done.add if h is None else done.add + done.decay * h
    return states.movedim(0, 1)


def discretise(u, delta, A, B):
    return Step(torch.exp(torch.mul(delta.unsqueeze(-1), A)), torch.mul((delta * u).unsqueeze(-1), B.unsqueeze(-2)))


def _precise(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32


def selective_scan(u, delta, A, B, C, D, h=None):
    kind, precise = u.dtype, _precise(u.dtype)
    A, D = A.to(precise), D.to(precise)
    h = torch.zeros(*A.shape, dtype=precise).repeat(len(u), 1, 1) if h is None else h
    y = torch.zeros_like(u, memory_format=torch.contiguous_format)
    for t in range(u.shape[1]):
        u_t, delta_t, B_t, C_t = (x[:, t].to(precise) for x in (u, delta, B, C))
        step = discretise(u_t, delta_t, A, B_t)
        h = step.decay * h + step.add
        y[:, t] = (torch.bmm(h, C_t.unsqueeze(2)).squeeze(2) + D * u_t).to(kind)
    return y, h


def chunked_scan(u, delta, A, B, C, D, h=None, chunk_size=64):
    kind, precise = u.dtype, _precise(u.dtype)
    A, D = A.to(precise), D.to(precise)
    chunks = math.ceil(u.shape[1] / chunk_size)
    outputs = []
    for c in range(chunks):
        u_c, delta_c, B_c, C_c = (x[:, c * chunk_size : (c + 1) * chunk_size].to(precise) for x in (u, delta, B, C))
        states = parallel_scan(*discretise(u_c, delta_c, A, B_c), h)
        outputs.append(((states * C_c.unsqueeze(2)).sum(dim=3) + D * u_c).to(kind))
        h = states[:, -1]
    return torch.cat(outputs, dim=1), h


def causal_conv(x, weight, bias, state=None):
    B, L, E = x.shape
    K = weight.shape[1]
    line = torch.zeros(B, L + K - 1, E, dtype=x.dtype)
    line[:, K - 1 :] = x
    if state is not None:
        line[:, : K - 1] = state
    y = torch.stack([line[:, j : j + L] for j in range(K)], dim=-1)  # (B, L, E, K)
    return torch.einsum("blek,ek->ble", y, weight) + bias, line[:, L:]


class MambaBlock(torch.nn.Module):
    def __init__(self, dim, inner, states, kernel, rank):
        super().__init__()
        self.in_proj = torch.nn.Linear(dim, 2 * inner, bias=False)
        self.conv_weight = torch.nn.Parameter(torch.randn(inner, kernel) / math.sqrt(kernel))
        self.conv_bias = torch.nn.Parameter(torch.zeros(inner))
        self.x_proj = torch.nn.Linear(inner, rank + 2 * states, bias=False)
        self.dt_proj = torch.nn.Linear(rank, inner)
        self.A_log = torch.nn.Parameter(torch.arange(1.0, states + 1).log().repeat(inner, 1))
        self.D = torch.nn.Parameter(torch.ones(inner))
        self.out_proj = torch.nn.Linear(inner, dim, bias=False)

    def forward(self, x, state=None, mask=None):
        line, h = state if state is not None else (None, None)
        inner, N = self.A_log.shape
        into_u, into_z = self.in_proj.weight[:inner], self.in_proj.weight[inner:]
        u, z = x @ into_u.T, x @ into_z.T
        u = self.without_padding(u, mask)
        u, line = causal_conv(u, self.conv_weight, self.conv_bias, line)
        u = self.without_padding(torch.nn.functional.silu(u), mask)
        for_delta, for_B, for_C = self.x_proj.weight.split([self.dt_proj.in_features, N, N])
        delta = torch.nn.functional.softplus(u @ (self.dt_proj.weight @ for_delta).T + self.dt_proj.bias)
        y, h = chunked_scan(u, delta, self.A_log.exp().neg(), u @ for_B.T, u @ for_C.T, self.D, h)
        return (torch.nn.functional.silu(z) * y) @ self.out_proj.weight.T, (line, h)

    def step(self, x, state):
        y, state = self.forward(x.reshape(len(x), 1, -1), state)
        return y.reshape(len(x), -1), state

    @staticmethod
    def without_padding(u, mask):
        return u if mask is None else torch.where(mask.unsqueeze(-1), u, torch.zeros_like(u))


def retention(q, k, v, gamma, S=None):
    outer = torch.einsum("...k,...m->...km", k, v)
    states = parallel_scan(torch.einsum("h,blhkm->blhkm", gamma, torch.ones_like(outer)), outer, S)
    return torch.einsum("...k,...km->...m", q, states), states[:, -1]


def lru(u, nu, theta, B, C, D, x=None):
    radius = nu.exp().neg().exp()
    lam = radius * torch.exp(torch.complex(torch.zeros_like(theta), theta.exp()))
    scale = nu.exp().mul(-2).expm1().neg().sqrt()
    b = torch.matmul(u.to(B.dtype), (scale[:, None] * B).T)
    states = parallel_scan(lam.broadcast_to(b.shape), b, x)
    return torch.matmul(states, C.T).real + D * u, states[:, -1]
