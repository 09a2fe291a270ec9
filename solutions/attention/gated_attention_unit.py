r"""# Gated attention unit and FLASH

One layer in place of attention and MLP: a gated linear unit whose values are mixed by a single weak attention head,
first with all pairs of tokens (GAU), then in linear time (FLASH: quadratic inside chunks, linear across them).
Source: Hua, Dai, Liu and Le, Transformer Quality in Linear Time, ICML 2022, arXiv:2202.10447; section 2 for the unit,
section 3.2 for mixed chunk attention, and the pseudocode in the appendix.

**The unit.** From $X \in \mathbb R^{T \times d}$ come a gate $U$ and values $V$ of $e$ features, and a base $Z$ of $s$
features which queries and keys share, all with $\mathrm{silu}(x) = x\,\sigma(x)$:

$$U = \mathrm{silu}(X W_u + b_u) \quad V = \mathrm{silu}(X W_v + b_v) \quad Z = \mathrm{silu}(X W_z + b_z) \qquad
O = (U \odot \hat V)\, W_o + b_o$$

Queries and keys are **affine heads** of the base, a scale and an offset for each feature:
$q_i = \gamma_q \odot z_i + \beta_q$ and $k_i = \gamma_k \odot z_i + \beta_k$.

**Quadratic form.** The square of a relu takes the place of the softmax, a mean over keys that of its denominator:

$$\hat v_i = \frac{1}{n_i} \sum_{j \text{ seen by } i} \mathrm{relu}(q_i^T k_j)^2\, v_j$$

**Mixed chunk attention.** Tokens are cut into chunks of $C$. Of four affine heads two make the quadratic form within
each chunk, and two, $q'$ and $k'$, a linear attention across chunks, without an activation; $\hat V$ is their sum:

$$\hat v_i = \frac{1}{n_i} \sum_{j \text{ seen, in the chunk of } i} \mathrm{relu}(q_i^T k_j)^2\, v_j +
\frac{1}{m_i}\, q_i'^T \sum_h K_h'^T V_h$$

The sum over $h$ goes over all chunks, the own one included. With `causal`, it goes over the *earlier* chunks alone, so
that a token meets each one before it once: its own chunk in the quadratic form, the others in the linear one.

Conventions:

- `causal`: in the quadratic form token $i$ sees the tokens $j \le i$, itself included. Without it every token sees all.
- `mask`, `(..., T)` of bool, is True at real tokens and False at padding, which may stand anywhere and hold any finite
  numbers, 1e30 as well. Padded keys enter no sum. A padded query is computed like any other; where its numbers
  overflow, nothing is asked of its row, nor of gradients.
- $n_i$ and $m_i$ are the numbers of real keys in *their own* sum for query $i$: under `causal` $n_i$ is at most
  $i + 1$ (counted from 0) and not $T$, in the last chunk it is no more than there is, and $m_i$ counts all real tokens
  or those of earlier chunks. A sum without a key gives 0, and gradients of 0.
- They divide the squares. (The paper's pseudocode divides the scores before squaring, which makes $1 / n^2$.) There is
  no $1/\sqrt s$, since $\gamma$ can learn it, and no position bias, rotation, norm, dropout or residual.
- Chunks are cut by position, padding included, from the first token on. The last one may have less than $C$ tokens,
  and `chunk_size` may be greater than $T$.
- Sums over earlier chunks are made of those alone. (Running sums minus the own chunk cancel: one of 1e10 leaves noise.)
- Before the tokens may stand any number of axes, equal for all tensors and the mask.
- For bfloat16 and float16, scores, squares and sums over keys are float32, and the result is rounded once, to the type
  of `v`. Other types are computed in as they are.

Cost: the quadratic form takes the arithmetic of $QK^T$ and $AV$, the mixed one $O(TC(s + e) + Tse)$; a `chunk_size`
above $T$ costs what $T$ would. All chunks go at once: the number of operators does not depend on $T$.

Rules: no softmax and no ready-made attention; no Python loop over tokens or chunks; the quadratic form makes no tensor
of $T \times T \times s$ or $T \times T \times e$, the mixed one none of $T \times T$ or $T \times s \times e$
numbers (one $s \times e$ matrix for each chunk is fine); arguments are left as they are, and results share no memory
with them (chunks may).

>>> gamma, beta = torch.tensor([[3.0, 4.0], [5.0, 6.0]]), torch.tensor([[0.0, 0.0], [0.5, 0.5]])
>>> affine_heads(torch.tensor([[1.0, 2.0]]), gamma, beta).squeeze(1)
tensor([[ 3.0000,  8.0000],
        [ 5.5000, 12.5000]])
>>> into_chunks(torch.tensor([[1.0], [2.0], [3.0]]), 2).squeeze(-1)
tensor([[1., 2.],
        [3., 0.]])
>>> earlier_sums(torch.tensor([1.0, 20.0, 300.0]).reshape(3, 1, 1)).flatten()
tensor([ 0.,  1., 21.])

Two keys with the scores 3 and -1, that is the weights 9 and 0 in the quadratic form and 3 and -1 in the linear one:

>>> q, k, v = torch.ones(2, 1), torch.tensor([[3.0], [-1.0]]), torch.tensor([[8.0], [4.0]])
>>> quadratic_attention(q, k, v).flatten(), quadratic_attention(q, k, v, causal=True).flatten()
(tensor([36., 36.]), tensor([72., 36.]))
>>> global_attention(q, k, v, 1).flatten(), global_attention(q, k, v, 1, causal=True).flatten()
(tensor([10., 10.]), tensor([ 0., 24.]))
>>> mixed_chunk_attention(q, k, q, k, v, 1, causal=True).flatten()
tensor([72., 24.])
>>> GatedAttentionUnit(6, 12, 4, chunk_size=3)(torch.zeros(2, 5, 6)).shape
torch.Size([2, 5, 6])
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def wide(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Half precision becomes float32; float32 and float64 stay what they are (given)."""
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


