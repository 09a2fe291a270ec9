"""Rotation matrices of 2 x 2, applied by einsum; one function serves both layouts."""

import torch


def frequencies(
    dim: int, base: float = 10000.0, linear: float = 1.0, ntk: float = 1.0, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    if dim % 2 != 0:
        raise ValueError(f"dim must be even, not {dim}")
    if dim == 2:
        return torch.ones(1, dtype=dtype) / linear
    # NTK-aware scaling without a new base: pair i is slowed by ntk^(2i / (dim - 2))
    i = torch.arange(dim // 2, dtype=dtype)
    return 1.0 / (base ** (2 * i / dim) * ntk ** (2 * i / (dim - 2)) * linear)


def cos_sin(positions, theta):
    angles = positions.unsqueeze(-1).to(theta.dtype).mul(theta)
    return torch.cos(angles), torch.sin(angles)


def _rotate(pairs, cos, sin):
    """`pairs` is (..., T, R/2, 2)."""
    matrix = torch.stack((torch.stack((cos, -sin), -1), torch.stack((sin, cos), -1)), -2)
    return torch.einsum("...ij,...j->...i", matrix, pairs.to(matrix.dtype))


def rotate_half_split(x, cos, sin):
    half = cos.shape[-1]
    pairs = torch.stack((x[..., :half], x[..., half : 2 * half]), dim=-1)
    first, second = _rotate(pairs, cos, sin).unbind(-1)
    return torch.cat((first.to(x.dtype), second.to(x.dtype), x[..., 2 * half :]), dim=-1)


def rotate_interleaved(x, cos, sin):
    half = cos.shape[-1]
    pairs = x[..., : 2 * half].reshape(*x.shape[:-1], half, 2)
    turned = _rotate(pairs, cos, sin).reshape(*x.shape[:-1], 2 * half)
    return torch.cat((turned.to(x.dtype), x[..., 2 * half :]), dim=-1)


def layout_permutation(dim, rotary_dim=None):
    rotary = dim if rotary_dim is None else rotary_dim
    rotated = torch.arange(rotary).view(-1, 2).T.reshape(-1)
    return torch.cat((rotated, torch.arange(rotary, dim)))


def to_half_split(weight, heads, rotary_dim=None):
    dim = weight.shape[0] // heads
    order = layout_permutation(dim, rotary_dim)
    rows = torch.arange(heads)[:, None] * dim + order
    return weight.index_select(0, rows.reshape(-1).to(weight.device))


def token_positions(mask):
    padding = (~mask).sum(dim=-1, keepdim=True)
    return torch.relu(torch.arange(mask.shape[-1], device=mask.device) - padding)


class RotaryEmbedding(torch.nn.Module):
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
        super().__init__()
        theta = frequencies(rotary_dim or dim, base=base, linear=linear, ntk=ntk, dtype=dtype)
        cos, sin = cos_sin(torch.arange(max_positions, device=theta.device), theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.max_positions = max_positions
        self.interleaved = interleaved

    def forward(self, x, offset=0, positions=None):
        if positions is None:
            if offset < 0:
                raise ValueError("negative offset")
            if offset + x.shape[-2] > self.max_positions:
                raise ValueError("tables too short")
            positions = torch.arange(offset, offset + x.shape[-2], device=x.device)
        cos, sin = self.cos[positions], self.sin[positions]
        while positions.dim() > 1 and cos.dim() < x.dim():
            cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        if self.interleaved:
            return rotate_interleaved(x, cos, sin)
        return rotate_half_split(x, cos, sin)


def cos_sin_2d(height, width, theta):
    row, column = torch.meshgrid(
        torch.arange(height, device=theta.device), torch.arange(width, device=theta.device), indexing="ij"
    )
    angles = torch.cat((row.reshape(-1, 1) * theta, column.reshape(-1, 1) * theta), dim=1)
    return angles.cos(), angles.sin()
