"""Complex numbers throughout: tables become unit phasors, a rotation is one product."""

from __future__ import annotations

import math

import torch


def frequencies(dim, base=10000.0, linear=1.0, ntk=1.0, dtype=torch.float32):
    if dim % 2 == 1:
        raise ValueError("odd dimension")
    log_base = math.log(base)
    if dim > 2:
        log_base += dim / (dim - 2) * math.log(ntk)
    i = torch.arange(dim // 2, dtype=dtype)
    return torch.exp(i * (-2 * log_base / dim)) / linear


def cos_sin(positions, theta):
    angles = torch.einsum("...,f->...f", positions.to(theta.dtype), theta)
    phasor = torch.polar(torch.ones_like(angles), angles)
    return phasor.real, phasor.imag


def _multiply(a, b, cos, sin):
    wide = torch.promote_types(torch.promote_types(a.dtype, cos.dtype), torch.float32)
    z = torch.complex(a.to(wide), b.to(wide)) * torch.complex(cos.to(wide), sin.to(wide))
    return z.real, z.imag


def rotate_half_split(x, cos, sin):
    half = cos.size(-1)
    a, b, rest = x.split([half, half, x.size(-1) - 2 * half], dim=-1)
    a, b = _multiply(a, b, cos, sin)
    return torch.cat([a.to(x.dtype), b.to(x.dtype), rest], dim=-1)


def rotate_interleaved(x, cos, sin):
    rotary = 2 * cos.size(-1)
    pairs = x[..., :rotary].unflatten(-1, (-1, 2))
    a, b = _multiply(pairs[..., 0], pairs[..., 1], cos, sin)
    turned = torch.view_as_real(torch.complex(a, b)).flatten(-2)
    return torch.cat([turned.to(x.dtype), x[..., rotary:]], dim=-1)


def layout_permutation(dim, rotary_dim=None):
    rotary = rotary_dim or dim
    return torch.tensor(list(range(0, rotary, 2)) + list(range(1, rotary, 2)) + list(range(rotary, dim)))


def to_half_split(weight, heads, rotary_dim=None):
    return torch.cat([head[layout_permutation(len(head), rotary_dim)] for head in weight.chunk(heads)])


def token_positions(mask):
    # the number of real tokens before each token
    return mask.long().cumsum(-1) - mask.long()


class RotaryEmbedding:
    def __init__(
        self,
        dim,
        max_positions,
        rotary_dim=None,
        base=10000.0,
        linear=1.0,
        ntk=1.0,
        interleaved=False,
        dtype=torch.float32,
    ):
        theta = frequencies(dim if rotary_dim is None else rotary_dim, base, linear, ntk, dtype)
        cos, sin = cos_sin(torch.arange(max_positions), theta)
        self.table = torch.complex(cos, sin)
        self.apply = rotate_interleaved if interleaved else rotate_half_split

    def __call__(self, x, offset=0, positions=None):
        if positions is None:
            if not 0 <= offset <= self.table.size(0) - x.size(-2):
                raise ValueError("outside the tables")
            rows = self.table.narrow(0, offset, x.size(-2))
        else:
            rows = self.table[positions]
            if positions.ndim > 1:
                rows = rows.unsqueeze(1)
        return self.apply(x, rows.real, rows.imag)


def cos_sin_2d(height, width, theta):
    rows = cos_sin(torch.arange(height, device=theta.device), theta)
    columns = cos_sin(torch.arange(width, device=theta.device), theta)
    joined = []
    for row, column in zip(rows, columns, strict=True):
        row = row[:, None].expand(height, width, -1)
        column = column[None].expand(height, width, -1)
        joined.append(torch.cat([row, column], dim=-1).reshape(height * width, -1))
    return tuple(joined)