def affine_heads(z: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """One scaled and shifted copy of the base for each row of `gamma` and `beta`.

    `z` is `(..., T, s)`, `gamma` and `beta` are `(H, s)`; returns `(H, ..., T, s)`, to be unpacked as `q, k = ...`.
    """
    ### BEGIN SOLUTION
    heads = z[..., None, :] * gamma + beta  # (..., T, H, s)
    return heads.movedim(-2, 0)  # (H, ..., T, s)
    ### END SOLUTION


def into_chunks(x: torch.Tensor, chunk_size: int) -> torch.Tensor:
    """Tokens in chunks of C, and G of them: `(..., T, D)` becomes `(..., G, C, D)`.

    C is `chunk_size`, or T if that is less; where the last chunk is too short it is filled up with zeros (False) at the
    end. Any type, bool among them.
    """
    ### BEGIN SOLUTION
    T = x.shape[-2]
    C = min(chunk_size, T)
    return F.pad(x, (0, 0, 0, -T % C)).unflatten(-2, (-1, C))  # (..., G, C, D)
    ### END SOLUTION


def earlier_sums(x: torch.Tensor) -> torch.Tensor:
    """For each chunk the sum over those before it, 0 for the first; `x` is `(..., G, A, B)`, of floats or int64."""
    ### BEGIN SOLUTION
    shifted = F.pad(x, (0, 0, 0, 0, 1, -1))  # the last chunk falls out, zeros come in
    return shifted.cumsum(dim=-3)  # (..., G, A, B)
    ### END SOLUTION


def quadratic_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None, causal: bool = False
) -> torch.Tensor:
    """The quadratic form: relu squared of all scores, and a mean over the keys seen.

    `q` and `k` are `(..., T, s)`, `v` is `(..., T, e)`, `mask`, `(..., T)`, is True at real keys. Returns `(..., T, e)`
    in the type of `v`.
    """
    ### BEGIN SOLUTION
    dtype, T = v.dtype, q.shape[-2]
    q, k, v = wide(q, k, v)
    seen = torch.ones(T, T, dtype=torch.bool, device=q.device)  # (T, T), query by key
    if causal:
        seen = seen.tril()
    if mask is not None:
        seen = seen & mask[..., None, :]  # (..., T, T)
    scores = (q @ k.mT).masked_fill(~seen, 0)  # hidden before they are squared, or large padding overflows
    n = seen.sum(dim=-1, keepdim=True).clamp(min=1)  # (..., T, 1)
    return (scores.relu().square() @ v / n).to(dtype)  # (..., T, e)
    ### END SOLUTION


