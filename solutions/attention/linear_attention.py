r"""# Linear attention

Attention whose cost grows with the number of tokens and not with its square, in three forms that give the same
numbers: all tokens at once, causal in chunks, and causal one token at a time with a state of constant size
(Katharopoulos et al., 2020, arXiv:2006.16236).

Any similarity that is not negative makes an attention (equation 3), and the softmax's is $e^{q_i^T k_j}$:

$$o_i = \frac{\sum_j \mathrm{sim}(q_i, k_j)\, v_j}{\sum_j \mathrm{sim}(q_i, k_j)}$$

The exponential stands in the way: it acts on the finished score, so all $T \times T$ scores must be there before a
value is touched. An inner product of features, $\mathrm{sim}(q, k) = \phi(q)^T \phi(k)$, lets the brackets move
(equations 4 to 6), and what stands in them is computed once for all queries:

$$\left(\phi(Q)\,\phi(K)^T\right) V = \phi(Q) \left(\phi(K)^T V\right) \qquad
o_i = \frac{\phi(q_i)^T S}{\phi(q_i)^T z} \qquad S = \sum_j \phi(k_j)\, v_j^T, \quad z = \sum_j \phi(k_j)$$

**Feature map** (equation 7): $\phi(x) = \mathrm{elu}(x) + 1$, feature by feature; that is $x + 1$ for $x > 0$, and
$e^x$ otherwise. There is no scale $1/\sqrt D$.

**Causal** (equations 8 to 12): token $i$ sees the tokens $j \le i$, itself included, so $S$ and $z$ are running sums.
In **chunks** of $C$ tokens (Yang et al., 2024, arXiv:2312.06635, section 2.2), with $S, z$ the sums over all earlier
chunks, $Q, K$ the features of this one, and $A$ the lower triangle of $QK^T$ with its diagonal:

$$O = \frac{A V + Q S}{A \mathbf 1 + Q z} \qquad S \leftarrow S + K^T V \qquad z \leftarrow z + K^T \mathbf 1$$

**Recurrent** (equations 16 to 20): one token adds $\phi(k_i)\, v_i^T$ to $S$ and $\phi(k_i)$ to $z$, and then reads.

Conventions:

- `q` and `k` are `(B, H, T, D)`, `v` is `(B, H, T, M)`, and the state is the pair `(S, z)` of shapes `(B, H, D, M)` and
  `(B, H, D)`.
- `mask`, `(B, T)` of bool, is True at real keys and False at padding, which may stand anywhere and hold any finite
  numbers. Padded keys enter neither sum. A padded query is computed like any other.
- There is no epsilon in the denominator. A query that sees no key at all, as in a fully padded row or before the first
  real key, has the denominator 0: its result is 0, and so are its gradients.
- $\phi$ has the type of its input, and is right to rounding however negative the input: in bfloat16 $\phi(-8)$ is
  3.4e-4, where `elu(x) + 1` cancels to 0. No input overflows, and $\phi'(x)$ is 1 for $x \ge 0$ and $e^x$ otherwise.
- Sums over tokens are kept in float32 or better: for bfloat16 and float16 inputs the state is float32, and the result
  is rounded once, to the type of `v`. Other types are computed in as they are, states included.

Cost: time $O(TDM)$ for a whole sequence, causal or not, with a number of operators that may grow with `T / chunk_size`
and not with `T`; time and memory $O(DM)$ for a step, however many tokens there were.

Rules: no softmax and no ready-made attention; no tensor that grows with $T \times T$ or $T \times D \times M$; no
Python loop over tokens (one over chunks is fine); arguments, the state among them, are left as they are, and results
share no memory with them.

>>> feature_map(torch.tensor([-1.0, 0.0, 2.0]))
tensor([0.3679, 1.0000, 3.0000])
>>> normalise(torch.tensor([[6.0, 3.0], [5.0, 7.0]]), torch.tensor([[3.0], [0.0]]))
tensor([[2., 1.],
        [0., 0.]])

Two keys, whose features are 1 and 3, so that the values 8 and 4 weigh 1/4 and 3/4:

>>> q, k = torch.zeros(1, 1, 2, 1), torch.tensor([0.0, 2.0]).reshape(1, 1, 2, 1)
>>> v = torch.tensor([8.0, 4.0]).reshape(1, 1, 2, 1)
>>> linear_attention(q, k, v).flatten()
tensor([5., 5.])
>>> linear_attention(q, k, v, mask=torch.tensor([[False, True]])).flatten()
tensor([4., 4.])
>>> output, (S, z) = causal_linear_attention(q, k, v, chunk_size=1)
>>> output.flatten(), S.flatten(), z.flatten()
(tensor([8., 5.]), tensor([20.]), tensor([4.]))

Decoding goes on where the prompt ended, here with a third token of feature 1 and value 10:

>>> output, state = linear_attention_step(q[:, :, 0], k[:, :, 0], torch.tensor([[[10.0]]]), (S, z))
>>> output
tensor([[[6.]]])
"""

