r"""# Performer: attention by random features

The softmax's kernel $e^{x^T y}$ as an inner product of random features, which makes softmax attention linear in the
number of tokens without training anything anew: FAVOR+ (Choromanski et al., Rethinking Attention with Performers, ICLR
2021, arXiv:2009.14794).

**Features.** With directions $\omega_1, \dots, \omega_m \sim N(0, I_D)$, both of these give
$E\,[\phi(x)^T \phi(y)] = e^{x^T y}$. The trigonometric ones are $e^{|x|^2/2}$ times the features of the Gaussian kernel
(Rahimi & Recht, Random Features for Large-Scale Kernel Machines, 2007); the positive ones are Lemma 1:

$$\phi^{\mathrm{trig}}(x) = \frac{e^{|x|^2/2}}{\sqrt m} \left(\sin \omega_1^T x, \dots, \sin \omega_m^T x,\;
\cos \omega_1^T x, \dots, \cos \omega_m^T x\right) \qquad
\phi^+(x) = \frac{e^{-|x|^2/2}}{\sqrt m} \left(e^{\omega_1^T x}, \dots, e^{\omega_m^T x}\right)$$

**Variances** of $\phi(x)^T \phi(y)$ with $m$ independent directions (Lemma 2). Where the kernel is small, as most
attention weights are, the first is large and the second is small, and sums of positive features never vanish:

$$\mathrm{Var}^{\mathrm{trig}} = \frac1{2m}\, e^{|x+y|^2 - 2 x^T y} \left(1 - e^{-|x-y|^2}\right)^2 \qquad
\mathrm{Var}^+ = \frac1m\, e^{|x+y|^2 + 2 x^T y} \left(1 - e^{-|x+y|^2}\right)$$

**Orthogonal directions** (section 2.4) lower the variance and leave every single direction normal, so the estimate
stays unbiased. The rows of a normal $m \times D$ matrix are taken in blocks of $D$ (the last block may have fewer);
Gram-Schmidt goes through each block from its first row to its last, and each row then gets its old length back. That
fixes every sign: a row's inner product with the row it came from is positive.

**Attention** (sections 2.2 and 2.3, and Algorithm 1 in the appendix, which has no stabilisers). The kernel of softmax
attention is $e^{q^T k / \sqrt D}$, so $q$ and $k$ are both multiplied by $D^{-1/4}$ first. Then

$$o_i = \frac{\sum_j \phi^+(q_i)^T \phi^+(k_j)\, v_j}{\sum_j \phi^+(q_i)^T \phi^+(k_j)}$$

summed over all keys, or in the causal form over $j \le i$.

**Stabilisers.** For long $q$ or $k$ all features of a token underflow. What depends on the feature alone can be taken
from all keys and given to all queries, and what depends on the query alone cancels in the fraction. With the logarithms
$a_{if}$ of the queries' features and $b_{jf}$ of the keys':

$$c_f = \max_j b_{jf} \qquad \phi_{jf}^{k} = e^{b_{jf} - c_f} \qquad
\phi_{if}^{q} = e^{a_{if} + c_f - \max_g (a_{ig} + c_g)}$$

No feature is larger than 1, and no denominator smaller than 1. (A maximum of each key alone would not cancel. One
maximum for all keys and features would, but leaves denominators that underflow.)

**Causal**, in chunks of $C$ tokens: $c_f$ is the maximum over the keys of this chunk and all earlier ones, so the sums
over earlier keys must be multiplied by $e^{c_f^{\mathrm{old}} - c_f}$ whenever it rises. Nothing of a later chunk may
enter, or the features of the first keys underflow when later ones are larger.

Conventions:

- `q` and `k` are `(B, H, T, D)`, `v` is `(B, H, T, M)`; in the form that is not causal there may be fewer or more
  queries than keys. `directions` are `(m, D)`, the same for all heads. T and m are 1 or more.
- There is no epsilon anywhere: attention is finite, and right to the rounding of the logarithms, for queries and keys
  of any size whose $|q|^2$ and $|k|^2$ are finite. The causal form promises this when, within each chunk, no feature's
  logarithm differs by more than 80 between keys; from chunk to chunk they may differ by any amount.
- The maxima are constants: no gradient flows through them. In the attentions' outputs they cancel anyway.
- Inputs in bfloat16 or float16 are converted to float32 before anything else is done, and everything is computed in
  float32; attention rounds its result once, to the type of the inputs, while features, variances and so on stay
  float32. float32 and float64 stay what they are. `directions` are converted to the type of the computation.

Cost: time $O(T m (D + M))$, and in the causal form $O(T C (m + M))$ more, with a number of operators that may grow with
`T / chunk_size` and not with `T`.

Rules: no softmax and no ready-made attention; no random numbers; no tensor that grows with $T \times T$,
$T \times m \times D$ or $T \times m \times M$; no Python loop over tokens (one over chunks, or over blocks of
directions, is fine); arguments are left as they are, and results share no memory with them.

>>> orthogonal_directions(torch.tensor([[3.0, 4.0], [1.0, 0.0], [-2.0, 1.0]]))
tensor([[ 3.0000,  4.0000],
        [ 0.8000, -0.6000],
        [-2.0000,  1.0000]])
>>> log_features(torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 1.0]]))
tensor([-2.1931, -1.1931, -3.1931, -0.1931])
>>> trigonometric_features(torch.tensor([0.0]), torch.ones(4, 1))
tensor([0.0000, 0.0000, 0.0000, 0.0000, 0.5000, 0.5000, 0.5000, 0.5000])

The kernel is 1 for orthogonal vectors and $e^{-1}$ for opposite ones, where the positive features are exact:

>>> x, y = torch.tensor([1.0, 0.0]), torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
>>> kernel_variances(x, y, 10)
(tensor([0.2762, 0.3560]), tensor([0.6389, 0.0000]))

Two keys whose only feature has the same size, so that a query that sees both averages 8 and 4:

>>> q, k = torch.zeros(1, 1, 2, 1), torch.tensor([0.0, 2.0]).reshape(1, 1, 2, 1)
>>> v, directions = torch.tensor([8.0, 4.0]).reshape(1, 1, 2, 1), torch.ones(1, 1)
>>> favor_attention(q, k, v, directions).flatten()
tensor([6., 6.])
>>> causal_favor_attention(q, k, v, directions).flatten()
tensor([8., 6.])
"""

