r"""# The Transformer, encoder and decoder

Write the Transformer (Vaswani et al., 2017, arXiv:1706.03762, sections 3.1 to 3.5 and 5.4) around a given attention:
positions, layer norm with its gradient by hand, blocks with the norm behind or in front, both stacks with their masks,
and the label-smoothed loss. There is no dropout. $E$ is the width, $V$ the number of tokens in the vocabulary.

**Positions** (section 3.5): position $t = 0, 1, \dots$ has sines and cosines as neighbours, for $i = 0, 1, \dots$

$$PE_{t,2i} = \sin\big(t \cdot 10000^{-2i/E}\big) \qquad PE_{t,2i+1} = \cos\big(t \cdot 10000^{-2i/E}\big)$$

**Layer norm** (Ba et al., 2016, arXiv:1607.06450, section 3), over the features of each token on its own:

$$\mu = \frac1E \sum_j x_j \qquad \sigma = \sqrt{\frac1E \sum_j (x_j - \mu)^2 + \epsilon} \qquad
\hat x_j = \frac{x_j - \mu}{\sigma} \qquad y_j = \gamma_j \hat x_j + \beta_j$$

Given the gradient $dy$ of a loss and with $g_j = \gamma_j\, dy_j$,

$$dx_j = \frac1\sigma \Big(g_j - \frac1E \sum_l g_l - \hat x_j\, \frac1E \sum_l g_l\, \hat x_l\Big) \qquad
d\gamma_j = \sum_{\text{tokens}} dy_j\, \hat x_j \qquad d\beta_j = \sum_{\text{tokens}} dy_j$$

**Feed-forward** (equation 2): $\max(0, x W_1^T + b_1)\, W_2^T + b_2$.

**Blocks**. Every sublayer $F$ (self attention, cross attention, feed-forward, in this order) has a residual connection
and a norm of its own. Vaswani et al. put the norm behind the sum, *post-norm*; Xiong et al. (2020, arXiv:2002.04745,
table 1) in front of the sublayer, *pre-norm*, where a last norm follows each stack:

$$\text{post-norm: } x \leftarrow \mathrm{LN}(x + F(x)) \qquad \text{pre-norm: } x \leftarrow x + F(\mathrm{LN}(x))$$

Cross attention takes its queries from the decoder, and keys and values from the *memory*, the encoder's final output.

**Model** (section 3.4): one matrix of embeddings serves source, target and output. Tokens are embedded, multiplied by
$\sqrt E$, and then the positions are added. The logits are the products of the decoder's final output and the
embeddings, without a factor.

**Label smoothing** (section 5.4; Szegedy et al., 2016, arXiv:1512.00567, section 7). The target distribution is
$q_k = (1 - \epsilon)\,[k = \text{target}] + \epsilon / V$: all $V$ classes share $\epsilon$, the right one and that of
padding included, as in PyTorch. A token costs
$-\sum_k q_k \log p_k$, and the loss is the mean over the tokens of the batch that are not padding.

Conventions:

- Masks are of bool and True where a query may see a key. Padding is hidden as a key wherever it stands; what padded
  queries compute is of no interest, and they are not masked.
- In bfloat16 and float16 layer norm, its gradients and the loss compute in float32. Norm and gradients round once, at
  the end; the loss stays float32. With float32 and float64 everything has that type.
- Angles are float64 whatever the result's type: thousands of positions leave float32 few digits of them.
- Tokens with a mean of ten thousand and a variance of 1 keep that variance in float32; logits of thousands do not
  overflow.

Cost: no Python loop but over layers and, in `translate`, over steps; so the number of operators depends neither on
batch nor on lengths. Each layer is computed once for all tokens, and `translate` runs the encoder once. No tensor
that the loss makes has more bytes than the logits have in float32, or in float64 if they are in float64.

Rules: no ready-made normalisation (`LayerNorm`, `layer_norm`, `GroupNorm`, ...), attention, `nn.Transformer*` or
cross-entropy; `log_softmax` is allowed. `layer_norm_gradients` uses the formulas and builds no graph, even where its
arguments need gradients. Arguments are left as they are, and may lie in memory in any order; results are new tensors,
and depend on the arguments and on the parameters as they are now, not on earlier calls.

>>> sinusoidal_positions(3, 3)
tensor([[ 0.0000,  1.0000,  0.0000],
        [ 0.8415,  0.5403,  0.0022],
        [ 0.9093, -0.4161,  0.0043]])
>>> layer_norm(torch.tensor([2.0, 6.0]), torch.tensor([1.0, 3.0]), torch.tensor([0.5, 0.0])).round(decimals=3)
tensor([-0.5000,  3.0000])
>>> d_x, d_weight, d_bias = layer_norm_gradients(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 6.0]), torch.ones(2))
>>> d_weight.round(decimals=3), d_bias
(tensor([-1.,  2.]), tensor([1., 2.]))

With a sublayer that multiplies by 10 and a "norm" that halves:

>>> [residual(torch.tensor(4.0), lambda x: 10 * x, lambda x: x / 2, pre_norm).item() for pre_norm in (False, True)]
[22.0, 24.0]
>>> source_mask(torch.tensor([[5, 7, 0]]), 0)
tensor([[[[ True,  True, False]]]])
>>> target_mask(torch.tensor([[5, 7, 0]]), 0)
tensor([[[[ True, False, False],
          [ True,  True, False],
          [ True,  True, False]]]])

Probabilities of 3/4 and 1/4; with a smoothing of 1/2 the target distribution is the same, and the loss is its entropy:

>>> logits = torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log()
>>> label_smoothed_loss(logits, torch.tensor([0, -100]), smoothing=0.5, padding=-100)
tensor(0.5623)
>>> model = Transformer(vocabulary=11, width=6, heads=2, hidden=8, layers=1, pre_norm=True)
>>> source, target = torch.tensor([[4, 2, 9]]), torch.tensor([[1, 5]])
>>> model(source, target).shape, model.translate(source, start=1, steps=2).shape
(torch.Size([1, 2, 11]), torch.Size([1, 2]))
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def wide(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Half precision becomes float32; float32 and float64 stay what they are (given)."""
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


