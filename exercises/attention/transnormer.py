r"""# TransNormer

Find what makes normalised linear attention hard to train, and build what replaces it: NormAttention, DiagAttention, and
a stack with Diag below and Norm above (Qin et al., "The Devil in Linear Transformer", 2022, arXiv:2210.10340).

**The devil** (equation 4, proposition 3.1). Both attentions make weights of scores $s_{ij}$ in one way: the softmax
with $f(s) = e^s$ and $s_{ij} = q_i^T k_j / \sqrt D$, linear attention with $f(s) = s$ and
$s_{ij} = \phi(q_i)^T \phi(k_j)$:

$$p_{ij} = \frac{f(s_{ij})}{\sum_l f(s_{il})} \qquad
\frac{\partial p_{ij}}{\partial s_{ik}} = \frac{f'(s_{ik})}{f(s_{ik})} \big(1_{j=k}\, p_{ij} - p_{ij}\, p_{ik}\big)$$

For the softmax $f'/f = 1$, and no derivative exceeds 1/4. For linear attention $f'/f = 1/s_{ik}$, and there is no
bound: scores 100 times smaller give the same weights and slopes 100 times steeper. Derive the gradient $dS$ of the
scores of linear attention from a gradient $dP$ of its weights, and for both attentions find each row's steepest slope:
the largest $|\partial p_{ij} / \partial s_{ik}|$ over all $j$ and $k$.

**NormAttention** (equation 14) drops the denominator and normalises the output instead:

$$O = \mathrm{RMSNorm}\big(Q\,(K^T V)\big) \qquad
\mathrm{RMSNorm}(x) = \frac{x}{\sqrt{\frac{1}{d} \sum_i x_i^2 + \epsilon}}$$

with the features $Q = \phi(q)$, $K = \phi(k)$, and for causal attention $o_i = \sum_{j \le i} (Q_i K_j^T) V_j$ in place
of the product. Now there is a bound (equation 15): no gradient of a score exceeds $3 c_1 c_2 d / (2 \sqrt\epsilon)$,
where $c_1$ and $c_2$ are the largest norms of a token in $dO$ and in $V$, of $d$ features each.

**DiagAttention** (section 4) is softmax attention inside blocks of $w$ tokens that do not overlap: token $i$ sees token
$j$ if $\lfloor i/w \rfloor = \lfloor j/w \rfloor$, and, if causal, $j \le i$. Logits are $q_i^T k_j / \sqrt D$.

**A layer** has residual branches that read a normalised $x$; the second is a gated linear unit:

$$x \leftarrow x + W_\text{output}\, \mathrm{Attention}(\mathrm{RMSNorm}(x)) \qquad
x \leftarrow x + W_\text{down} \big(\mathrm{silu}(W_\text{gate}\, y) \odot W_\text{up}\, y\big), \quad
y = \mathrm{RMSNorm}(x)$$

Conventions:

- `scores` are `(..., T)` for any leading axes, float32 or float64. Those of linear attention are 0 or more, with one
  above 0 in each row; derivatives with respect to a score of 0 are the limits. They may all be as small as 1e-30 or as
  large as 1e30: no gradient overflows or vanishes in float32. A softmax's may be thousands and do not overflow.
- `q` and `k` are `(B, H, T, D)`, `v` is `(B, H, T, M)`, and both attentions return the heads joined, `(B, T, H M)`:
  first the M features of head 0, then those of head 1, and so on.
- $\phi(x) = \mathrm{elu}(x) + 1$ is given. NormAttention has no scale. Its heads are joined before the norm, which runs
  over all $H M$ features at once.
- The RMSNorm has no learned gain, and $\epsilon$ stands under the root, 1e-6 unless another is asked for.
- Blocks are cut from the first token on; the last may be shorter, and `size` may be larger than T.
- For bfloat16 and float16, features, sums over tokens, logits, weights and norms are float32, and each function rounds
  its result once, to the type of `x` or `v`. So no sum of NormAttention overflows in float16 before it is normalised.
  Other types are computed in as they are.
- A layer's parameters are those of `torch.nn.Linear` without bias called `query`, `key`, `value`, `output` (E to E),
  `gate`, `up` (E to F) and `down` (F to E). Head $h$ has the features $hD, \dots, (h+1)D - 1$ of what the first three
  give, $D = E / H$. A stack's layers are called `layers.0`, `layers.1` and so on. Initial values are not graded, and
  modules get float32 or float64.

Cost: `score_gradient` and `steepest_slope` make no tensor larger than the scores, and the first works without autograd.
NormAttention takes time and memory linear in T, causal or not, with a number of operators that may grow with
`T / chunk_size` and not with T. DiagAttention computes $T' w$ logits a head, where $T'$ is $T$ rounded up to a multiple
of $w$ (and $T^2$ for $w > T$); it makes no tensor larger than these or than four times an input, and all blocks go at
once: operators do not grow with T.

Rules: no ready-made attention (softmax is allowed) and no ready-made RMSNorm; no tensor that grows with $T \times T$ or
$T \times D \times M$ (one $D \times M$ state for each chunk is fine); no Python loop over tokens, heads or blocks (one
over the chunks of causal NormAttention and one over layers are fine); arguments are left as they are, and results share
no memory with them.

Scores of 2 and 6 make weights of 1/4 and 3/4. So do scores of 0.02 and 0.06, but there weights move 100 times as fast:

>>> scores = torch.tensor([[2.0, 6.0], [0.02, 0.06]])
>>> steepest_slope(scores)
tensor([0.0938, 9.3750])
>>> steepest_slope(torch.tensor([[1.0, 2.0, 5.0]]))
tensor([0.1094])
>>> steepest_slope(scores, exponential=True)
tensor([0.0177, 0.2499])
>>> score_gradient(scores, torch.tensor([[8.0, 0.0], [8.0, 0.0]]))
tensor([[  0.7500,  -0.2500],
        [ 75.0000, -25.0000]])
>>> rms_norm(torch.tensor([3.0, 4.0, 0.0, 0.0]))
tensor([1.2000, 1.6000, 0.0000, 0.0000])

Queries and keys of zeros have features of 1, so that sums and averages of values are left:

>>> zeros, v = torch.zeros(1, 1, 3, 2), torch.tensor([[3.0, 4.0], [3.0, 4.0], [-6.0, 8.0]]).reshape(1, 1, 3, 2)
>>> norm_attention(zeros, zeros, v)
tensor([[[0.0000, 1.4142],
         [0.0000, 1.4142],
         [0.0000, 1.4142]]])
>>> norm_attention(zeros, zeros, v, causal=True, chunk_size=2)
tensor([[[0.8485, 1.1314],
         [0.8485, 1.1314],
         [0.0000, 1.4142]]])
>>> diag_attention(zeros, zeros, v, size=2)
tensor([[[ 3.,  4.],
         [ 3.,  4.],
         [-6.,  8.]]])
>>> TransNormer(width=12, heads=3, hidden=20, diag=2, norm=1, size=4)(torch.zeros(2, 7, 12)).shape
torch.Size([2, 7, 12])
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import pad, silu


def wide(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Half precision becomes float32; float32 and float64 stay what they are (given)."""
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