def global_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    chunk_size: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
) -> torch.Tensor:
    """The linear attention across chunks, without an activation.

    `q` and `k` are `(..., T, s)`, `v` is `(..., T, e)`, `mask`, `(..., T)`, is True at real keys. With `causal` a query
    sees the chunks before its own, otherwise all. Returns `(..., T, e)` in the type of `v`.
    """
    ### BEGIN SOLUTION
    dtype, T = v.dtype, q.shape[-2]
    q, k, v = wide(q, k, v)
    real = torch.ones_like(k[..., :1], dtype=torch.bool) if mask is None else mask[..., None]  # (..., T, 1)
    k = k.masked_fill(~real, 0)
    Q, K, V, real = (into_chunks(x, chunk_size if causal else T) for x in (q, k, v, real))  # (..., G, C, .)
    S = K.mT @ V  # (..., G, s, e)
    m = real.sum(dim=-2, keepdim=True)  # (..., G, 1, 1)
    if causal:
        S, m = earlier_sums(S), earlier_sums(m)
    output = Q @ S / m.clamp(min=1)  # (..., G, C, e)
    return output.flatten(-3, -2)[..., :T, :].to(dtype)  # (..., T, e)
    ### END SOLUTION


def mixed_chunk_attention(
    quadratic_q: torch.Tensor,
    quadratic_k: torch.Tensor,
    linear_q: torch.Tensor,
    linear_k: torch.Tensor,
    v: torch.Tensor,
    chunk_size: int = 256,
    mask: torch.Tensor | None = None,
    causal: bool = False,
) -> torch.Tensor:
    """The quadratic form within each chunk plus the linear attention across chunks.

    Queries and keys are `(..., T, s)`, `v` is `(..., T, e)`, `mask`, `(..., T)`, is True at real keys. Returns
    `(..., T, e)` in the type of `v`.
    """
    ### BEGIN SOLUTION
    dtype, T = v.dtype, v.shape[-2]
    quadratic_q, quadratic_k, linear_q, linear_k, v = wide(quadratic_q, quadratic_k, linear_q, linear_k, v)
    real = torch.ones_like(v[..., 0], dtype=torch.bool) if mask is None else mask  # (..., T)
    Q, K, V = (into_chunks(x, chunk_size) for x in (quadratic_q, quadratic_k, v))  # (..., G, C, .)
    real = into_chunks(real[..., None], chunk_size).squeeze(-1)  # (..., G, C); what fills the tail is no key
    local = quadratic_attention(Q, K, V, real, causal).flatten(-3, -2)[..., :T, :]  # (..., T, e)
    across = global_attention(linear_q, linear_k, v, chunk_size, mask, causal)  # (..., T, e)
    return (local + across).to(dtype)
    ### END SOLUTION


class GatedAttentionUnit(nn.Module):
    """The unit: gate, values and base from the input, values mixed by attention, gated, and projected back."""

    def __init__(self, width: int, expanded: int, shared: int, chunk_size: int | None = None) -> None:
        """Four `nn.Linear` with bias and two parameters.

        `width` is d, `expanded` is e, `shared` is s. The linear layers are `gate` (d to e), `value` (d to e), `base`
        (d to s) and `output` (e to d). The parameters `gamma` and `beta` are `(H, s)`. Without a `chunk_size` the unit
        is quadratic and H is 2: rows q and k. With one it mixes chunks and H is 4: rows q and k of the quadratic form,
        then q and k of the linear one. Initial values are not graded.
        """
        ### BEGIN SOLUTION
        super().__init__()
        heads = 2 if chunk_size is None else 4
        self.chunk_size = chunk_size
        self.gate = nn.Linear(width, expanded)
        self.value = nn.Linear(width, expanded)
        self.base = nn.Linear(width, shared)
        self.gamma = nn.Parameter(0.02 * torch.randn(heads, shared))
        self.beta = nn.Parameter(torch.zeros(heads, shared))
        self.output = nn.Linear(expanded, width)
        ### END SOLUTION

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None, causal: bool = False) -> torch.Tensor:
        """`x` is `(B, T, d)`, `mask`, `(B, T)`, is True at real tokens. Returns `(B, T, d)`."""
        ### BEGIN SOLUTION
        u, v, z = (F.silu(layer(x)) for layer in (self.gate, self.value, self.base))  # (B, T, e), e, s
        heads = affine_heads(z, self.gamma, self.beta)  # (H, B, T, s)
        if self.chunk_size is None:
            mixed = quadratic_attention(*heads, v, mask, causal)  # (B, T, e)
        else:
            mixed = mixed_chunk_attention(*heads, v, self.chunk_size, mask, causal)
        return self.output(u * mixed)  # (B, T, d)
        ### END SOLUTION
