r"""# Mixture of experts

Write the sparse feed-forward layer of Mixtral and DeepSeek: a router that sends each token to $k$ of $E$ experts, the
dispatch that calls every expert once, shared experts that see all tokens, and the two ways to keep the load even
(Shazeer et al., 2017, arXiv:1701.06538, equation 1; Jiang et al., 2024, arXiv:2401.04088, section 2.1).

**Router.** With logits $z_t = W_r x_t$, probabilities $p_t$, a bias $b$ for each expert, and $S_t$ the $k$ experts of
token $t$ that are chosen (DeepSeek-AI, 2024, arXiv:2412.19437, equations 12 to 16):

$$p_t = \mathrm{softmax}(z_t) \qquad S_t = \mathrm{TopK}(p_t + b,\, k) \qquad
g_{ti} = \frac{p_{ti}}{\sum_{j \in S_t} p_{tj}} \quad (i \in S_t) \qquad
y_t = \sum_{i \in S_t} g_{ti}\, E_i(x_t) + \sum_s E^{\mathrm{shared}}_s(x_t)$$

The bias takes part in the selection and in nothing else: weights are made of the probabilities alone. DeepSeek-V3 has
sigmoids in place of this softmax. Here it is the softmax, since the loss below needs probabilities, and since $g$ is
then Mixtral's "softmax over the top $k$ logits", whichever experts the bias has selected.

**Balance by a loss** (Fedus et al., 2021, arXiv:2101.03961, equations 4 to 6, for $k = 1$; DeepSeek-V3's equations 17
to 20 for any $k$). Over the $T$ real tokens of one layer, with $n_i$ the number of them that selected expert $i$:

$$L = E \sum_i f_i P_i \qquad f_i = \frac{n_i}{k T} \qquad P_i = \frac1T \sum_t p_{ti}$$

The $f_i$ sum to 1, so $L$ is 1 when the load is even, whatever $k$ is. (Transformers' function for Mixtral divides by
$T$ alone, and gives $k$.) There is no gradient through the counts. Every layer is balanced on its own, and the result
is the mean of the layers' losses. The coefficient $\alpha$ is the caller's.

**Balance by the bias** (DeepSeek-V3, section 2.1.2; Wang et al., 2024, arXiv:2408.15664, algorithm 1). After a step,
experts with more than the mean load get their bias lowered by a fixed rate $u$, those with less get it raised, and
those with exactly the mean load keep theirs.

**Dispatch.** The $Tk$ choices are numbered $s = tk + j$: choice $j$ of token $t$. Sorted by expert, the choices of each
expert stand together, so that it is called once, with all its tokens. No token is dropped, however uneven the load.

Conventions:

- With `renormalise=False` the weights are the $p_{ti}$ themselves. Switch needs that: with $k = 1$ a renormalised
  weight is 1 and passes no gradient to the router.
- Renormalised weights sum to 1 also when the bias selects experts whose probabilities underflow to 0.
- A token's experts stand in the order of $p + b$, largest first, and its weights beside them. Equal ones may come in
  any order.
- For bfloat16 and float16 inputs the experts compute in that type, but logits (the router's product itself),
  probabilities, weights, loss and the sum over experts are float32 ("float32 or better" below), and the layer's
  output is rounded to the type of `x` at its end. For float32 and float64 everything has that type.
- The $S$ shared experts are one SwiGLU with $S H$ hidden features, which computes their sum.

Cost, for tokens of width $D$ and experts with $H$ hidden features: $2TDE + 6TDH(k + S)$ operations, whatever $E$ is,
and what it takes to weigh and add up. The number of operators may grow with $E$, and not with $T$ or $k$; no tensor is
larger than $Tk$ rows of $D$ or $H$ numbers, or than the shared experts' hidden features. `dispatch` makes nothing
larger than vectors of $Tk$ or $E$ numbers.

Rules: no Python loop over tokens or choices (one over experts is fine). Arguments are left as they are, and may lie in
memory in any order; results are new tensors, and depend on the arguments and on the layer's parameters and bias as they
are now, not on earlier calls. The layer does not update its bias.

>>> logits = torch.tensor([[4.0, 3.0, 2.0], [1.0, 1.0, 2.0]]).log()
>>> weights, experts = route(logits, 2, bias=torch.tensor([-0.2, 0.0, 0.0]))
>>> experts
tensor([[1, 0],
        [2, 1]])
>>> weights
tensor([[0.4286, 0.5714],
        [0.6667, 0.3333]])
>>> slots, load = dispatch(experts, 4)
>>> slots, load
(tensor([1, 0, 3, 2]), tensor([1, 2, 1, 0]))

The second expert has more than the mean load, which is 1; the last has less:

>>> update_bias(torch.zeros(4), load, rate=0.5)
tensor([ 0.0000, -0.5000,  0.0000,  0.5000])

The first token goes to expert 1 with a quarter and to expert 0 with three, the second to experts 2 and 1 by halves:

>>> functions = [lambda x: 4 * x, lambda x: 0 * x, lambda x: 2 * x]
>>> mixture(torch.tensor([[1.0], [10.0]]), torch.tensor([[0.25, 0.75], [0.5, 0.5]]), experts, functions)
tensor([[ 3.],
        [10.]])
>>> load_balance_loss(torch.zeros(1, 4, 2), torch.tensor([[[0], [1], [0], [1]]]))
tensor(1.)
>>> layer = MixtureOfExperts(width=6, hidden=5, num_experts=4, k=2, num_shared=1)
>>> y, logits, experts = layer(torch.randn(2, 3, 6))
>>> y.shape, logits.shape, experts.shape
(torch.Size([2, 3, 6]), torch.Size([6, 4]), torch.Size([6, 2]))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn


def wide(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Half precision becomes float32; float32 and float64 stay what they are (given)."""
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


