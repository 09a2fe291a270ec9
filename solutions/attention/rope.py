r"""# Rotary position embedding

Give queries and keys their positions by rotating them, so that a score depends on how far apart two tokens are and
on nothing else (RoPE: Su et al., 2021, arXiv:2104.09864, equations 14 to 16 and 34).

A head has $D$ features. They form pairs, and pair $i$ of the token at position $m$ is turned by the angle $m\theta_i$:

$$\theta_i = b^{-2i/D},\quad i = 0, \dots, D/2 - 1,\quad b = 10000 \qquad
\begin{pmatrix} y_1 \\ y_2 \end{pmatrix} =
\begin{pmatrix} \cos m\theta_i & -\sin m\theta_i \\ \sin m\theta_i & \cos m\theta_i \end{pmatrix}
\begin{pmatrix} x_1 \\ x_2 \end{pmatrix}$$

Which features are a pair is a matter of **layout**, and a checkpoint works with its own layout only:

- *interleaved* (the paper, GPT-J): pair $i$ is features $2i$ and $2i + 1$, and stays there in the output;
- *half-split* (GPT-NeoX, Llama in Hugging Face's form): pair $i$ is features $i$ and $i + D/2$, and stays there.

Longer contexts than trained for, both in `frequencies`:

- *linear* scaling by $s$ (position interpolation: Chen et al., 2023, arXiv:2306.15595, equation 4): position $m$
  becomes $m / s$, which is the same as $\theta_i / s$;
- *NTK-aware* scaling by $s$ (bloc97, 2023; Peng et al., 2023, arXiv:2309.00071, definition 1): the base becomes
  $b' = b\, s^{D/(D-2)}$. The fastest pair turns as before, the slowest $s$ times slower.

Conventions:

- Tables hold one cosine and one sine a pair, $(T, R/2)$, and so serve both layouts.
- Partial rotary: tables for $R < D$ features rotate the *first* $R$ features and pass the others through. The
  frequencies are those of a head of size $R$, and half-split pairs are $i$ and $i + R/2$.
- Angles are computed in float32 or better, whatever the type of the input. A bfloat16 or float16 input is rotated
  in float32 (or better) and rounded once, at the end. float32 and float64 are rotated in as they are: `x.float()` costs
  a float64 half of its digits.
- Images (the axial form, as in Heo et al., 2024, arXiv:2403.13298, section 3): patches are numbered row by row. The
  first half of the pairs turns with the row, the second half with the column, each with the same frequencies.

Rules: no ready-made rotary embedding (`rotary_embedding_torch`, `transformers`); no trigonometry when a
`RotaryEmbedding` is called, since its tables are there by then; no Python loop over positions or features.

>>> frequencies(4)
tensor([1.0000, 0.0100])
>>> frequencies(4, linear=5.0)
tensor([0.2000, 0.0020])
>>> frequencies(4, ntk=5.0)
tensor([1.0000, 0.0020])

A quarter turn takes $(x_1, x_2)$ to $(-x_2, x_1)$:

>>> x = torch.tensor([[1.0, 2.0, 3.0, 4.0, 9.0]])
>>> cos, sin = torch.zeros(1, 2), torch.ones(1, 2)
>>> rotate_half_split(x, cos, sin)
tensor([[-3., -4.,  1.,  2.,  9.]])
>>> rotate_interleaved(x, cos, sin)
tensor([[-2.,  1., -4.,  3.,  9.]])
>>> layout_permutation(6)
tensor([0, 2, 4, 1, 3, 5])
>>> to_half_split(torch.arange(8), heads=2)
tensor([0, 2, 1, 3, 4, 6, 5, 7])

Positions come from the caller: a row padded on the left starts to count at its first token, and a decoder with a cache
of five tokens goes on at five:

>>> token_positions(torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]).bool())
tensor([[0, 0, 0, 1],
        [0, 1, 2, 3]])
>>> rope = RotaryEmbedding(4, max_positions=16)
>>> x = torch.arange(24.0).reshape(6, 4)
>>> torch.allclose(rope(x)[5:], rope(x[5:], offset=5))
True
>>> cos, sin = cos_sin_2d(2, 3, frequencies(4))
>>> cos.shape
torch.Size([6, 4])
"""

from __future__ import annotations

import torch