from __future__ import annotations

import torch


def wide(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Half precision becomes float32; float32 and float64 stay what they are (given)."""
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


def empty_state(k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The state before the first token: zeros S, `(B, H, D, M)`, and z, `(B, H, D)` (given).

    `k` is `(B, H, ..., D)` and `v` is `(B, H, ..., M)`; the state has their device and their type.
    """
    heads = k.shape[:2]
    return k.new_zeros(*heads, k.shape[-1], v.shape[-1]), k.new_zeros(*heads, k.shape[-1])


def feature_map(x: torch.Tensor) -> torch.Tensor:
    """elu(x) + 1, element by element, without cancellation or overflow; shape and type of `x`."""
    ### BEGIN SOLUTION
    small = x.clamp(max=0).exp()  # clamped, or the branch not taken overflows and its gradient is 0 * inf
    return torch.where(x > 0, x + 1, small)
    ### END SOLUTION


def normalise(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """numerator / denominator, and 0 where the denominator is 0, with gradients of 0 there.

    `numerator` is `(..., M)` and `denominator` is `(..., 1)`, not negative.
    """
    ### BEGIN SOLUTION
    return numerator / denominator.masked_fill(denominator == 0, torch.inf)
    ### END SOLUTION


def linear_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Every query sees every real key.

    `q` is `(B, H, L, D)`, `k` is `(B, H, T, D)`, `v` is `(B, H, T, M)`, where L and T may differ; `mask`, `(B, T)`, is
    True at real keys. Returns `(B, H, L, M)` in the type of `v`.
    """
    ### BEGIN SOLUTION
    dtype = v.dtype
    q, k, v = wide(q, k, v)
    phi_q, phi_k = feature_map(q), feature_map(k)  # (B, H, L, D), (B, H, T, D)
    if mask is not None:
        phi_k = phi_k * mask[:, None, :, None]
    S = phi_k.mT @ v  # (B, H, D, M)
    z = phi_k.sum(dim=2)  # (B, H, D)
    return normalise(phi_q @ S, phi_q @ z[..., None]).to(dtype)  # (B, H, L, M)
    ### END SOLUTION


def causal_linear_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None = None,
    chunk_size: int = 64,
    state: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Every query sees the real keys up to its own, computed in chunks.

    `q` and `k` are `(B, H, T, D)`, `v` is `(B, H, T, M)`, `mask`, `(B, T)`, is True at real keys; T is 1 or more and
    need not be a multiple of `chunk_size`. `state` is (S, z) after all earlier tokens, None when there are none.
    Returns the output, `(B, H, T, M)` in the type of `v`, and the state after the last token.
    """
    ### BEGIN SOLUTION
    dtype = v.dtype
    q, k, v = wide(q, k, v)
    q, k = feature_map(q), feature_map(k)  # (B, H, T, D)
    if mask is not None:
        k = k * mask[:, None, :, None]
    S, z = empty_state(k, v) if state is None else state
    outputs = []
    chunks = zip(q.split(chunk_size, 2), k.split(chunk_size, 2), v.split(chunk_size, 2), strict=True)
    for Q, K, V in chunks:  # (B, H, C, D), (B, H, C, D), (B, H, C, M); the last C may be smaller
        A = (Q @ K.mT).tril()  # (B, H, C, C)
        numerator = A @ V + Q @ S  # (B, H, C, M)
        denominator = A.sum(dim=-1, keepdim=True) + Q @ z[..., None]  # (B, H, C, 1)
        outputs.append(normalise(numerator, denominator))
        S = S + K.mT @ V
        z = z + K.sum(dim=2)
    return torch.cat(outputs, dim=2).to(dtype), (S, z)
    ### END SOLUTION


def linear_attention_step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    state: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """One token of the causal form: its output, and the state with it included.

    `q` and `k` are `(B, H, D)`, `v` is `(B, H, M)`, and `state` is (S, z) after all earlier tokens, None before the
    first. Returns the output, `(B, H, M)` in the type of `v`, and the new state. The cost does not depend on how many
    tokens there were.
    """
    ### BEGIN SOLUTION
    dtype = v.dtype
    q, k, v = wide(q, k, v)
    phi_q, phi_k = feature_map(q), feature_map(k)  # (B, H, D)
    S, z = empty_state(phi_k, v) if state is None else state
    S = S + phi_k[..., :, None] * v[..., None, :]  # (B, H, D, M)
    z = z + phi_k
    numerator = (phi_q[..., None, :] @ S).squeeze(-2)  # (B, H, M)
    denominator = (phi_q * z).sum(dim=-1, keepdim=True)  # (B, H, 1)
    return normalise(numerator, denominator).to(dtype), (S, z)
    ### END SOLUTION
