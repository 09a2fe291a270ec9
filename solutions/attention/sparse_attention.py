r"""# Sparse attention

Softmax attention in which query $i$ sees a set $A_i$ of keys that the positions alone decide. Write three patterns as
masks, and then compute each without ever making the $T \times T$ logits that a mask is laid upon:

$$o_i = \sum_{j \in A_i} p_{ij} v_j \qquad p_{ij} = \frac{e^{s_{ij}}}{\sum_{l \in A_i} e^{s_{il}}} \qquad
s_{ij} = \frac{q_i^T k_j}{\sqrt D}$$

**Window** (Beltagy et al., 2020, arXiv:2004.05150, section 3.1; as the causal local pattern in Child et al., 2019,
arXiv:1904.10509, section 4.3): $i - \text{before} \le j \le i + \text{after}$, both ends included.
The window has $w = \text{before} + \text{after} + 1$ tokens, the query's own among them, and is causal for
$\text{after} = 0$.

**Stride** (Child et al., section 4.3): $(i - j) \bmod \text{stride} = 0$, so every stride-th token, counted from the
query; with `causal` only $j \le i$.

**Blocks** (Zaheer et al., 2020, arXiv:2007.14062, section 2 and appendix D): tokens are cut into $N$ blocks of `size`,
of which the last may be shorter; `layout`, `(N, N)` of bool, says at `[a, b]` whether the queries of block $a$ see the
keys of block $b$. BigBird's layout lets a block see the blocks up to `near` away; besides, the first `common` blocks
see all blocks and are seen by all. (Its random blocks are left out here.)

Conventions:

- `query` and `key` are `(B, H, T, D)`, `value` is `(B, H, T, M)`, all of one type; T is 1 or more.
- `mask`, `(B, T)` of bool, is True at real keys and False at padding, which may stand anywhere and hold any finite
  numbers. Padding counts as a position. A padded query is computed like any other.
- A query that sees no key at all has the output 0 and the gradients 0.
- `before` and `after` are 0 or more; windows and strides may be larger than T.
- For bfloat16 and float16, logits, weights and sums are float32, and the output is rounded once. Other types are
  computed in as they are.

Cost, in logits (each one product of a query with a key, and one of a weight with a value):

- window: at most $3.5\,T' w$, where $T'$ is $T$ rounded up to a multiple of $w$; and for `before` and `after` beyond
  the sequence no more than for $\text{before} = \text{after} = T - 1$, with its $w = T' = 2T - 1$;
- stride: $T \lceil T / \text{stride} \rceil$, where $T$ may be rounded up to a multiple of the stride;
- blocks: `size` x `size` for each visible block, however uneven the layout.

Rules: no ready-made attention (softmax is allowed). No tensor is larger than these logits, or than four inputs where
that is more: keys are not copied for every query. Memory grows as T with a fixed window. Window and stride do all
tokens at once, and their number of operators does not grow with T; for blocks it may grow with the visible blocks.
Arguments are left as they are, and results share no memory with them.

>>> window_mask(4, before=1, after=0).int()
tensor([[1, 0, 0, 0],
        [1, 1, 0, 0],
        [0, 1, 1, 0],
        [0, 0, 1, 1]], dtype=torch.int32)
>>> strided_mask(4, stride=2).int()
tensor([[1, 0, 1, 0],
        [0, 1, 0, 1],
        [1, 0, 1, 0],
        [0, 1, 0, 1]], dtype=torch.int32)
>>> block_mask(torch.tensor([[True, False], [True, True]]), size=2, length=3).int()
tensor([[1, 1, 0],
        [1, 1, 0],
        [1, 1, 1]], dtype=torch.int32)
>>> bigbird_layout(4, near=0, common=1).int()
tensor([[1, 1, 1, 1],
        [1, 1, 0, 0],
        [1, 0, 1, 0],
        [1, 0, 0, 1]], dtype=torch.int32)

Queries of zeros average the values they see:

>>> query, value = torch.zeros(1, 1, 5, 2), torch.tensor([0.0, 1.0, 2.0, 3.0, 10.0]).reshape(1, 1, 5, 1)
>>> window_attention(query, query, value, before=1, after=1).flatten().round(decimals=3)
tensor([0.5000, 1.0000, 2.0000, 5.0000, 6.5000])
>>> strided_attention(query, query, value, stride=2).flatten().round(decimals=3)
tensor([4., 2., 4., 2., 4.])
>>> layout = torch.tensor([[True, False, False], [True, True, False], [False, False, True]])
>>> block_attention(query, query, value, layout, size=2).flatten().round(decimals=3)
tensor([ 0.5000,  0.5000,  1.5000,  1.5000, 10.0000])
"""

from __future__ import annotations

