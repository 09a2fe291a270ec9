"""Hillis and Steele's scan, whose reach doubles; matrix products and views; forward by chunks."""

from __future__ import annotations

import math

import torch
from torch import nn


def wide(*tensors):
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


def combine(first, second):
    return first[0] * second[0], torch.addcmul(second[1], second[0], first[1])


def parallel_scan(a, b, h=None):
    L = b.size(1)
    if h is not None:
        first = torch.addcmul(b.narrow(1, 0, 1), a.narrow(1, 0, 1), h.unsqueeze(1))
        b = torch.cat((first, b.narrow(1, 1, L - 1)), 1)
    b = b.clone()
    reach = 1
    while reach < L:
        earlier = a.narrow(1, 0, L - reach), b.narrow(1, 0, L - reach)
        later = a.narrow(1, reach, L - reach), b.narrow(1, reach, L - reach)
        new_a, new_b = combine(earlier, later)
        a = torch.cat((a.narrow(1, 0, reach), new_a), 1)
        b = torch.cat((b.narrow(1, 0, reach), new_b), 1)
        reach *= 2
    return b


def discretise(u, delta, A, B):
    decay = torch.exp(torch.einsum("...e,en->...en", delta, A))
    return decay, torch.einsum("...e,...n->...en", delta * u, B)


def selective_scan(u, delta, A, B, C, D, h=None):
    kind = u.dtype
    u, delta, A, B, C, D = wide(u, delta, A, B, C, D)
    state = torch.zeros(u.size(0), A.size(0), A.size(1), dtype=u.dtype) if h is None else h
    rows = []
    for u_t, d_t, B_t, C_t in zip(u.unbind(1), delta.unbind(1), B.unbind(1), C.unbind(1), strict=True):
        a, b = discretise(u_t, d_t, A, B_t)
        state = torch.addcmul(b, a, state)
        rows.append(torch.einsum("ben,bn->be", state, C_t) + D * u_t)
    return torch.stack(rows, 1).to(kind), state


def chunked_scan(u, delta, A, B, C, D, h=None, chunk_size=64):
    kind = u.dtype
    u, delta, A, B, C, D = wide(u, delta, A, B, C, D)
    pieces = [x.split(chunk_size, 1) for x in (u, delta, B, C)]
    rows = []
    for u_c, d_c, B_c, C_c in zip(*pieces, strict=True):
        states = parallel_scan(*discretise(u_c, d_c, A, B_c), h)
        h = states.select(1, -1)
        rows.append(torch.einsum("blen,bln->ble", states, C_c) + D * u_c)
    return torch.cat(rows, 1).to(kind), h


def causal_conv(x, weight, bias, state=None):
    E, K = weight.shape
    if state is None:
        x = nn.functional.pad(x, (0, 0, K - 1, 0))
    else:
        x = torch.cat((state, x), 1)
    y = nn.functional.conv1d(x.transpose(1, 2), weight.unsqueeze(1), bias, groups=E)
    return y.transpose(1, 2), x[:, x.size(1) - K + 1 :]


class MambaBlock(nn.Module):
    def __init__(self, dim, inner, states, kernel, rank):
        super().__init__()
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv_weight = nn.Parameter(torch.randn(inner, kernel) / math.sqrt(kernel))
        self.conv_bias = nn.Parameter(torch.zeros(inner))
        self.x_proj = nn.Linear(inner, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, dim, bias=False)
        self.sizes = [rank, states, states]

    def forward(self, x, state=None, mask=None):
        if state is None:
            state = (None, None)
        u, z = self.in_proj(x).tensor_split(2, -1)
        if mask is not None:
            u = u.masked_fill(~mask.unsqueeze(-1), 0)
        u, new = causal_conv(u, self.conv_weight, self.conv_bias, state[0])
        u = nn.functional.silu(u)
        if mask is not None:
            u = u.masked_fill(~mask.unsqueeze(-1), 0)
        delta, B, C = self.x_proj(u).split(self.sizes, -1)
        delta = nn.functional.softplus(self.dt_proj(delta))
        y, h = chunked_scan(u, delta, -torch.exp(self.A_log), B, C, self.D, state[1], 4)
        return self.out_proj(y * nn.functional.silu(z)), (new, h)

    def step(self, x, state):
        y, state = self(x.unsqueeze(1), state)
        return y.squeeze(1), state


def retention(q, k, v, gamma, S=None):
    updates = torch.einsum("blhk,blhm->blhkm", k, v)
    decays = gamma.view(1, 1, -1, 1, 1).expand(updates.shape)
    states = parallel_scan(decays, updates, S)
    return torch.einsum("blhk,blhkm->blhm", q, states), states[:, -1]


def lru(u, nu, theta, B, C, D, x=None):
    lam = torch.exp(torch.complex(-nu.exp(), theta.exp()))
    scale = torch.sqrt(-torch.expm1(-2 * nu.exp()))
    inputs = torch.einsum("nh,blh->bln", B * scale[:, None], u.to(B.dtype))
    states = parallel_scan(lam.expand(inputs.shape), inputs, x)
    y = torch.einsum("hn,bln->blh", C, states).real
    return y + D * u, states[:, -1]
