r"""# A small GPT

Write a decoder language model of the GPT-2 family (Radford et al., 2019, "Language Models are Unsupervised Multitask
Learners", section 2.3) from its parts: layer normalisation, causal self-attention, the MLP, the block, the model, its
loss, and generation with a cache of keys and values, temperature, top-k and top-p.

$$x_0 = E_{\text{tokens}} + P_{0, 1, \dots} \qquad
h_l = x_{l-1} + \mathrm{Attention}(\mathrm{LN}(x_{l-1})) \qquad
x_l = h_l + \mathrm{MLP}(\mathrm{LN}(h_l)) \qquad
\text{logits} = \mathrm{LN}(x_L)\, E^T$$

- **Layer normalisation** (Ba et al., 2016, arXiv:1607.06450, equation 3) is over the features of each token by itself:
  $w\,(x - \mu) / \sqrt{\sigma^2 + \epsilon} + b$, with the biased variance (divided by E) and $\epsilon = 10^{-5}$
  under the root. Every block normalises what enters a branch, and adds the branch to what was not normalised
  ("pre-norm").
- **Attention** (Vaswani et al., 2017, arXiv:1706.03762, equation 1): $\mathrm{softmax}(Q K^T / \sqrt D)\, V$ in each of
  $H$ heads, $D = E / H$. The queries are the last $T_q$ of $T_k$ tokens: query $i$ sees the keys $j \le i + T_k - T_q$.
  Head $h$ has the features $hD, \dots, (h+1)D - 1$.
- **MLP**: E features to 4 E, the exact GELU $x\,\Phi(x)$ (Hendrycks and Gimpel, 2016, arXiv:1606.08415), back to E.
- **Positions** are learned, one vector for each of `context` places. The output layer has no weights of its own: it is
  the token table again (Press and Wolf, 2017, arXiv:1608.05859).
- **Dropout** acts on the sum of the embeddings, and on the last layer's output of each attention and each MLP; not on
  the attention weights. In evaluation mode there is none.

The **cache** of a layer is the pair (keys, values), `(B, H, T, D)` each, of all tokens so far. `model(tokens, caches)`
takes new tokens only, one or several, which stand behind those in the caches: position, mask and result are as if all
tokens had come at once. Caches are returned, not changed in place, and gradients flow through them.

**Loss**: the mean of $-\log p(\text{token } t + 1 \mid \text{tokens} \le t)$. The shift by one happens inside
`next_token_loss`, which gets the logits of all tokens and the tokens themselves. Targets equal to `ignore_index` are
not counted, neither in the sum nor in the number that it is divided by. Where no target is counted the loss is 0.

**Sampling**, in this order: divide the logits by the temperature; keep the `top_k` largest (Fan et al., 2018,
arXiv:1805.04833); take the softmax of what is left; keep the smallest set of most likely tokens whose probabilities
sum to `top_p` or more, the token that crosses the threshold included (Holtzman et al., 2020, arXiv:1904.09751,
section 3.1); renormalise. Among equal logits the lower token comes first. Temperature 0 gives the largest logit the
probability 1.

Initial weights of linear layers and embeddings are normal with standard deviation 0.02, divided by $\sqrt{2 L}$ in the
two `output` layers of each of the L blocks. Biases are 0, and layer norms start with weight 1 and bias 0.

Parameters: `LayerNorm` has `weight` and `bias`; `SelfAttention` has two `nn.Linear` with bias, `project` from E to 3 E
(queries, keys, values, in this order) and `output`; `MLP` has two, `expand` and `output`; `Block` has
`attention_norm`, `attention`, `mlp_norm`, `mlp`; `GPT` has two `nn.Embedding`, `token` and `position`, then `blocks`
(an `nn.ModuleList`) and `norm`.

In half precision the normalisation, the attention between its three inputs and its result, the loss and the
probabilities are computed in float32 (`wide` is given). The first two are rounded once, to the type of what came in;
the last two stay float32.

Cost: all heads and all tokens of a prompt go at once, and the number of operators depends neither on the heads nor on
the tokens. A step with a
cache projects the new tokens alone; of its arithmetic only the products of their queries with the keys and of the
weights with the values grow with the tokens so far.

Rules: no ready-made attention or layer normalisation (`scaled_dot_product_attention`, `nn.MultiheadAttention`,
`nn.Transformer*`, `nn.LayerNorm`). `F.gelu`, `nn.Dropout`, `F.cross_entropy`, softmax and `torch.multinomial` are
allowed. Arguments are left as they are, a list of caches too, and may lie in memory in any order. Results depend on
the arguments and on the parameters as they are now, not on earlier calls; but what is drawn at random is drawn anew by
each model, layer and call, and in each step. What is computed is new in memory; heads that are cut or joined, and the
first keys and values of a cache, need not be.

>>> causal_mask(2, 4)
tensor([[ True,  True,  True, False],
        [ True,  True,  True,  True]])
>>> next_token_loss(torch.zeros(1, 3, 4), torch.tensor([[2, 0, 1]]))
tensor(1.3863)
>>> sampling_probabilities(torch.tensor([0.5, 0.1, 0.4]).log(), top_p=0.8)
tensor([0.5556, 0.0000, 0.4444])
>>> sampling_probabilities(torch.tensor([1.0, 3.0, 2.0, 2.0]), temperature=0.5, top_k=2)
tensor([0.0000, 0.8808, 0.1192, 0.0000])

Three tokens at once, then a fourth with the caches of the first three:

>>> model = GPT(vocabulary=11, context=8, width=12, heads=3, layers=2)
>>> logits, caches = model(torch.tensor([[1, 2, 3]]))
>>> logits.shape, len(caches), caches[0][0].shape
(torch.Size([1, 3, 11]), 2, torch.Size([1, 3, 3, 4]))
>>> step, caches = model(torch.tensor([[4]]), caches)
>>> full, _ = model(torch.tensor([[1, 2, 3, 4]]))
>>> torch.allclose(step, full[:, -1:], atol=1e-5)
True
>>> generate(model, torch.tensor([[1, 2, 3]]), steps=4, temperature=0.0).shape
torch.Size([1, 7])
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

Cache = tuple[torch.Tensor, torch.Tensor]  # keys and values, (B, H, T, D)


def wide(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Half precision becomes float32; float32 and float64 stay what they are (given)."""
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        """Parameters `weight`, ones, and `bias`, zeros, of shape `(E,)`."""
        # YOUR CODE HERE
        raise NotImplementedError()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`, `(..., E)`, normalised, scaled and shifted, in its type."""
        # YOUR CODE HERE
        raise NotImplementedError()


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """`(B, T, E)` to `(B, H, T, D)`: each head gets D neighbouring features."""
    # YOUR CODE HERE
    raise NotImplementedError()


def merge_heads(x: torch.Tensor) -> torch.Tensor:
    """`(B, H, T, D)` to `(B, T, E)`: the inverse of `split_heads`."""
    # YOUR CODE HERE
    raise NotImplementedError()


def causal_mask(queries: int, keys: int, device: torch.device | None = None) -> torch.Tensor:
    """Which keys each query may see, `(queries, keys)` of bool on `device`; the last query sees all."""
    # YOUR CODE HERE
    raise NotImplementedError()


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Causal softmax attention of each head.

    `query` is `(B, H, Tq, D)`, `key` and `value` are `(B, H, Tk, D)`, with Tq at most Tk. Returns `(B, H, Tq, D)` in
    the type of `value`.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def extend_cache(cache: Cache | None, key: torch.Tensor, value: torch.Tensor) -> Cache:
    """The cache with the new keys and values behind the old ones; `cache` is None before the first token."""
    # YOUR CODE HERE
    raise NotImplementedError()


class SelfAttention(nn.Module):
    """Multi-head causal self-attention with a cache."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        """`nn.Linear` layers `project`, E to 3 E, and `output`, E to E; E is a multiple of `heads`."""
        # YOUR CODE HERE
        raise NotImplementedError()

    def forward(self, x: torch.Tensor, cache: Cache | None = None) -> tuple[torch.Tensor, Cache]:
        """What the tokens `x`, `(B, T, E)`, gather from the cached tokens and from each other, and the longer cache."""
        # YOUR CODE HERE
        raise NotImplementedError()


class MLP(nn.Module):
    """Two linear layers with a GELU between them, token by token."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        """`nn.Linear` layers `expand`, E to 4 E, and `output`, 4 E to E."""
        # YOUR CODE HERE
        raise NotImplementedError()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(B, T, E)` to `(B, T, E)`."""
        # YOUR CODE HERE
        raise NotImplementedError()


class Block(nn.Module):
    """Attention and MLP, each normalised before and added after."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        """`attention_norm`, `attention`, `mlp_norm` and `mlp`."""
        # YOUR CODE HERE
        raise NotImplementedError()

    def forward(self, x: torch.Tensor, cache: Cache | None = None) -> tuple[torch.Tensor, Cache]:
        """`x` is `(B, T, E)`; returns the same shape, and the longer cache."""
        # YOUR CODE HERE
        raise NotImplementedError()


def initialise(model: nn.Module) -> None:
    """Draw the initial parameters of a GPT with the attribute `blocks`, in place."""
    # YOUR CODE HERE
    raise NotImplementedError()


class GPT(nn.Module):
    """The language model: embeddings, blocks, a last layer norm, and the token table as output layer."""

    def __init__(
        self, vocabulary: int, context: int, width: int, heads: int, layers: int, dropout: float = 0.0
    ) -> None:
        """`token`, V x E, `position`, `context` x E, `blocks` and `norm`, with initial values by `initialise`."""
        # YOUR CODE HERE
        raise NotImplementedError()

    def forward(self, tokens: torch.Tensor, caches: list[Cache] | None = None) -> tuple[torch.Tensor, list[Cache]]:
        """Logits of the token that follows each of `tokens`, `(B, T)`, and the caches of all layers.

        `caches` is what the call for all earlier tokens returned, None when there are none. Returns `(B, T, V)`, and a
        list with one cache for each block. More tokens than `context`, the earlier ones included, are a ValueError.
        """
        # YOUR CODE HERE
        raise NotImplementedError()


def next_token_loss(logits: torch.Tensor, tokens: torch.Tensor, ignore_index: int = -100) -> torch.Tensor:
    """The mean cross-entropy of each token but the first, given the logits of the one before it.

    `logits` are `(B, T, V)`, `tokens` are `(B, T)`; those equal to `ignore_index` are no targets. Returns a scalar.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def sampling_probabilities(
    logits: torch.Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> torch.Tensor:
    """The probabilities that a token is drawn from, after temperature, top-k and top-p.

    `logits` are `(..., V)` and may hold `-inf`; `temperature` is 0 or more; `top_k` is 1 or more, and may exceed V;
    `top_p` is above 0 and at most 1; None keeps all. Returns `(..., V)`.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


@torch.no_grad()
def generate(
    model: nn.Module,
    tokens: torch.Tensor,
    steps: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> torch.Tensor:
    """The prompt `tokens`, `(B, T)`, and `steps` sampled tokens behind it, `(B, T + steps)`.

    Each is drawn at random with `sampling_probabilities` of the last token's logits. `model(tokens, caches)` is called
    once for the whole prompt and then for each new token alone, in evaluation mode (`model.eval()`); afterwards
    `model.training` is what it was. Nothing else is asked of `model`. The last token drawn needs no logits, so
    `context` may be as short as T + steps - 1.
    """
    # YOUR CODE HERE
    raise NotImplementedError()