def feature_map(x: torch.Tensor) -> torch.Tensor:
    """elu(x) + 1, element by element, without cancellation or overflow; shape and type of `x` (given)."""
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def score_gradient(scores: torch.Tensor, upstream: torch.Tensor) -> torch.Tensor:
    """dS by the formula, for the weights of linear attention, P = S over the sum of its row.

    `scores` and `upstream`, the gradient dP of the weights, are `(..., T)`, and so is the result.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def steepest_slope(scores: torch.Tensor, exponential: bool = False) -> torch.Tensor:
    """The largest absolute value among a row's derivatives of p_ij with respect to s_ik, over all j and k.

    `scores` are `(..., T)`; f(s) is s, or e^s if `exponential`. Returns `(...)`.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def rms_norm(x: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    """`x` over the root of its mean square plus `eps`, along the last axis; shape and type of `x`."""
    # YOUR CODE HERE
    raise NotImplementedError()


def norm_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    causal: bool = False,
    chunk_size: int = 64,
    eps: float = 1e-6,
) -> torch.Tensor:
    """Linear attention without a denominator, heads joined and normalised.

    `q` and `k` are `(B, H, T, D)`, `v` is `(B, H, T, M)`. T need not be a multiple of `chunk_size`, which bears on
    the cost of causal attention alone. Returns `(B, T, H * M)` in the type of `v`.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def diag_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, size: int, causal: bool = False) -> torch.Tensor:
    """Softmax attention inside blocks of `size` tokens, heads joined.

    `q` and `k` are `(B, H, T, D)`, `v` is `(B, H, T, M)`, T is 1 or more. Returns `(B, T, H * M)` in the type of `v`.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


class TransNormerLayer(nn.Module):
    """Attention and a gated linear unit, each on a normalised input and added to it."""

    def __init__(self, width: int, heads: int, hidden: int, size: int | None = None) -> None:
        """`width` is E, a multiple of `heads`; `hidden` is F.

        `size` is the block size of DiagAttention; for None the layer has NormAttention.
        """
        # YOUR CODE HERE
        raise NotImplementedError()

    def forward(self, x: torch.Tensor, causal: bool = False) -> torch.Tensor:
        """`x` and the result are `(B, T, E)`."""
        # YOUR CODE HERE
        raise NotImplementedError()


class TransNormer(nn.Module):
    """Layers with DiagAttention below, which see their neighbourhood, and NormAttention above, which see everything."""

    def __init__(self, width: int, heads: int, hidden: int, diag: int, norm: int, size: int = 64) -> None:
        """First `diag` layers with DiagAttention in blocks of `size`, then `norm` layers with NormAttention."""
        # YOUR CODE HERE
        raise NotImplementedError()

    def forward(self, x: torch.Tensor, causal: bool = False) -> torch.Tensor:
        """`x` goes through all layers; it and the result are `(B, T, E)`."""
        # YOUR CODE HERE
        raise NotImplementedError()
