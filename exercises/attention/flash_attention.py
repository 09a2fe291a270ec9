r"""# FlashAttention

Softmax attention without its $T \times T$ matrix: the same numbers, tile by tile, with a softmax that is kept up to
date as logits arrive, and a backward pass that computes the weights again (Dao et al., 2022, arXiv:2205.14135,
algorithms 1, 2 and 4; here in the form of Dao, 2023, arXiv:2307.08691, algorithms 1 and 2).

**Online softmax** (Milakov and Gimelshein, 2018, arXiv:1805.02867, algorithm 3 and section 3.1): of any set of logits
keep the maximum $m$ and the sum $l = \sum_j e^{x_j - m}$. Two sets are combined, in any order and grouping, by

$$m = \max(m_1, m_2) \qquad l = l_1\, e^{m_1 - m} + l_2\, e^{m_2 - m}$$

and the empty set is $(-\infty, 0)$. In the end $L = m + \log l$ is the log-sum-exp of all.

**Forward**: for a tile of queries, go through the tiles of keys with logits $S = \text{scale} \cdot QK^T$. The output
$O$ is rescaled along with $l$ whenever the maximum rises, and divided by $l$ once, after the last tile:

$$m' = \max(m, \operatorname{rowmax} S) \qquad P = e^{S - m'} \qquad
l \leftarrow e^{m - m'} l + \operatorname{rowsum} P \qquad O \leftarrow e^{m - m'} O + P V \qquad m \leftarrow m'$$

**Backward** from $dO$ and what the forward left, $O$ and $L$; a tile's weights come back as $P = e^{S - L}$:

$$\Delta = \operatorname{rowsum}(dO \circ O) \qquad dS = P \circ (dO\, V^T - \Delta)$$
$$dV \leftarrow dV + P^T dO \qquad
dQ \leftarrow dQ + \text{scale} \cdot dS\, K \qquad dK \leftarrow dK + \text{scale} \cdot dS^T Q$$

Conventions:

- `query` is `(B, H, Tq, D)`, `key` is `(B, H, Tk, D)`, `value` is `(B, H, Tk, M)`, with one token at least; `scale`
  None means $1/\sqrt D$. A tile has `tile_q` queries and `tile_k` keys; the last ones may have fewer.
- `mask`, `(B, Tk)` of bool, is True where there is a key and False at padding, which may stand anywhere.
- `causal`: query $i$ sees the keys $j \le i + T_k - T_q$, so that the *last* query sees all keys.
- Hidden logits are $-\infty$. A query that sees no key has the output 0, the log-sum-exp $-\infty$ and the gradients 0.
- For bfloat16 and float16 everything inside is float32: logits, sums and `lse`; outputs and gradients are rounded
  once, to the types of `value` and of the inputs. Other types are computed in as they are.

Cost: two products of the size of $QK^T$ forward, five backward; with `causal` the tiles that are hidden altogether
are skipped. The number of operators grows with the number of tiles alone. For autograd nothing is kept but `query`,
`key`, `value`, the output, `lse` and the mask (`save_for_backward` takes None too). Gradients of gradients are not
asked for.

Rules: no softmax and no ready-made attention; no tensor larger than a tile of logits, `tile_q` x `tile_k`, or an input
or output, `T` x `D`, both for all batches and heads. Arguments are left as they are, and results share no memory with
them.

>>> first = torch.tensor([2.0, -torch.inf]), torch.tensor([3.0, 0.0])
>>> combine(first, (torch.tensor([2.0, 5.0]), torch.tensor([1.0, 2.0])))
(tensor([2., 5.]), tensor([4., 2.]))
>>> online_softmax(torch.tensor([1.0, 1.0, 0.0, 0.0, 3.0]).log(), tile=2)
(tensor([0.0000, 0.0000, 1.0986]), tensor([2.0000, 2.0000, 1.6667]))

Three keys, one query, logits log 1, log 3 and log 4 of which padding hides the last:

>>> query, key = torch.ones(1, 1, 1, 1), torch.tensor([1.0, 3.0, 4.0]).log().reshape(1, 1, 3, 1)
>>> value = torch.tensor([8.0, 4.0, 100.0]).reshape(1, 1, 3, 1)
>>> output, lse = flash_forward(query, key, value, mask=torch.tensor([[True, True, False]]), tile_k=2)
>>> output.flatten().round(decimals=3), lse.exp().flatten().round(decimals=3)
(tensor([5.]), tensor([4.]))
"""

from __future__ import annotations

from typing import Any

import torch

Pair = tuple[torch.Tensor, torch.Tensor]


def wide(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Half precision becomes float32; float32 and float64 stay what they are (given)."""
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


def tiles(length: int, size: int) -> list[slice]:
    """Slices of `size` that cover `length`; the last may be shorter (given)."""
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def hidden(rows: slice, columns: slice, query: torch.Tensor, key: torch.Tensor) -> bool:
    """Whether `causal` hides a tile altogether: its last query does not see its first key (given)."""
    return columns.start > rows.stop - 1 + key.shape[2] - query.shape[2]


def combine(first: Pair, second: Pair) -> Pair:
    """(m, l) of two sets of logits together; tensors of one shape, and (-inf, 0) is the empty set."""
    # YOUR CODE HERE
    raise NotImplementedError()


def online_softmax(logits: torch.Tensor, tile: int) -> Pair:
    """Running (m, l) after every tile of the last axis.

    `logits` is `(..., T)` of float32 or float64, `-inf` where hidden; both results are `(..., N)`, N = ceil(T / tile).
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def tile_logits(
    query: torch.Tensor,
    key: torch.Tensor,
    rows: slice,
    columns: slice,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The logits of one tile, `(B, H, Cq, Ck)`, with -inf where hidden; float32 for half precision.

    `query` and `key` are whole; `rows` and `columns` say which queries and keys the tile has.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def flash_forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    tile_q: int = 64,
    tile_k: int = 64,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output O, `(B, H, Tq, M)`, and the log-sum-exp L of the logits, `(B, H, Tq)`."""
    # YOUR CODE HERE
    raise NotImplementedError()


def flash_backward(
    upstream: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    tile_q: int = 64,
    tile_k: int = 64,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(dQ, dK, dV) from dO in `upstream`, `(B, H, Tq, M)`, and the forward's `output` and `lse`."""
    # YOUR CODE HERE
    raise NotImplementedError()


class FlashAttention(torch.autograd.Function):
    """The forward and the backward, joined for autograd."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *settings: Any) -> torch.Tensor:
        """The output alone; `settings` are (mask, causal, scale, tile_q, tile_k)."""
        # YOUR CODE HERE
        raise NotImplementedError()

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """(dQ, dK, dV), and None for every setting."""
        # YOUR CODE HERE
        raise NotImplementedError()


def flash_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    tile_q: int = 64,
    tile_k: int = 64,
) -> torch.Tensor:
    """The output, `(B, H, Tq, M)`, differentiable in query, key and value (given)."""
    return FlashAttention.apply(query, key, value, mask, causal, scale, tile_q, tile_k)
