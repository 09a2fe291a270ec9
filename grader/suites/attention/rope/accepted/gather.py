"""Numpy-minded: index arrays say which features are partners, and take and put do the rest."""

import torch


def frequencies(dim, base=10000.0, linear=1.0, ntk=1.0, dtype=torch.float32):
    if dim != 2 * (dim // 2):
        raise ValueError(f"bad dimension {dim}")
    b = torch.tensor(float(base), dtype=dtype)
    if ntk != 1:
        b = b * torch.tensor(float(ntk), dtype=dtype) ** (dim / (dim - 2))
    i = torch.linspace(0, dim // 2 - 1, dim // 2, dtype=dtype)
    return torch.reciprocal(torch.pow(b, 2 * i / dim) * linear)


def cos_sin(positions, theta):
    shape = (*positions.shape, *theta.shape)
    angles = torch.broadcast_to(positions.to(theta.dtype)[..., None], shape) * torch.broadcast_to(theta, shape)
    return torch.cos(angles), torch.sin(angles)


def _turn(x, cos, sin, first, second):
    """`first` and `second` are the features of the pairs; signs and partners make one gather of it."""
    dim, rotary = x.shape[-1], 2 * cos.shape[-1]
    partner = torch.arange(dim)
    partner[first], partner[second] = second, first
    place = torch.empty(rotary, dtype=torch.int64)
    place[first], place[second] = torch.arange(rotary // 2), torch.arange(rotary // 2)
    sign = torch.ones(rotary, dtype=cos.dtype)
    sign[first] = -1
    place, sign, partner = place.to(x.device), sign.to(x.device), partner.to(x.device)
    wide = x.to(torch.promote_types(x.dtype, cos.dtype))
    other = torch.index_select(wide, -1, partner)
    turned = wide[..., :rotary] * cos[..., place] + other[..., :rotary] * (sin[..., place] * sign)
    return torch.concatenate((turned, wide[..., rotary:]), dim=-1).to(x.dtype)


def rotate_half_split(x, cos, sin):
    index = torch.arange(cos.shape[-1])
    return _turn(x, cos, sin, index, index + cos.shape[-1])


def rotate_interleaved(x, cos, sin):
    index = 2 * torch.arange(cos.shape[-1])
    return _turn(x, cos, sin, index, index + 1)


def layout_permutation(dim, rotary_dim=None):
    rotary = dim if rotary_dim is None else rotary_dim
    index = torch.arange(dim)
    key = torch.where(index < rotary, index % 2 * rotary + index, 2 * dim + index)
    return torch.argsort(key)


def to_half_split(weight, heads, rotary_dim=None):
    dim = weight.shape[0] // heads
    order = layout_permutation(dim, rotary_dim)
    tail = weight.shape[1:]
    return torch.take_along_dim(weight.reshape(heads, dim, -1), order.to(weight.device)[None, :, None], dim=1).reshape(
        heads * dim, *tail
    )


def token_positions(mask):
    start = torch.where(mask.any(dim=1), mask.int().argmax(dim=1), mask.shape[1])
    return torch.clip(torch.arange(mask.shape[1], device=mask.device)[None] - start[:, None], min=0)


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
        self.size = max_positions
        self.turn = (rotate_half_split, rotate_interleaved)[int(interleaved)]
        theta = frequencies(dim if rotary_dim is None else rotary_dim, base, linear, ntk, dtype)
        self.tables = cos_sin(torch.arange(max_positions, dtype=dtype), theta)

    def __call__(self, x, offset=0, positions=None):
        if positions is None:
            first, last = offset, offset + x.shape[-2] - 1
            if first < 0 or last >= self.size:
                raise ValueError(f"{first} to {last}")
            index = torch.arange(first, last + 1, device=x.device)
        else:
            index = positions
        cos, sin = (torch.index_select(table, 0, index.reshape(-1)) for table in self.tables)
        shape = (*index.shape, cos.shape[-1])
        cos, sin = cos.reshape(shape), sin.reshape(shape)
        if index.dim() == 2:
            cos, sin = torch.swapaxes(cos[None], 0, 1), torch.swapaxes(sin[None], 0, 1)
        return self.turn(x, cos, sin)


def cos_sin_2d(height, width, theta):
    patch = torch.arange(height * width, device=theta.device)
    row = torch.div(patch, width, rounding_mode="floor")
    row_cos, row_sin = cos_sin(row, theta)
    column_cos, column_sin = cos_sin(patch - row * width, theta)
    return torch.hstack((row_cos, column_cos)), torch.hstack((row_sin, column_sin))