class SwiGLU(nn.Module):
    """One expert: `down(silu(gate(x)) * up(x))`, of `width` features in and out and `hidden` between (given)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


def route(
    logits: torch.Tensor, k: int, bias: torch.Tensor | None = None, renormalise: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and numbers of each token's experts, `(T, k)` both; the weights in float32 or better, the numbers int64.

    `logits` is `(T, E)`, and `bias`, `(E,)`, is added to the probabilities for the selection; None means no bias.
    """
    ### BEGIN SOLUTION
    (logits,) = wide(logits)
    probabilities = logits.softmax(dim=-1)  # (T, E)
    scores = probabilities if bias is None else probabilities + bias
    experts = scores.topk(k, dim=-1).indices  # (T, k)
    if renormalise:  # the softmax over the selected: the same quotient, but never 0 / 0
        return logits.gather(-1, experts).softmax(dim=-1), experts
    return probabilities.gather(-1, experts), experts
    ### END SOLUTION


def dispatch(experts: torch.Tensor, num_experts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The choices sorted by expert, `(T * k,)`, and each expert's number of choices, `(num_experts,)`; both int64.

    `experts` is `(T, k)`. The choices of one expert stand in ascending order.
    """
    ### BEGIN SOLUTION
    flat = experts.flatten()  # (T * k)
    return flat.argsort(stable=True), torch.bincount(flat, minlength=num_experts)
    ### END SOLUTION


def mixture(
    x: torch.Tensor,
    weights: torch.Tensor,
    experts: torch.Tensor,
    functions: Sequence[Callable[[torch.Tensor], torch.Tensor]],
) -> torch.Tensor:
    """Each token's weighted sum over its experts, `(T, D)` in float32 or better.

    `x` is `(T, D)`, `weights` and `experts` are `(T, k)`, and `functions` are the experts: each maps `(n, D)` to
    `(n, D)`, token by token, in the type of `x`. Each is called once, with all its tokens in any order; one that has
    none need not be called.
    """
    ### BEGIN SOLUTION
    slots, load = dispatch(experts, len(functions))  # (T * k), (E)
    tokens = slots // experts.shape[1]  # (T * k)
    groups = x[tokens].split(load.tolist())  # E times (n, D)
    results = [function(group) for function, group in zip(functions, groups, strict=True) if len(group)]
    (results,) = wide(torch.cat(results))  # (T * k, D)
    weighted = results * weights.flatten()[slots, None]
    return weighted.new_zeros(x.shape).index_add(0, tokens, weighted)  # (T, D)
    ### END SOLUTION


def load_balance_loss(logits: torch.Tensor, experts: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """The mean over layers of E * sum_i f_i P_i, a scalar in float32 or better.

    `logits` is `(L, T, E)` and `experts` is `(L, T, k)`, for L layers; `mask`, `(T,)` of bool, is True at real tokens
    and the same for all layers. What logits stand at the others is of no interest, and they need not be finite. Without
    any real token the loss is 0.
    """
    ### BEGIN SOLUTION
    if mask is not None:
        logits, experts = logits[:, mask], experts[:, mask]
    layers, tokens, num_experts = logits.shape
    (logits,) = wide(logits)
    if not tokens:
        return logits.sum()
    chosen = torch.stack([torch.bincount(layer.flatten(), minlength=num_experts) for layer in experts])  # (L, E)
    fraction = chosen.to(logits.dtype) / experts[0].numel()  # (L, E)
    probability = logits.softmax(dim=-1).mean(dim=1)  # (L, E)
    return num_experts * (fraction * probability).sum() / layers
    ### END SOLUTION


def update_bias(bias: torch.Tensor, load: torch.Tensor, rate: float = 1e-3) -> torch.Tensor:
    """The bias, `(E,)`, for the next step, after the last one had `load`, `(E,)` of int64. Returns a new tensor."""
    ### BEGIN SOLUTION
    missing = load.sum() - len(load) * load  # (E), times E and so exact
    return bias + rate * missing.sign().to(bias.dtype)
    ### END SOLUTION


class MixtureOfExperts(nn.Module):
    """Router, E experts and S shared ones in place of a feed-forward layer."""

    def __init__(
        self, width: int, hidden: int, num_experts: int, k: int, num_shared: int = 0, renormalise: bool = True
    ) -> None:
        """Modules `router`, `experts` and `shared`, and a buffer `bias`.

        `router` is an `nn.Linear` without bias from `width` to `num_experts`, `experts` an `nn.ModuleList` of SwiGLU
        with `hidden` features, and `shared` one SwiGLU with `num_shared * hidden`, or None when that is 0.
        `bias`, `(num_experts,)`, starts at 0, belongs to the state dict and is no parameter. More experts a token than
        there are is a ValueError. Initial parameters are not graded.
        """
        ### BEGIN SOLUTION
        super().__init__()
        if k > num_experts:
            raise ValueError(f"{k} experts a token, but there are {num_experts}")
        self.k, self.renormalise = k, renormalise
        self.router = nn.Linear(width, num_experts, bias=False)
        self.experts = nn.ModuleList(SwiGLU(width, hidden) for _ in range(num_experts))
        self.shared = SwiGLU(width, num_shared * hidden) if num_shared else None
        self.register_buffer("bias", torch.zeros(num_experts))
        ### END SOLUTION

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Output, logits and experts of `x`, `(B, T, D)`.

        The output is `(B, T, D)`. The logits, `(B * T, E)` in float32 or better, are without the bias; they and the
        experts, `(B * T, k)`, are for the loss and for the bias update.
        """
        ### BEGIN SOLUTION
        flat = x.flatten(0, 1)  # (B * T, D)
        tokens, router = wide(flat, self.router.weight)
        logits = tokens @ router.T  # (B * T, E)
        weights, experts = route(logits, self.k, self.bias, self.renormalise)  # (B * T, k)
        y = mixture(flat, weights, experts, self.experts)  # (B * T, D)
        if self.shared is not None:
            y = y + self.shared(flat)
        return y.to(x.dtype).view(x.shape), logits, experts
        ### END SOLUTION
