r"""# Dot-product and multi-head attention

Write the softmax attention of the Transformer (Vaswani et al., 2017, arXiv:1706.03762): the masks, the weights, the
output, its gradient by hand, and the multi-head module. Queries $Q \in \mathbb R^{T_q \times D}$ meet keys
$K \in \mathbb R^{T_k \times D}$ and average values $V \in \mathbb R^{T_k \times M}$ (equation 1, section 3.2.1):

$$S = \frac{Q K^T}{\sqrt D} \qquad P_{ij} = \frac{e^{S_{ij}}}{\sum_l e^{S_{il}}} \qquad O = P V$$

$S$ are the logits and $P$ the weights, whose rows sum to 1. Given the gradient $dO$ of a loss, the chain rule gives

$$dV = P^T dO \qquad dP = dO\, V^T \qquad
dS_{ij} = P_{ij} \Big(dP_{ij} - \sum_l P_{il}\, dP_{il}\Big) \qquad
dQ = \frac{dS\, K}{\sqrt D} \qquad dK = \frac{dS^T Q}{\sqrt D}$$

**Multi-head** (section 3.2.2): queries, keys and values are projected, cut into $H$ heads of $D = E / H$ features that
attend on their own, joined again and projected once more.

Conventions:

- Any number of axes, equal for all three, may stand before tokens and features.
- A `mask` broadcasts to the logits, `(..., Tq, Tk)`. One of bool is True where a query may see a key. One of floats is
  added to the logits after they are scaled (a bias, which may be learned; `-inf` hides a key).
- `causal` with $T_q \ne T_k$: the *last* query sees all keys, as in decoding with a cache. Query $i$ sees the keys
  $j \le i + T_k - T_q$. (PyTorch's `is_causal` lets the *first* query see the first key alone instead.) `causal` and
  `mask` both apply when both are given.
- A hidden key has the weight 0 exactly, however small the other logits are. A query that sees no key at all has the
  weights 0, the output 0 and the gradients 0.
- `scale` multiplies the dot products; None means $1 / \sqrt D$ with the $D$ of a head.
- Logits of thousands do not overflow, nor do float16 dot products above 65504: for bfloat16 and float16 the scaled
  products, the weights and the sums over keys are float32; outputs and gradients are rounded once, at the end. Other
  types are computed in as they are.
- The module's parameters are those of four `torch.nn.Linear` with bias, called `query`, `key`, `value` and `output`, of
  which `key` and `value` read the context. Head $h$ has the features $hD, \dots, (h+1)D - 1$ of what the first three
  give, and of what `output` reads. Their initial values are not graded.

Cost: the arithmetic of $QK^T$ and $PV$, and of five such products for the gradients ($PV$ may come again). All batches
and heads go at once: the number of operators depends on neither, nor on the number of tokens.

Rules: no ready-made attention (`scaled_dot_product_attention`, `nn.MultiheadAttention`, `nn.Transformer*`); softmax is
allowed. No tensor of more bytes than the logits, or the inputs in float32; `attention_gradients` uses the formulas
and builds no graph, also where its inputs want gradients. Arguments are left as they are, and results share no memory
with them.

>>> causal_mask(2, 4)
tensor([[ True,  True,  True, False],
        [ True,  True,  True,  True]])
>>> masked_softmax(torch.tensor([[0.0, 5.0, 0.0], [1.0, 2.0, 3.0]]), torch.tensor([[True, False, True], [False] * 3]))
tensor([[0.5000, 0.0000, 0.5000],
        [0.0000, 0.0000, 0.0000]])

Two keys with the dot products 2 log 3 and 0; four features halve them, so the weights are 3/4 and 1/4:

>>> query = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
>>> key = torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]) * torch.tensor(3.0).log()
>>> value = torch.tensor([[8.0], [4.0]])
>>> attention_weights(query, key)
tensor([[0.7500, 0.2500]])
>>> dot_product_attention(query, key, value).round(decimals=3)
tensor([[7.]])
>>> dot_product_attention(query, key, value, mask=torch.tensor([-torch.inf, 0.0]))
tensor([[4.]])
>>> d_query, d_key, d_value = attention_gradients(torch.ones(1, 1), query, key, value)
>>> d_key[:, 0], d_value[:, 0]
(tensor([ 0.3750, -0.3750]), tensor([0.7500, 0.2500]))
>>> MultiHeadAttention(6, 3, context_width=4)(torch.zeros(2, 5, 6), torch.zeros(2, 7, 4)).shape
torch.Size([2, 5, 6])
"""

from __future__ import annotations

import torch
from torch import nn


