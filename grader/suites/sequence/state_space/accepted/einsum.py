"""Einstein sums, broadcast kernels, an exact hold by scaling a series, and cosines for the real part."""

from __future__ import annotations

import math

import torch


def hippo_legs(N):
    n = torch.arange(N, dtype=torch.float64)
    B = torch.sqrt(2 * n + 1)
    entries = torch.einsum("n,k->nk", B, B)
    below = n[:, None] > n
    A = -torch.where(below, entries, torch.zeros_like(entries))
    A[range(N), range(N)] = -(n + 1)
    return A, B


def bilinear(A, B, step):
    N = A.shape[0]
    eye = torch.eye(N, dtype=A.dtype)
    inverse = torch.linalg.inv(eye - 0.5 * step * A)
    return inverse @ (eye + 0.5 * step * A), step * torch.einsum("nm,m->n", inverse, B)


def zero_order_hold(A, B, step):
    N = A.shape[0]
    block = A.new_zeros(N + 1, N + 1)
    block[:N, :N] = A
    block[:N, N] = B
    block = torch.matrix_exp(block * step)
    return block[:N, :N], block[:N, N]


def legs_project(f, N):
    A, B = hippo_legs(N)
    A, B = A.to(f.dtype), B.to(f.dtype)
    constant = torch.eye(N, dtype=f.dtype)[0]
    rows = [torch.einsum("...,n->...n", f[..., 0], constant)]
    for k in range(2, f.shape[-1] + 1):
        A_bar, _ = zero_order_hold(A, B, math.log(k) - math.log(k - 1))
        fixed = torch.einsum("...,n->...n", f[..., k - 1], constant)  # where a constant input leads
        rows.append(fixed + torch.einsum("nm,...m->...n", A_bar, rows[-1] - fixed))
    return torch.stack(rows, -2)


def legs_reconstruct(c, x):
    z = 2 * x - 1
    before, now, total = torch.zeros_like(z), torch.ones_like(z), 0
    for n in range(c.shape[-1]):
        total = total + math.sqrt(2 * n + 1) * torch.einsum("...,p->...p", c[..., n], now)
        before, now = now, ((2 * n + 1) * z * now - n * before) / (n + 1)
    return total


def recurrence(A_bar, B_bar, C, u, state=None):
    if state is None:
        state = torch.zeros(u.shape[:-1] + B_bar.shape, dtype=u.dtype)
    y = []
    for k in range(u.shape[-1]):
        state = torch.einsum("nm,...m->...n", A_bar, state) + torch.einsum("n,...->...n", B_bar, u[..., k])
        y.append(torch.einsum("n,...n->...", C, state))
    return torch.stack(y, -1), state


def kernel(A_bar, B_bar, C, length):
    rows = [C]
    for _ in range(length - 1):
        rows.append(rows[-1] @ A_bar)
    return torch.einsum("ln,n->l", torch.stack(rows), B_bar)


def causal_convolution(u, K):
    L = u.shape[-1]
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    size = 2 ** math.ceil(math.log2(2 * L))
    U, V = torch.fft.fft(u.to(dtype), n=size), torch.fft.fft(K.to(dtype), n=size)
    return torch.fft.ifft(U * V).real[..., :L].to(u.dtype)


def s4d_discretise(A, step):
    x = torch.einsum("hm,h->hm", A, step.to(A.dtype))
    return torch.exp(x), torch.expm1(x) / A


def s4d_kernel(A, C, step, length):
    _, B_bar = s4d_discretise(A, step)
    x = A * step.unsqueeze(1)
    times = torch.arange(length, dtype=step.dtype)
    weights = C * B_bar
    size = torch.exp(torch.einsum("hm,l->hml", x.real, times))
    angle = torch.einsum("hm,l->hml", x.imag, times)
    a, b = weights.real.unsqueeze(2), weights.imag.unsqueeze(2)
    return 2 * (size * (a * angle.cos() - b * angle.sin())).sum(1)


def s4d_recurrence(A, C, step, u, state=None):
    A_bar, B_bar = s4d_discretise(A, step)
    if state is None:
        state = torch.zeros(u.shape[0], *A.shape, dtype=A.dtype)
    y = []
    for k in range(u.shape[-1]):
        state = torch.einsum("hm,bhm->bhm", A_bar, state) + torch.einsum("hm,bh->bhm", B_bar, u[..., k].to(A.dtype))
        y.append(2 * torch.einsum("hm,bhm->bh", C, state).real)
    return torch.stack(y, -1), state