class MultiHeadAttention(nn.Module):
    """Attention of H heads; queries from `x`, keys and values from `context` (given)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, context: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """`x` is `(B, Tq, E)`, `context` is `(B, Tk, E)`; `mask`, of bool, broadcasts to `(B, H, Tq, Tk)`."""
        query, key, value = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, D)
            for y in (self.query(x), self.key(context), self.value(context))
        )
        logits = query @ key.mT * query.shape[-1] ** -0.5  # (B, H, Tq, Tk)
        if mask is not None:
            logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)  # -inf would make empty rows NaN
        attended = logits.softmax(dim=-1) @ value  # (B, H, Tq, D)
        return self.output(attended.transpose(1, 2).flatten(2))  # (B, Tq, E)


def sinusoidal_positions(
    length: int, width: int, dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> torch.Tensor:
    """PE for the positions 0 to `length - 1`, `(length, width)` in `dtype` on `device`.

    `width` may be odd: then the last feature is a sine without its cosine.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    """Layer norm of `x`, `(..., E)`, with the gain `weight` and the shift `bias`, `(E,)`; shape and type of `x`."""
    # YOUR CODE HERE
    raise NotImplementedError()


def layer_norm_gradients(
    upstream: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, eps: float = 1e-5
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(dx, d_gamma, d_beta) by the formulas, given dy in `upstream`, which has the shape of `x`, `(..., E)`.

    dx has the type of `x`, the others, `(E,)`, that of `weight`.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


class LayerNorm(nn.Module):
    """`layer_norm` with parameters of its own (given)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return layer_norm(x, self.weight, self.bias)


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Every token of `x`, `(..., E)`, on its own; the same shape."""
        # YOUR CODE HERE
        raise NotImplementedError()


Layer = Callable[[torch.Tensor], torch.Tensor]


def residual(x: torch.Tensor, sublayer: Layer, norm: Layer, pre_norm: bool) -> torch.Tensor:
    """`x` after one sublayer with its residual connection and its norm, both functions of one tensor."""
    # YOUR CODE HERE
    raise NotImplementedError()


def source_mask(tokens: torch.Tensor, padding: int) -> torch.Tensor:
    """Which keys of `tokens`, `(B, S)`, may be seen: those that are not `padding`; `(B, 1, 1, S)`."""
    # YOUR CODE HERE
    raise NotImplementedError()


def target_mask(tokens: torch.Tensor, padding: int) -> torch.Tensor:
    """Which keys each query of `tokens`, `(B, T)`, may see: no padding, and none after itself; `(B, 1, T, T)`."""
    # YOUR CODE HERE
    raise NotImplementedError()


class EncoderLayer(nn.Module):
    """Self attention and feed-forward."""

    def __init__(self, width: int, heads: int, hidden: int, pre_norm: bool) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.attention = MultiHeadAttention(width, heads)
        self.norm_1 = LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden)
        self.norm_2 = LayerNorm(width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """`x`, `(B, S, E)`, after both sublayers; `mask` as for `MultiHeadAttention`."""
        # YOUR CODE HERE
        raise NotImplementedError()


class DecoderLayer(nn.Module):
    """Self attention, cross attention to the memory, and feed-forward."""

    def __init__(self, width: int, heads: int, hidden: int, pre_norm: bool) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.attention = MultiHeadAttention(width, heads)
        self.norm_1 = LayerNorm(width)
        self.cross_attention = MultiHeadAttention(width, heads)
        self.norm_2 = LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden)
        self.norm_3 = LayerNorm(width)

    def forward(
        self, x: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor | None, memory_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """`x`, `(B, T, E)`, after all three; `mask` is for self attention, `memory_mask` for `memory`, `(B, S, E)`."""
        # YOUR CODE HERE
        raise NotImplementedError()


class Transformer(nn.Module):
    """Encoder and decoder over one vocabulary."""

    def __init__(
        self, vocabulary: int, width: int, heads: int, hidden: int, layers: int, pre_norm: bool, padding: int = 0
    ) -> None:
        super().__init__()
        self.padding = padding
        self.embedding = nn.Embedding(vocabulary, width)
        self.encoder = nn.ModuleList(EncoderLayer(width, heads, hidden, pre_norm) for _ in range(layers))
        self.decoder = nn.ModuleList(DecoderLayer(width, heads, hidden, pre_norm) for _ in range(layers))
        self.encoder_norm = LayerNorm(width) if pre_norm else nn.Identity()
        self.decoder_norm = LayerNorm(width) if pre_norm else nn.Identity()

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Embeddings of `tokens`, `(B, T)`, with positions, `(B, T, E)`, in the type of the parameters."""
        # YOUR CODE HERE
        raise NotImplementedError()

    def encode(self, source: torch.Tensor) -> torch.Tensor:
        """The memory, `(B, S, E)`, of the tokens `source`, `(B, S)`."""
        # YOUR CODE HERE
        raise NotImplementedError()

    def decode(self, target: torch.Tensor, memory: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """Logits of what follows each token of `target`, `(B, T)`; `source` tells where `memory` is padding.

        Returns `(B, T, V)`.
        """
        # YOUR CODE HERE
        raise NotImplementedError()

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Logits for all tokens of `target` at once, `(B, T, V)`."""
        # YOUR CODE HERE
        raise NotImplementedError()

    @torch.no_grad()
    def translate(self, source: torch.Tensor, start: int, steps: int) -> torch.Tensor:
        """The next `steps` tokens after `start`, `(B, steps)`, each the one with the largest logit.

        Any token may be chosen; where it is padding, it is hidden like all padding. `start` is never padding. In every
        step the decoder may run over all tokens so far, without a cache.
        """
        # YOUR CODE HERE
        raise NotImplementedError()


def label_smoothed_loss(
    logits: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.1, padding: int = 0
) -> torch.Tensor:
    """The mean smoothed loss of `logits`, `(..., V)`, for `targets`, `(...)`, that are not `padding`: a scalar.

    `padding` may be a number that is no class, such as -100. Without any token the loss and its gradients are 0.
    """
    # YOUR CODE HERE
    raise NotImplementedError()
