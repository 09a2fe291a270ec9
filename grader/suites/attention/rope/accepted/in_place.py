"""In place on a clone, with out-of-the-way copies of what is overwritten; positions as a special case of rows."""

from __future__ import annotations

import torch


def frequencies(dim, base=10000.0, linear=1.0, ntk=1.0, dtype=torch.float32):
    if dim & 1:
        raise ValueError("pairs need an even number of features")
    theta = torch.empty(dim // 2, dtype=dtype)
    torch.arange(dim // 2, out=theta)
    if ntk != 1.0:
        base *= ntk ** (dim / (dim - 2))
    theta.mul_(-2.0 / dim)
    return torch.pow(base, theta).div_(linear)


def cos_sin(positions, theta):
    cos = positions.to(theta.dtype, copy=True).unsqueeze(-1) * theta
    sin = cos.sin()
    return cos.cos_(), sin


def _rotate(x, first, second, cos, sin):
    out = x.to(torch.promote_types(x.dtype, cos.dtype), copy=True, memory_format=torch.contiguous_format)
    a, b = out[..., first].clone(), out[..., second].clone()
    out[..., first] = (a * cos).addcmul_(b, sin, value=-1)
    out[..., second] = (b * cos).addcmul_(a, sin)
    return out.to(x.dtype)


def rotate_half_split(x, cos, sin):
    half = cos.shape[-1]
    return _rotate(x, slice(0, half), slice(half, 2 * half), cos, sin)


def rotate_interleaved(x, cos, sin):
    rotary = 2 * cos.shape[-1]
    return _rotate(x, slice(0, rotary, 2), slice(1, rotary, 2), cos, sin)


def layout_permutation(dim, rotary_dim=None):
    rotary = dim if rotary_dim is None else rotary_dim
    order = torch.arange(dim)
    order[: rotary // 2] *= 2
    order[rotary // 2 : rotary] = order[rotary // 2 : rotary] * 2 - rotary + 1
    return order


def to_half_split(weight, heads, rotary_dim=None):
    out = weight.clone()
    dim = weight.shape[0] // heads
    order = layout_permutation(dim, rotary_dim)
    for head in range(heads):
        out[head * dim : (head + 1) * dim] = weight[order + head * dim]
    return out


def token_positions(mask):
    positions = torch.zeros(mask.shape, dtype=torch.int64, device=mask.device)
    positions[:, 1:] = mask[:, :-1].cumsum(dim=1)
    return positions


class RotaryEmbedding:
    cos: torch.Tensor | None = None

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
        theta = frequencies(rotary_dim or dim, base, linear, ntk, dtype)
        self.cos, self.sin = cos_sin(torch.arange(max_positions), theta)
        self.rotate = rotate_interleaved if interleaved else rotate_half_split

    def __call__(self, x, offset=0, positions=None):
        if positions is None:
            steps, known = x.shape[-2], self.cos.shape[0]
            if offset < 0 or known < offset + steps:
                raise ValueError(f"{offset} + {steps} is more than {known}")
            return self.rotate(x, self.cos[offset:][:steps], self.sin[offset:][:steps])
        if positions.dim() == 2:
            positions = positions[:, None]  # (B, 1, T) picks rows of (B, 1, T, R/2)
        return self.rotate(x, self.cos[positions], self.sin[positions])


def cos_sin_2d(height, width, theta):
    quarter = len(theta)
    angles = theta.new_empty(height, width, 2 * quarter)
    angles[..., :quarter] = torch.arange(height, dtype=theta.dtype, device=theta.device)[:, None, None] * theta
    angles[..., quarter:] = torch.arange(width, dtype=theta.dtype, device=theta.device)[None, :, None] * theta
    angles = angles.view(height * width, 2 * quarter)
    return angles.cos(), angles.sin()