from __future__ import annotations

import math

import torch


def wide(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Half precision becomes float32; float32 and float64 stay what they are (given)."""
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


def orthogonal_directions(gaussian: torch.Tensor) -> torch.Tensor:
    """Rows made orthogonal in blocks of D by Gram-Schmidt, in order, with their lengths kept.

    `gaussian` is `(m, D)`, float32 or float64; the rows of each block are linearly independent. m may be smaller than
    D, and need not be a multiple of it. Returns `(m, D)` in the type of `gaussian`.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def log_features(x: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """The logarithms of the positive features, the 1 / sqrt(m) included.

    `x` is `(..., D)` and `directions` are `(m, D)`. Returns `(..., m)`.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def trigonometric_features(x: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """The trigonometric features: m sines, then m cosines.

    `x` is `(..., D)` and `directions` are `(m, D)`. Returns `(..., 2m)`.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def kernel_variances(x: torch.Tensor, y: torch.Tensor, m: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The variances of the trigonometric and of the positive estimate of e^(x.y), with m independent directions.

    `x` and `y` are `(..., D)` and broadcast. Returns two tensors `(...)`. Both are right to rounding relative to their
    own size, also where x is close to y or to -y, and nothing overflows while e^(|x+y|^2 - 2 x.y) and
    e^(|x+y|^2 + 2 x.y) do not.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def stabilise(log_q: torch.Tensor, log_k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of queries and keys up to factors that cancel in attention, from their logarithms.

    `log_q` is `(..., L, m)` and `log_k` is `(..., T, m)`, float32 or float64. Returns the two in the same shapes and
    types. No gradient flows through the maxima.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def favor_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Every query sees every key.

    `q` is `(B, H, L, D)`, `k` is `(B, H, T, D)`, `v` is `(B, H, T, M)`, all of one type; `directions` are `(m, D)`.
    Returns `(B, H, L, M)` in that type.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def causal_favor_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, directions: torch.Tensor, chunk_size: int = 64
) -> torch.Tensor:
    """Every query sees the keys up to its own, computed in chunks.

    `q` and `k` are `(B, H, T, D)`, `v` is `(B, H, T, M)`, all of one type; `directions` are `(m, D)`. T need not be a
    multiple of `chunk_size`. Returns `(B, H, T, M)` in the type of the inputs.
    """
    # YOUR CODE HERE
    raise NotImplementedError()
