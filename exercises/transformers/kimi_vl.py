r"""# Kimi-VL's vision path

Write what takes images of any size into a language model (Kimi Team, 2025, arXiv:2504.07491, section 2.1): patches of
several images packed into one sequence, positions for any grid, attention inside each image, the merging projector,
and the splice into the text.

**Packing** (after NaViT: Dehghani et al., 2023, arXiv:2307.06304, section 2.1). Nothing is resized or padded. Image $i$
is cut into a grid of $h_i \times w_i$ patches of $p \times p$ pixels, row by row, and the $n_i = h_i w_i$ patches of
all images stand one behind the other: $N = \sum_i n_i$ rows, with the grids beside them. A patch sees the patches of
its own image and no others, so attention costs $\sum_i n_i^2$ and not $N^2$.

**Positions** come twice. A learned table, of $H_0 \times W_0$ vectors, is resized to each image's grid by bicubic
interpolation (what `torch.nn.functional.interpolate` computes with `mode="bicubic"` and its other defaults) and
added to the patches. And in every block queries and keys are rotated by **2D RoPE**: a head has $D$ features, thus
$D/2$ pairs of neighbours $(x_{2j}, x_{2j+1})$. There are $D/4$ frequencies, with the base $b$, and each turns two
pairs. For the patch in row $r$ and column $c$, both counted from 0 in its own image,

$$\theta_i = b^{-4i/D} \qquad \text{pair } 2i \text{ turns by } c\,\theta_i \qquad
\text{pair } 2i + 1 \text{ by } r\,\theta_i \qquad i = 0, \dots, D/4 - 1$$

A turn by $\alpha$ takes $(x_1, x_2)$ to $(x_1 \cos\alpha - x_2 \sin\alpha,\; x_1 \sin\alpha + x_2 \cos\alpha)$.

**Projector.** Each patch is normalised (LayerNorm), each block of $2 \times 2$ patches becomes one token with four
times the features, and two linear layers with a GELU (the exact one, with erf) between them lead to the text's width.

**Splice.** The text holds a placeholder token for each image token. Their embeddings are replaced by the image tokens,
in order: row by row of the batch, from left to right.

Conventions:

- A patch's features are its channels one after the other, each row by row: the order of a `Conv2d`'s weight.
- A merged token's features are those of its patches one after the other: top left, top right, bottom left, bottom
  right. Merged tokens stand row by row, image by image. The same holds for larger blocks.
- Grids are lists of `(rows, columns)`, of int. Images come in the type of the model's parameters.
- Attention has the scale $1 / \sqrt D$ with the $D$ of a head.
- In bfloat16 and float16, interpolation, rotation and attention compute in float32 (angles, tables, logits, weights and
  sums over keys too), and each function rounds its result once. With float32 and float64 everything has that type.

Cost: `packed_attention` takes $4 \sum_i n_i^2 D$ operations a head and makes no tensor of more numbers than the logits
of the largest image, all heads at once, or than its inputs. The number of operators may grow with the images, and not
with their patches, heads or tokens.

Rules: no ready-made attention (`scaled_dot_product_attention`, `nn.MultiheadAttention`, `nn.Transformer*`); softmax,
LayerNorm, GELU and `interpolate` are allowed. No Python loop over patches, heads or tokens (one over images is
fine). Arguments are left as they are, and may lie in memory in any order. Results depend on the arguments and on the
parameters as they are now, not on earlier calls; they are new tensors, but for a table on a grid of its own size.

>>> pack([torch.arange(8).reshape(1, 2, 4), torch.arange(10, 14).reshape(1, 2, 2)], 2)
(tensor([[ 0,  1,  4,  5],
        [ 2,  3,  6,  7],
        [10, 11, 12, 13]]), [(1, 2), (1, 1)])
>>> interpolate_positions(torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]]), 1, 2)
tensor([[2.],
        [3.]])

Four features have one frequency, 1: the first pair turns with the column, the second with the row.

>>> cos, sin = rope_tables([(2, 3)], 4)
>>> sin
tensor([[0.0000, 0.0000],
        [0.8415, 0.0000],
        [0.9093, 0.0000],
        [0.0000, 0.8415],
        [0.8415, 0.8415],
        [0.9093, 0.8415]])
>>> rope_tables([(1, 2)], 8)[1][1]  # of eight features, row 0 and column 1: the frequencies are 1 and 1/100
tensor([0.8415, 0.0000, 0.0100, 0.0000])
>>> rotate(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]))
tensor([[[-2.,  1.,  3.,  4.]]])

Equal keys make averages, here over images of two patches and of one:

>>> q, v = torch.zeros(3, 1, 4), torch.tensor([[[2.0]], [[4.0]], [[9.0]]])
>>> packed_attention(q, q, v, [2, 1]).flatten()
tensor([3., 3., 9.])
>>> merge_patches(torch.arange(8).reshape(8, 1), [(2, 4)])
tensor([[0, 1, 4, 5],
        [2, 3, 6, 7]])
>>> encoder, projector = MoonViT(patch=2, width=8, heads=2, blocks=1, hidden=12, table=(3, 3)), Projector(8, 12, 6)
>>> x, grids = encoder([torch.zeros(3, 4, 8), torch.zeros(3, 8, 4)])
>>> x.shape, grids, projector(x, grids).shape
(torch.Size([16, 8]), [(2, 4), (4, 2)], torch.Size([4, 6]))
>>> splice(torch.zeros(2, 3, 1), torch.tensor([[7, 1, 1], [1, 7, 7]]), torch.tensor([[4.0], [5.0], [6.0]]), 7)[..., 0]
tensor([[4., 0., 0.],
        [0., 5., 6.]])
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

Grids = Sequence[tuple[int, int]]


def wide(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Half precision becomes float32; float32 and float64 stay what they are (given)."""
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