def wide(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Half precision becomes float32; float32 and float64 stay what they are (given)."""
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


def causal_mask(queries: int, keys: int, device: torch.device | None = None) -> torch.Tensor:
    """Which keys each query may see, `(queries, keys)` of bool on `device`; the last query sees all."""
    ### BEGIN SOLUTION
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    ### END SOLUTION


def masked_softmax(logits: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Softmax over the last axis under a mask; rows without a key are 0.

    `logits`, `(..., Tq, Tk)`, are float32 or float64 and may hold `-inf`; `mask` is of bool (True: visible) or of
    floats no wider than the logits (added). Shape and type of the result are those of `logits`.
    """
    ### BEGIN SOLUTION
    if mask is not None and mask.dtype == torch.bool:
        logits = logits.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        logits = logits + mask
    empty = (logits == -torch.inf).all(dim=-1, keepdim=True)  # (..., Tq, 1)
    weights = logits.masked_fill(empty, 0).softmax(dim=-1)  # filled before, or the gradient is NaN
    return weights.masked_fill(empty, 0)  # (..., Tq, Tk)
    ### END SOLUTION


def attention_weights(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The weights P, `(..., Tq, Tk)`, of `query`, `(..., Tq, D)`, and `key`, `(..., Tk, D)`.

    They have the type of `query`, but float32 for half precision.
    """
    ### BEGIN SOLUTION
    query, key = wide(query, key)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    logits = scale * query @ key.mT  # (..., Tq, Tk)
    if causal:
        visible = causal_mask(query.shape[-2], key.shape[-2], query.device)  # (Tq, Tk)
        logits = logits.masked_fill(~visible, -torch.inf)
    return masked_softmax(logits, mask)
    ### END SOLUTION


def dot_product_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The output O, `(..., Tq, M)`, for `value`, `(..., Tk, M)`, in its type; the rest as in `attention_weights`."""
    ### BEGIN SOLUTION
    weights = attention_weights(query, key, mask, causal, scale)  # (..., Tq, Tk)
    return (weights @ wide(value)[0]).to(value.dtype)  # (..., Tq, M)
    ### END SOLUTION


@torch.no_grad()
def attention_gradients(
    upstream: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(dQ, dK, dV) by the formulas, given dO in `upstream`, `(..., Tq, M)`; each has its input's shape and type."""
    ### BEGIN SOLUTION
    dtypes = query.dtype, key.dtype, value.dtype
    query, key, value, upstream = wide(query, key, value, upstream)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    weights = attention_weights(query, key, mask, causal, scale)  # (..., Tq, Tk)
    d_weights = upstream @ value.mT  # (..., Tq, Tk)
    d_logits = weights * (d_weights - (weights * d_weights).sum(dim=-1, keepdim=True))
    d_query = scale * d_logits @ key  # (..., Tq, D)
    d_key = scale * d_logits.mT @ query  # (..., Tk, D)
    d_value = weights.mT @ upstream  # (..., Tk, M)
    d_query, d_key, d_value = (d.to(dtype) for d, dtype in zip((d_query, d_key, d_value), dtypes, strict=True))
    return d_query, d_key, d_value
    ### END SOLUTION


class MultiHeadAttention(nn.Module):
    """H heads of dot-product attention between projections; self attention, or cross attention to a context."""

    def __init__(self, width: int, heads: int, context_width: int | None = None) -> None:
        """Four `nn.Linear` called `query`, `key`, `value`, `output`.

        `width` is E, the size of inputs and outputs, and must be a multiple of `heads`, or it is a ValueError;
        `context_width` is C, the size of the context, None for E.
        """
        ### BEGIN SOLUTION
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} does not divide into {heads} heads")
        context_width = width if context_width is None else context_width
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(context_width, width)
        self.value = nn.Linear(context_width, width)
        self.output = nn.Linear(width, width)
        ### END SOLUTION

    def forward(
        self,
        x: torch.Tensor,
        context: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        causal: bool = False,
    ) -> torch.Tensor:
        """Each token of `x`, `(B, Tq, E)`, attends to `context`, `(B, Tk, C)`, or to `x` itself if that is None.

        `mask` broadcasts to `(B, H, Tq, Tk)`: padding of keys comes as `(B, 1, 1, Tk)`. Returns `(B, Tq, E)`.
        """
        ### BEGIN SOLUTION
        context = x if context is None else context
        query, key, value = self.query(x), self.key(context), self.value(context)  # (B, T, E)
        query, key, value = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (query, key, value))
        joined = dot_product_attention(query, key, value, mask, causal).transpose(1, 2)  # (B, Tq, H, D)
        return self.output(joined.flatten(2))  # (B, Tq, E)
        ### END SOLUTION