def frequencies(
    dim: int, base: float = 10000.0, linear: float = 1.0, ntk: float = 1.0, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """The angle per position of each pair, `(dim / 2,)`, computed in `dtype` (float32 or float64).

    `linear` and `ntk` are the two scaling factors; 1 means none. With `dim` 2 there is only the frequency 1, which
    NTK-aware scaling is not asked to change. An odd `dim` is a ValueError.
    """
    ### BEGIN SOLUTION
    if dim % 2:
        raise ValueError(f"{dim} features cannot form pairs")
    if ntk != 1:
        base = base * ntk ** (dim / (dim - 2))
    exponent = torch.arange(0, dim, 2, dtype=dtype) / dim  # (D/2)
    return base**-exponent / linear
    ### END SOLUTION


def cos_sin(positions: torch.Tensor, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of position times frequency, each of shape `(*positions.shape, len(theta))`.

    `positions` may have any shape and any integer or floating type; the angles and the tables have the type of `theta`.
    """
    ### BEGIN SOLUTION
    angles = positions.to(theta.dtype)[..., None] * theta  # (T, D/2)
    return angles.cos(), angles.sin()
    ### END SOLUTION


def rotate_half_split(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the pairs `(i, i + R/2)` of `x`, `(..., T, D)`, by tables that broadcast to `(..., T, R/2)`.

    Returns a new tensor with the shape and type of `x`.
    """
    ### BEGIN SOLUTION
    half = cos.shape[-1]
    x1, x2, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    y1 = x1 * cos - x2 * sin  # (..., T, R/2), float32 or better by promotion
    y2 = x1 * sin + x2 * cos
    return torch.cat((y1, y2, rest), dim=-1).to(x.dtype)  # (..., T, D)
    ### END SOLUTION


def rotate_interleaved(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """As `rotate_half_split`, for the pairs `(2i, 2i + 1)`."""
    ### BEGIN SOLUTION
    rotary = 2 * cos.shape[-1]
    even, odd, rest = x[..., 0:rotary:2], x[..., 1:rotary:2], x[..., rotary:]
    turned = (even * cos - odd * sin, even * sin + odd * cos)  # (..., T, R/2) each
    pairs = torch.stack(turned, dim=-1).flatten(-2)  # (..., T, R)
    return torch.cat((pairs, rest), dim=-1).to(x.dtype)  # (..., T, D)
    ### END SOLUTION


def layout_permutation(dim: int, rotary_dim: int | None = None) -> torch.Tensor:
    """The indices p, `(dim,)` of int64, that lead from the interleaved to the half-split layout.

    That is, `x[..., p]` rotated half-split equals `x` rotated interleaved, then `[..., p]`. With `rotary_dim`, features
    from there on keep their places.
    """
    ### BEGIN SOLUTION
    rotary = dim if rotary_dim is None else rotary_dim
    index = torch.arange(dim)
    return torch.cat((index[0:rotary:2], index[1:rotary:2], index[rotary:]))
    ### END SOLUTION


def to_half_split(weight: torch.Tensor, heads: int, rotary_dim: int | None = None) -> torch.Tensor:
    """Turn a query or key projection of an interleaved checkpoint into one for half-split rotation.

    `weight` is `(heads * D, ...)`, as in `torch.nn.Linear`, head by head; a bias `(heads * D,)` goes the same way.
    """
    ### BEGIN SOLUTION
    per_head = weight.unflatten(0, (heads, -1))  # (H, D, ...)
    order = layout_permutation(per_head.shape[1], rotary_dim)
    return per_head[:, order].flatten(0, 1)
    ### END SOLUTION


def token_positions(mask: torch.Tensor) -> torch.Tensor:
    """Positions `(B, T)` of int64 for rows padded on the left; `mask`, `(B, T)` of bool, is True at real tokens.

    The first real token of each row is at 0, and so is all padding.
    """
    ### BEGIN SOLUTION
    return (mask.cumsum(dim=-1) - 1).clamp(min=0)
    ### END SOLUTION


class RotaryEmbedding:
    """Rotary embedding for a head of `dim` features, with tables for the positions 0 to `max_positions - 1`."""

    def __init__(
        self,
        dim: int,
        max_positions: int,
        rotary_dim: int | None = None,
        base: float = 10000.0,
        linear: float = 1.0,
        ntk: float = 1.0,
        interleaved: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Compute the tables, once, in `dtype` (float32 or float64)."""
        ### BEGIN SOLUTION
        self.interleaved = interleaved
        theta = frequencies(rotary_dim or dim, base, linear=linear, ntk=ntk, dtype=dtype)
        self.cos, self.sin = cos_sin(torch.arange(max_positions), theta)  # (max_positions, R/2)
        ### END SOLUTION

    def __call__(self, x: torch.Tensor, offset: int = 0, positions: torch.Tensor | None = None) -> torch.Tensor:
        """Rotate queries or keys.

        Without `positions`, `x` is `(..., T, D)` and stands at `offset`, ..., `offset + T - 1`; if any of these lies
        outside the tables, a ValueError. With `positions`, of int64, these count instead: `(T,)`, the same for all
        rows, or `(B, T)`, a row of its own for each row of `x`, `(B, H, T, D)`.
        """
        ### BEGIN SOLUTION
        if positions is None:
            end = offset + x.shape[-2]
            if offset < 0 or end > len(self.cos):
                raise ValueError(f"positions {offset} to {end - 1} are not in tables for {len(self.cos)}")
            cos, sin = self.cos[offset:end], self.sin[offset:end]  # (T, R/2)
        else:
            cos, sin = self.cos[positions], self.sin[positions]  # (T, R/2) or (B, T, R/2)
            if positions.dim() == 2:
                cos, sin = cos[:, None], sin[:, None]  # (B, 1, T, R/2), the same for every head
        rotate = rotate_interleaved if self.interleaved else rotate_half_split
        return rotate(x, cos, sin)
        ### END SOLUTION


def cos_sin_2d(height: int, width: int, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tables for the patches of an image, row by row: cosine and sine, each `(height * width, 2 * len(theta))`.

    The first `len(theta)` pairs turn with the row, the others with the column. For a head of D features, `theta` is
    `frequencies(D / 2)`, and the tables serve both `rotate_` functions.
    """
    ### BEGIN SOLUTION
    patch = torch.arange(height * width, device=theta.device)  # (N)
    row, column = patch // width, patch % width
    cos, sin = cos_sin(torch.stack((row, column), dim=-1), theta)  # (N, 2, D/4)
    return cos.flatten(-2), sin.flatten(-2)  # (N, D/2)
    ### END SOLUTION