import torch
from torch.nn.functional import pad


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Masked attention that makes all its logits, `(..., Tq, Tk)`, to which `visible` broadcasts (given).

    `query` is `(..., Tq, D)`, `key` is `(..., Tk, D)`, `value` is `(..., Tk, M)`; queries that see no key give 0. Half
    precision is computed in float32 and rounded at the end.
    """
    Q, K, V = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (query, key, value))
    S = (Q.shape[-1] ** -0.5 * Q @ K.mT).masked_fill(~visible, torch.finfo(Q.dtype).min)  # (..., Tq, Tk)
    P = S.softmax(dim=-1).masked_fill(~visible, 0)  # once more, for queries that see no key
    return (P @ V).to(value.dtype)  # (..., Tq, M)


def real_keys(key: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """`mask`, or for None a mask that is True everywhere, `(B, T)` (given)."""
    return torch.ones(key.shape[0], key.shape[2], dtype=torch.bool, device=key.device) if mask is None else mask


def window_mask(length: int, before: int, after: int) -> torch.Tensor:
    """Which keys each query sees, `(length, length)` of bool: from `before` tokens back to `after` tokens ahead."""
    ### BEGIN SOLUTION
    i = torch.arange(length)
    shift = i - i[:, None]  # j - i
    return (shift >= -before) & (shift <= after)
    ### END SOLUTION


def strided_mask(length: int, stride: int, causal: bool = False) -> torch.Tensor:
    """Which keys each query sees, `(length, length)` of bool: every `stride`-th, its own among them."""
    ### BEGIN SOLUTION
    i = torch.arange(length)
    mask = (i - i[:, None]) % stride == 0
    return mask.tril() if causal else mask
    ### END SOLUTION


def block_mask(layout: torch.Tensor, size: int, length: int) -> torch.Tensor:
    """The keys each query sees, `(length, length)` of bool, by a layout of N = ceil(length / size) blocks."""
    ### BEGIN SOLUTION
    mask = layout.repeat_interleave(size, dim=0).repeat_interleave(size, dim=1)
    return mask[:length, :length]
    ### END SOLUTION


def bigbird_layout(blocks: int, near: int, common: int) -> torch.Tensor:
    """Which blocks see which, `(blocks, blocks)` of bool: those up to `near` away, and the first `common` both ways."""
    ### BEGIN SOLUTION
    b = torch.arange(blocks)
    a = b[:, None]
    return ((a - b).abs() <= near) | (a < common) | (b < common)
    ### END SOLUTION


def window_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    before: int,
    after: int,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """The output, `(B, H, T, M)` in the type of `value`, under `window_mask`; a cost of T x w logits."""
    ### BEGIN SOLUTION
    T = query.shape[2]
    before, after = min(before, T - 1), min(after, T - 1)
    C = min(before + after + 1, T)  # queries a chunk
    W = before + C + after  # the keys they see together
    more = -T % C
    Q = pad(query, (0, 0, 0, more)).unflatten(2, (-1, C))  # (B, H, N, C, D)
    K, V = (pad(x, (0, 0, before, after + more)).unfold(2, W, C).mT for x in (key, value))  # (B, H, N, W, D or M)
    real = pad(real_keys(key, mask), (before, after + more)).unfold(1, W, C)  # (B, N, W)
    i = torch.arange(C, device=key.device)[:, None]
    j = torch.arange(W, device=key.device) - before  # both count from the chunk's first query
    near = (j >= i - before) & (j <= i + after)  # (C, W)
    O = attend(Q, K, V, near & real[:, None, :, None, :])  # (B, H, N, C, M)
    return O.flatten(2, 3)[:, :, :T]
    ### END SOLUTION


def strided_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    stride: int,
    causal: bool = False,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """The output, `(B, H, T, M)` in the type of `value`, under `strided_mask`; T x T / stride logits."""
    ### BEGIN SOLUTION
    T = query.shape[2]
    more = -T % stride
    # tokens that see each other become neighbours: (B, H, stride, N, D or M)
    Q, K, V = (pad(x, (0, 0, 0, more)).unflatten(2, (-1, stride)).transpose(2, 3) for x in (query, key, value))
    real = pad(real_keys(key, mask), (0, more)).unflatten(1, (-1, stride)).mT  # (B, stride, N)
    visible = real[:, None, :, None, :]  # (B, 1, stride, 1, N)
    if causal:
        N = Q.shape[3]
        visible = visible & torch.ones(N, N, dtype=torch.bool, device=key.device).tril()  # (B, 1, stride, N, N)
    O = attend(Q, K, V, visible)  # (B, H, stride, N, M)
    return O.transpose(2, 3).flatten(2, 3)[:, :, :T]
    ### END SOLUTION


def block_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: torch.Tensor,
    size: int,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """The output, `(B, H, T, M)` in the type of `value`, under `block_mask`; the logits of visible blocks alone."""
    ### BEGIN SOLUTION
    real = real_keys(key, mask)
    outputs = []
    for Q, blocks in zip(query.split(size, dim=2), layout, strict=True):  # (B, H, C, D), (N,)
        seen = blocks.repeat_interleave(size)[: key.shape[2]]  # (T,)
        visible = real[:, None, None, seen]  # (B, 1, 1, Tk)
        outputs.append(attend(Q, key[:, :, seen], value[:, :, seen], visible))
    return torch.cat(outputs, dim=2)
    ### END SOLUTION
