"""Projection by integrals in place of a recurrence, kernels by doubling, convolution by blocks of the FFT, loops for HiPPO."""

from __future__ import annotations

import math

import torch


def hippo_legs(N):
    A = torch.zeros(N, N, dtype=torch.float64)
    for n in range(N):
        for k in range(n):
            A[n, k] = -math.sqrt((2 * n + 1) * (2 * k + 1))
        A[n, n] = -n - 1
    return A, torch.tensor([math.sqrt(2 * n + 1) for n in range(N)], dtype=torch.float64)


def bilinear(A, B, step):
    eye = torch.diag(torch.ones_like(B))
    both = torch.cat([eye + A * (step / 2), (B * step).unsqueeze(1)], dim=1)
    solved = torch.linalg.solve(eye - A * (step / 2), both)
    return solved[:, :-1], solved[:, -1]


def zero_order_hold(A, B, step):
    """phi(x) = (e^x - 1) / x by its series on a small step, which is then doubled."""
    doublings = 12
    small = step / 2**doublings
    eye = torch.diag(torch.ones_like(B))
    x = A * small
    phi = eye + x / 2 @ (eye + x / 3 @ (eye + x / 4 @ (eye + x / 5 @ (eye + x / 6))))
    # keep e^x - 1, which does not cancel
    less, b = x @ phi, phi @ B * small
    for _ in range(doublings):
        b = 2 * b + less @ b
        less = 2 * less + less @ less
    return eye + less, b


def _legendre(N, z):
    P = [torch.ones_like(z)]
    if N > 1:
        P.append(z)
    while len(P) < N:
        n = len(P)
        P.append((2 - 1 / n) * z * P[-1] - (1 - 1 / n) * P[-2])
    return P


def legs_project(f, N):
    rows = []
    for k in range(1, f.shape[-1] + 1):
        z = 2 * torch.arange(k + 1, dtype=f.dtype) / k - 1
        P = _legendre(N + 1, z)
        antiderivatives = [(z + 1) / 2]  # of P_n(2 x - 1) with respect to x
        for n in range(1, N):
            antiderivatives.append((P[n + 1] - P[n - 1]) / (2 * n + 1) / 2)
        basis = torch.stack([math.sqrt(2 * n + 1) * (p[1:] - p[:-1]) for n, p in enumerate(antiderivatives)])
        rows.append(f[..., :k] @ basis.T)
    return torch.stack(rows, dim=-2)


def legs_reconstruct(c, x):
    N = c.shape[-1]
    basis = torch.stack([math.sqrt(2 * n + 1) * p for n, p in enumerate(_legendre(N, 2 * x - 1))], dim=-1)
    return torch.matmul(c, basis.mT)


def recurrence(A_bar, B_bar, C, u, state=None):
    x = torch.zeros(*u.shape[:-1], B_bar.numel(), dtype=u.dtype) if state is None else state.clone()
    outputs = []
    for u_k in u.movedim(-1, 0):
        x = (A_bar @ x.unsqueeze(-1)).squeeze(-1) + B_bar * u_k.unsqueeze(-1)
        outputs.append((C * x).sum(-1))
    return torch.stack(outputs).movedim(0, -1), x


def kernel(A_bar, B_bar, C, length):
    """Columns A_bar^i B_bar, twice as many each round."""
    columns, power = B_bar[:, None], A_bar
    while columns.shape[1] < length:
        columns = torch.cat([columns, power @ columns], dim=1)
        power = power @ power
    return C @ columns[:, :length]


def causal_convolution(u, K):
    L = u.shape[-1]
    kind = u.dtype if u.dtype in (torch.float32, torch.float64) else torch.float32
    zeros = torch.zeros_like(u, dtype=kind)
    long_u = torch.cat([u.to(kind), zeros], dim=-1)
    long_K = torch.cat([K.to(kind), torch.zeros_like(K, dtype=kind)], dim=-1)
    y = torch.fft.irfft(torch.fft.rfft(long_u) * torch.fft.rfft(long_K), n=2 * L)
    return y.narrow(-1, 0, L).to(u.dtype).contiguous()


def s4d_discretise(A, step):
    x = A * step[:, None]
    a, b = x.real, x.imag
    # e^(a + ib) - 1 without cancellation
    real = torch.expm1(a) * torch.cos(b) - 2 * torch.sin(b / 2) ** 2
    return torch.exp(x), torch.complex(real, torch.exp(a) * torch.sin(b)) / A


def s4d_kernel(A, C, step, length):
    A_bar, B_bar = s4d_discretise(A, step)
    term, out = C * B_bar, []
    for _ in range(length):
        out.append(term.sum(dim=-1))
        term = term * A_bar
    out = torch.stack(out, dim=-1)
    return (out + out.conj()).real


def s4d_recurrence(A, C, step, u, state=None):
    A_bar, B_bar = s4d_discretise(A, step)
    x = torch.zeros(len(u), *A.shape, dtype=A.dtype) if state is None else state
    y = []
    for l in range(u.shape[2]):
        x = x * A_bar + u[:, :, l, None] * B_bar
        y.append(2 * (x.real * C.real - x.imag * C.imag).sum(-1))
    return torch.stack(y, 2), x
