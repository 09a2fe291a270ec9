"""Preallocated results filled step by step, and pairs of reals in place of complex numbers in the recurrence."""

from __future__ import annotations

import math

import torch


def hippo_legs(N):
    A = torch.empty(N, N, dtype=torch.float64)
    B = torch.empty(N, dtype=torch.float64)
    for n in range(N):
        B[n] = (2 * n + 1) ** 0.5
        for k in range(N):
            A[n, k] = 0.0 if n < k else -(n + 1.0) if n == k else -((2 * n + 1) ** 0.5) * (2 * k + 1) ** 0.5
    return A, B


def bilinear(A, B, step):
    forward = torch.eye(len(A), dtype=A.dtype) + step * A / 2
    backward = torch.eye(len(A), dtype=A.dtype) - step * A / 2
    LU, pivots = torch.linalg.lu_factor(backward)
    return torch.linalg.lu_solve(LU, pivots, forward), torch.linalg.lu_solve(LU, pivots, (step * B)[:, None])[:, 0]


def zero_order_hold(A, B, step):
    padded = torch.nn.functional.pad(torch.column_stack((A, B)), (0, 0, 0, 1))
    padded = torch.matrix_exp(step * padded)
    return padded[:-1, :-1].contiguous(), padded[:-1, -1].contiguous()


def legs_project(f, N):
    A, B = hippo_legs(N)
    A, B = A.to(f.dtype), B.to(f.dtype)
    L = f.shape[-1]
    out = f.new_zeros(*f.shape, N)
    out[..., 0, 0] = f[..., 0]
    for k in range(2, L + 1):
        A_bar, B_bar = zero_order_hold(A, B, math.log(k / (k - 1)))
        out[..., k - 1, :] = out[..., k - 2, :].clone() @ A_bar.mT + f[..., k - 1].unsqueeze(-1) * B_bar
    return out


def legs_reconstruct(c, x):
    N, z = c.shape[-1], x + x - 1
    basis = [z**0]
    for n in range(N - 1):
        new = (2 * n + 1) * z * basis[n]
        if n:
            new = new - n * basis[n - 1]
        basis.append(new / (n + 1))
    basis = torch.stack([(2 * n + 1) ** 0.5 * p for n, p in enumerate(basis)])
    return c @ basis


def recurrence(A_bar, B_bar, C, u, state=None):
    y = torch.zeros_like(u, memory_format=torch.contiguous_format)
    x = u.new_zeros((*u.shape[:-1], A_bar.shape[0])) if state is None else state
    for k in range(u.shape[-1]):
        x = torch.nn.functional.linear(x, A_bar) + u[..., k : k + 1] * B_bar
        y[..., k] = x.matmul(C)
    return y, x


def kernel(A_bar, B_bar, C, length):
    K = A_bar.new_zeros(length)
    row = C
    for i in range(length):
        K[i] = row.dot(B_bar)
        row = A_bar.T @ row
    return K


def causal_convolution(u, K):
    L = u.shape[-1]
    work = torch.float64  # wider than asked for, and rounded once
    spectrum = torch.fft.rfft(u.to(work), 3 * L)
    spectrum = spectrum * torch.fft.rfft(K.to(work), 3 * L)
    return torch.fft.irfft(spectrum, 3 * L)[..., :L].to(u.dtype)


def s4d_discretise(A, step):
    x = step[:, None] * A
    growth = torch.expm1(x)
    return growth + 1, growth / A


def s4d_kernel(A, C, step, length):
    _, B_bar = s4d_discretise(A, step)
    K = torch.zeros(len(A), length, dtype=step.dtype)
    weights = C * B_bar
    for i in range(length):
        K[:, i] = 2 * (weights * torch.exp(i * step[:, None] * A)).sum(1).real
    return K


def s4d_recurrence(A, C, step, u, state=None):
    A_bar, B_bar = s4d_discretise(A, step)
    y = torch.zeros_like(u, memory_format=torch.contiguous_format)
    if state is None:
        re, im = u.new_zeros(len(u), *A.shape), u.new_zeros(len(u), *A.shape)
    else:
        re, im = state.real, state.imag
    for k in range(u.shape[-1]):
        v = u[..., k, None]
        re, im = (
            A_bar.real * re - A_bar.imag * im + B_bar.real * v,
            A_bar.real * im + A_bar.imag * re + B_bar.imag * v,
        )
        y[..., k] = 2 * (C.real * re - C.imag * im).sum(-1)
    return y, torch.complex(re, im)
