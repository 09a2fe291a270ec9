"""Both conjugate halves written out, numpy-minded indexing, and outputs collected in lists."""

from __future__ import annotations

import math

import torch


def hippo_legs(N):
    P = torch.sqrt(1 + 2 * torch.arange(N, dtype=torch.float64))
    A = P[:, None] * P[None, :]
    A = torch.tril(A) - torch.diag(torch.arange(N, dtype=torch.float64))
    return -A, P


def bilinear(A, B, step):
    eye = torch.eye(A.shape[0], dtype=A.dtype)
    BL = torch.linalg.inv(eye - (step / 2.0) * A)
    return BL @ (eye + (step / 2.0) * A), (BL * step) @ B


def zero_order_hold(A, B, step):
    N = len(B)
    top = torch.hstack([A * step, (B * step)[:, None]])
    E = torch.linalg.matrix_exp(torch.vstack([top, top.new_zeros(1, N + 1)]))
    return E[0:N, 0:N], E[0:N, N]


def legs_project(f, N):
    A, B = hippo_legs(N)
    A, B = A.type_as(f), B.type_as(f)
    c = torch.zeros((*f.shape, N), dtype=f.dtype)
    c[..., 0, 0] = f[..., 0]
    c = list(c.unbind(-2))
    for k in range(1, len(c)):
        Ad, Bd = zero_order_hold(A, B, math.log1p(1 / k))
        c[k] = torch.matmul(c[k - 1], Ad.t()) + Bd * f[..., k : k + 1]
    return torch.stack(c, dim=-2)


def legs_reconstruct(c, x):
    """Clenshaw's scheme."""
    N = c.shape[-1]
    z = 2 * x - 1
    later, latest = torch.zeros_like(c[..., :1] * z), torch.zeros_like(c[..., :1] * z)
    for n in range(N - 1, -1, -1):
        a = c[..., n : n + 1] * math.sqrt(2 * n + 1)
        later, latest = a + (2 * n + 1) / (n + 1) * z * later - (n + 1) / (n + 2) * latest, later
    return later


def recurrence(A_bar, B_bar, C, u, state=None):
    shape = u.shape[:-1]
    rows = u.reshape(-1, u.shape[-1])
    N = len(C)
    x = rows.new_zeros(len(rows), N) if state is None else state.reshape(-1, N)
    y = []
    for k in range(rows.shape[1]):
        x = torch.addmm(torch.outer(rows[:, k], B_bar), x, A_bar.t())
        y.append(torch.mv(x, C))
    return torch.stack(y, 1).reshape(u.shape), x.reshape(*shape, N)


def kernel(A_bar, B_bar, C, length):
    y, _ = recurrence(A_bar, B_bar, C, torch.eye(length, dtype=A_bar.dtype)[0])
    return y


def causal_convolution(u, K):
    L = u.shape[-1]
    wide = u.float() if u.element_size() < 4 else u
    n = 2 * L - 1
    return torch.fft.irfft(torch.fft.rfft(wide, n) * torch.fft.rfft(K.to(wide.dtype), n), n)[..., :L].to(u.dtype)


def s4d_discretise(A, step):
    dtA = A * step.reshape(-1, 1)
    return dtA.exp(), dtA.expm1().div(A)


def s4d_kernel(A, C, step, length):
    A, C = torch.cat((A, A.conj()), -1), torch.cat((C, C.conj()), -1)
    _, B = s4d_discretise(A, step)
    dtA = A * step.reshape(-1, 1)
    K = (C * B).unsqueeze(-1) * torch.exp(dtA.unsqueeze(-1) * torch.arange(length))
    return K.sum(1).real


def s4d_recurrence(A, C, step, u, state=None):
    A_bar, B_bar = s4d_discretise(A, step)
    x = torch.zeros((), dtype=A.dtype).expand(len(u), *A.shape) if state is None else state
    y = []
    for u_l in u.permute(2, 0, 1):
        x = torch.addcmul(B_bar * u_l.unsqueeze(-1), A_bar, x)
        total = torch.matmul(x.unsqueeze(-2), C.unsqueeze(-1)).squeeze(-1).squeeze(-1)
        y.append((total + total.conj()).real)
    return torch.stack(y, dim=2), x