def pack(images: Sequence[torch.Tensor], patch: int) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    """All patches, `(N, C * patch * patch)`, and the grid of each image.

    `images`, one or more, are `(C, H_i, W_i)`, of one type. A height or width that is no multiple of `patch` is a
    ValueError.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def interpolate_positions(table: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The table, `(H0, W0, E)`, resized to a grid: `(rows * columns, E)`, row by row, in the type of the table."""
    # YOUR CODE HERE
    raise NotImplementedError()


def rope_tables(
    grids: Grids,
    dim: int,
    base: float = 10000.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of every patch's angles, `(N, dim / 2)` both, computed in `dtype` (float32 or float64).

    `dim` is the size of a head; if it is no multiple of 4, it is a ValueError.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn the neighbouring pairs of `x`, `(N, heads, D)`, by tables `(N, D / 2)`; shape and type of `x`."""
    # YOUR CODE HERE
    raise NotImplementedError()


def packed_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Softmax attention inside each image, `(N, heads, M)` in the type of `v`.

    `q` and `k` are `(N, heads, D)`, `v` is `(N, heads, M)`, and `lengths` are the images' numbers of patches, 1 or more
    each, which sum to N.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def merge_patches(x: torch.Tensor, grids: Grids, factor: int = 2) -> torch.Tensor:
    """Each block of factor x factor patches of `x`, `(N, E)`, as one token: `(N / factor^2, factor^2 * E)`.

    A grid with a side that is no multiple of `factor` is a ValueError.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


class Projector(nn.Module):
    """From patches of the encoder to tokens of the text."""

    def __init__(self, width: int, hidden: int, text_width: int, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor
        self.norm = nn.LayerNorm(width)
        self.linear_1 = nn.Linear(factor**2 * width, hidden)
        self.linear_2 = nn.Linear(hidden, text_width)

    def forward(self, x: torch.Tensor, grids: Grids) -> torch.Tensor:
        """Tokens of all images, `(N / factor^2, text_width)`, for patches `x`, `(N, width)`."""
        # YOUR CODE HERE
        raise NotImplementedError()


class Block(nn.Module):
    """A pre-norm transformer block over packed patches, on `rotate` and `packed_attention` (given)."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        q, k, v = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.heads, -1)).unbind(1)  # (N, heads, D)
        attended = packed_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, lengths)
        x = x + self.output(attended.flatten(1))  # (N, width)
        return x + self.down(nn.functional.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class MoonViT(nn.Module):
    """The encoder: patches, positions, blocks, and a last norm."""

    def __init__(
        self, patch: int, width: int, heads: int, blocks: int, hidden: int, table: tuple[int, int], channels: int = 3
    ) -> None:
        super().__init__()
        self.patch = patch
        self.head = width // heads  # features of a head
        self.embedding = nn.Linear(channels * patch * patch, width)
        self.positions = nn.Parameter(torch.randn(*table, width))
        self.blocks = nn.ModuleList(Block(width, heads, hidden) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[tuple[int, int]]]:
        """Patches of all images, encoded, `(N, width)`, and the grids.

        Patches are embedded; their positions are added; all blocks follow, with the same RoPE tables of base 10000 in
        float32 or better; the norm comes last.
        """
        # YOUR CODE HERE
        raise NotImplementedError()


def splice(embeddings: torch.Tensor, token_ids: torch.Tensor, features: torch.Tensor, placeholder: int) -> torch.Tensor:
    """The text's embeddings, `(B, T, E)`, with image tokens in place of placeholders; a new tensor of their type.

    `token_ids` is `(B, T)`, `features`, `(M, E)`, are all image tokens, of any floating type. If they are not as many
    as there are placeholders, it is a ValueError; both numbers may be 0.
    """
    # YOUR CODE HERE
    raise NotImplementedError()
