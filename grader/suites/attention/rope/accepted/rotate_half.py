"""As Llama and GPT-J are written: full-width tables made on the spot, x * cos + rotate_half(x) * sin."""

import torch


def frequencies(dim, base=10000.0, linear=1.0, ntk=1.0, dtype=torch.float32):
    if dim % 2:
        raise ValueError("dim is odd")
    scaled = base if ntk == 1.0 else base * ntk ** (dim / (dim - 2))
    inverse = 1.0 / (scaled ** (torch.arange(0, dim, 2).to(dtype) / dim))
    return inverse / linear


def cos_sin(positions, theta):
    flat = positions.reshape(-1).to(theta.dtype)
    angles = torch.outer(flat, theta).reshape(*positions.shape, -1)
    return angles.cos(), angles.sin()


def _rotate(x, cos, sin, partner):
    rotary = cos.shape[-1]
    x_rot, x_pass = x[..., :rotary], x[..., rotary:]
    wide = x_rot.to(torch.promote_types(x.dtype, cos.dtype))
    turned = wide * cos + partner(wide) * sin
    return torch.cat((turned.to(x.dtype), x_pass), dim=-1)


def _swap_halves(x):
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


def _swap_neighbours(x):
    return torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)


def rotate_half_split(x, cos, sin):
    return _rotate(x, torch.cat((cos, cos), -1), torch.cat((sin, sin), -1), _swap_halves)


def rotate_interleaved(x, cos, sin):
    return _rotate(x, cos.repeat_interleave(2, -1), sin.repeat_interleave(2, -1), _swap_neighbours)


def layout_permutation(dim, rotary_dim=None):
    if rotary_dim is None:
        rotary_dim = dim
    order = torch.arange(dim)
    order[:rotary_dim] = torch.cat((torch.arange(0, rotary_dim, 2), torch.arange(1, rotary_dim, 2)))
    return order


def to_half_split(weight, heads, rotary_dim=None):
    dim = weight.shape[0] // heads
    rotary = dim if rotary_dim is None else rotary_dim
    tail = weight.shape[1:]
    per_head = weight.reshape(heads, dim, *tail)
    turned = per_head[:, :rotary].reshape(heads, rotary // 2, 2, *tail).transpose(1, 2).reshape(heads, rotary, *tail)
    return torch.cat((turned, per_head[:, rotary:]), dim=1).reshape(weight.shape)


def token_positions(mask):
    counted = mask.to(torch.int64).cumsum(-1) - 1
    return counted.masked_fill(~mask, 0)


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
        self.theta = frequencies(dim if rotary_dim is None else rotary_dim, base, linear, ntk, dtype)
        self.max_positions = max_positions
        self.interleaved = interleaved
        # one table of (max_positions, 2, R/2), so that a step reads one row
        self.table = torch.stack(cos_sin(torch.arange(max_positions), self.theta), dim=1)

    def _rows(self, x, offset, positions):
        if positions is not None:
            picked = self.table[positions]
            return picked if positions.dim() == 1 else picked.unsqueeze(1)
        steps = x.shape[-2]
        if min(offset, self.max_positions - offset - steps) < 0:
            raise ValueError("no such positions")
        return self.table[offset : offset + steps]

    def __call__(self, x, offset=0, positions=None):
        cos, sin = self._rows(x, offset, positions).unbind(-2)
        return (rotate_interleaved if self.interleaved else rotate_half_split)(x, cos, sin)


def cos_sin_2d(height, width, theta):
    numbers = torch.cartesian_prod(torch.arange(height), torch.arange(width)).to(theta.device)
    angles = (numbers[:, :, None] * theta).reshape(height * width, -1)
    return torch.cos(angles), torch.sin(angles)
