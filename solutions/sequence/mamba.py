r"""# Mamba: the selective scan

The state-space model whose step, input and output matrices depend on the token, the scan that runs it in parallel, one
Mamba block with a prompt and decoding, and two relatives that are the same recurrence.

Everything here is a **linear recurrence**, element by element over any number of axes, with time as axis 1:

$$h_t = a_t \odot h_{t-1} + b_t \qquad t = 1 \dots L$$

**The scan** (Blelloch, 1990, "Prefix sums and their applications", section 1.4). A step is the pair $(a, b)$. Two
steps, the first and then the second, are one step, and this combination is associative:

$$(a_1, b_1) \bullet (a_2, b_2) = (a_1 a_2,\; a_2 b_1 + b_2)$$

So steps may be combined in any grouping, as in a tree: all states are there after a number of operators that grows with
$\log L$. Nothing is divided: a quotient of running products is $0 / 0$ as soon as these underflow.

**Selective state space** (Gu and Dao, 2023, arXiv:2312.00752, algorithm 2, and section 2 for the recurrence). Each of E
channels has N states and a diagonal A. The step $\Delta_t$ (E numbers) and $B_t$, $C_t$ (N numbers each, shared by the
channels) come from the token; for channel e and state n

$$h_{t,en} = e^{\Delta_{te} A_{en}}\, h_{t-1,en} + \Delta_{te} B_{tn}\, u_{te} \qquad
y_{te} = \sum_n C_{tn}\, h_{t,en} + D_e\, u_{te}$$

A is held (zero-order hold), and the input is $\Delta B u$, Euler's method, as in the paper's code; its equation 4
has the hold for B, too, which is not what is asked for.

**Causal convolution**: channel by channel with K taps, the last of which meets the present input:

$$y_t = \mathrm{bias} + \sum_{j=0}^{K-1} w_j\, x_{t-K+1+j}$$

Inputs before the first are 0, or come from the **state**: the last $K - 1$ inputs, the oldest first.

**The block** (section 3.4 and figure 3): with u, z the two halves of `in_proj(x)`, in this order,

$$u \leftarrow \mathrm{silu}(\mathrm{conv}(u)) \qquad (\delta, B, C) = \mathrm{x\_proj}(u) \qquad
\Delta = \mathrm{softplus}(\mathrm{dt\_proj}(\delta)) \qquad A = -e^{\mathrm{A\_log}}$$

the output is `out_proj` of $y \odot \mathrm{silu}(z)$, where y is the selective scan of u. The state of a block is the
pair of the convolution's state, inputs before the silu, and the last h.

**Padding** on the left, for prompts of different lengths: u is 0 at padding both before the convolution, or padding
leaks into the first tokens, and after the silu, since the bias makes it other than 0 again. Then the real tokens'
outputs and the state are those of the prompts without padding.

**Retention** (Sun et al., 2023, arXiv:2307.08621, equation 6; without its rotation, scale and normalisation): the state
is a matrix for each head, that decays by the head's $\gamma$. For $\gamma = 1$ it is linear attention without a
normaliser:

$$S_t = \gamma\, S_{t-1} + k_t v_t^T \qquad o_t = q_t^T S_t$$

**Linear recurrent unit** (Orvieto et al., 2023, arXiv:2303.06349, sections 3.3 and 3.4): a complex diagonal, inside the
unit circle whatever its parameters, and inputs scaled so that the state keeps its size. With $|\lambda| = r$:

$$\lambda = e^{-e^{\nu} + i e^{\theta}} \qquad x_t = \lambda \odot x_{t-1} + \sqrt{1 - r^2} \odot (B u_t) \qquad
y_t = \mathrm{Re}(C x_t) + D \odot u_t$$

(The paper learns the scale, and starts it at this value. S4D doubles the real part; here it is not doubled.)

Conventions:

- Time is axis 1. L is 1 or more and need not be a power of 2, nor a multiple of `chunk_size`. K is 2 or more.
- A state given as None is zeros. Returned states are those after the last token, and continue the sequence.
- `a` may hold any real or complex numbers, 0 among them, whose products do not overflow.
- The selective scan of bfloat16 or float16 inputs, or of these and float32 mixed, is computed in float32, in a block,
  too: its state is float32, and y is rounded once, to the type of `u`. All else is computed in the type of the inputs.
- Arguments are left as they are, and results are new tensors, which later calls leave alone.
- Nothing overflows on the way: the softplus is right for arguments of 1000, $\gamma^L$ may underflow, and
  $\sqrt{1 - r^2}$ is right to rounding where r is near 1.

Cost: `parallel_scan`, `retention` and `lru` take at most $40 \log_2 L + 100$ operators, slices and views included,
`chunked_scan` the same for each chunk, and no tensor grows with $L^2$. Where no gradient is asked for, `selective_scan`
keeps one state ($E N$ numbers for each sequence of the batch), and `chunked_scan` those of one chunk; neither makes a
tensor of $L E N$. `causal_conv` takes a number of operators that does not depend on L. A step of the block costs the
same however many tokens there were.

Rules: no ready-made scan; a loop over time only in `selective_scan`, and over chunks in `chunked_scan`.

>>> combine((torch.tensor(0.5), torch.tensor(1.0)), (torch.tensor(3.0), torch.tensor(2.0)))
(tensor(1.5000), tensor(5.))
>>> a, b = torch.tensor([[0.5, 0.5, 0.0, 2.0, 1.0]]), torch.tensor([[8.0, 2.0, 1.0, 1.0, 4.0]])
>>> parallel_scan(a, b)
tensor([[8., 6., 1., 3., 7.]])
>>> parallel_scan(a, b, torch.tensor([4.0]))
tensor([[10.,  7.,  1.,  3.,  7.]])

One channel and one state, which decays by e in a time of 1; the second token's step is 0, so it only reads:

>>> u, delta, A = torch.tensor([[[4.0], [5.0]]]), torch.tensor([[[1.0], [0.0]]]), torch.tensor([[-1.0]])
>>> B, C, D = torch.ones(1, 2, 1), torch.tensor([[[1.0], [2.0]]]), torch.tensor([0.0])
>>> y, h = selective_scan(u, delta, A, B, C, D, torch.tensor([[[6.0]]]))
>>> y.flatten(), h.flatten()
(tensor([ 6.2073, 12.4146]), tensor([6.2073]))

Decoding goes on where the prompt ended:

>>> w, bias = torch.tensor([[1.0, 10.0, 100.0]]), torch.tensor([0.5])
>>> y, state = causal_conv(torch.tensor([[[1.0], [2.0]]]), w, bias)
>>> y.flatten(), state.flatten()
(tensor([100.5000, 210.5000]), tensor([1., 2.]))
>>> causal_conv(torch.tensor([[[3.0]]]), w, bias, state)[0].flatten()
tensor([321.5000])
>>> block, x = MambaBlock(dim=2, inner=4, states=3, kernel=3, rank=1), torch.linspace(-1, 1, 8).reshape(1, 4, 2)
>>> prompt, state = block(x[:, :3])
>>> torch.allclose(block.step(x[:, 3], state)[0], block(x)[0][:, 3], atol=1e-6)
True

>>> ones = torch.ones(1, 3, 1, 1)
>>> retention(ones, ones, ones, torch.tensor([0.5]))[0].flatten()
tensor([1.0000, 1.5000, 1.7500])
>>> nu, theta = torch.tensor([0.0]), torch.tensor([1.1447])  # an angle of pi: the state changes its sign
>>> one = torch.ones(1, 1, dtype=torch.complex64)
>>> lru(torch.tensor([[[1.0], [0.0]]]), nu, theta, one, one, torch.tensor([0.0]))[0].flatten()
tensor([ 0.9299, -0.3421])
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

State = tuple[torch.Tensor, torch.Tensor]


def wide(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Half precision becomes float32; other types stay what they are (given)."""
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


def combine(first: State, second: State) -> State:
    """The step (a, b) that does what the step `first` and then the step `second` do, element by element."""
    ### BEGIN SOLUTION
    (a1, b1), (a2, b2) = first, second
    return a1 * a2, a2 * b1 + b2
    ### END SOLUTION


def parallel_scan(a: torch.Tensor, b: torch.Tensor, h: torch.Tensor | None = None) -> torch.Tensor:
    """All states h_1 ... h_L, `(B, L, ...)`, of steps `a` and `b`, `(B, L, ...)`, from the state `h`, `(B, ...)`."""
    ### BEGIN SOLUTION
    if h is not None:
        b = torch.cat([a[:, :1] * h[:, None] + b[:, :1], b[:, 1:]], dim=1)
    L = b.shape[1]
    if L == 1:
        return b.clone()
    # pairs of neighbours are half as many steps, whose states are every other state
    pairs = combine((a[:, :-1:2], b[:, :-1:2]), (a[:, 1::2], b[:, 1::2]))  # (B, L // 2, ...)
    every_other = parallel_scan(*pairs)
    states = torch.empty_like(b)
    states[:, 0] = b[:, 0]
    states[:, 1::2] = every_other
    states[:, 2::2] = a[:, 2::2] * every_other[:, : (L - 1) // 2] + b[:, 2::2]
    return states
    ### END SOLUTION


def discretise(u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> State:
    """The steps a = e^(delta A) and b = delta B u, both `(..., E, N)`.

    `u` and `delta` are `(..., E)`, `A` is `(E, N)`, `B` is `(..., N)`.
    """
    ### BEGIN SOLUTION
    a = (delta[..., None] * A).exp()
    b = (delta * u)[..., None] * B[..., None, :]
    return a, b
    ### END SOLUTION


def selective_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    h: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The selective state space, one token after the other, with one state in memory.

    `u` and `delta` are `(B, L, E)`, `A` is `(E, N)`, `B` and `C` are `(B, L, N)`, `D` is `(E,)`, the state `h` is
    `(B, E, N)`. Returns y, `(B, L, E)` in the type of `u`, and the last state, float32 or better.
    """
    ### BEGIN SOLUTION
    dtype = u.dtype
    u, delta, A, B, C, D = wide(u, delta, A, B, C, D)
    if h is None:
        h = u.new_zeros(len(u), *A.shape)
    y = []
    for t in range(u.shape[1]):
        a, b = discretise(u[:, t], delta[:, t], A, B[:, t])
        h = a * h + b  # (B, E, N)
        y.append((h @ C[:, t, :, None]).squeeze(-1))  # (B, E)
    return (torch.stack(y, dim=1) + D * u).to(dtype), h
    ### END SOLUTION


def chunked_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    h: torch.Tensor | None = None,
    chunk_size: int = 64,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `selective_scan`, with a parallel scan over each chunk of `chunk_size` tokens, one chunk after the other."""
    ### BEGIN SOLUTION
    dtype = u.dtype
    u, delta, A, B, C, D = wide(u, delta, A, B, C, D)
    y = []
    for start in range(0, u.shape[1], chunk_size):
        now = slice(start, start + chunk_size)
        a, b = discretise(u[:, now], delta[:, now], A, B[:, now])
        states = parallel_scan(a, b, h)  # (B, chunk, E, N)
        h = states[:, -1]
        y.append((states @ C[:, now, :, None]).squeeze(-1))  # (B, chunk, E)
    return (torch.cat(y, dim=1) + D * u).to(dtype), h
    ### END SOLUTION


def causal_conv(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, state: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The causal convolution of each channel with its own K taps.

    `x` is `(B, L, E)`, `weight` is `(E, K)`, `bias` is `(E,)`, and `state`, `(B, K - 1, E)`, holds the inputs before
    `x`. Returns y, `(B, L, E)`, and the new state, `(B, K - 1, E)`, also where L is smaller than K.
    """
    ### BEGIN SOLUTION
    L, K = x.shape[1], weight.shape[1]
    if state is None:
        state = x.new_zeros(len(x), K - 1, x.shape[2])
    padded = torch.cat([state, x], dim=1)  # (B, K - 1 + L, E)
    y = bias + sum(weight[:, j] * padded[:, j : j + L] for j in range(K))
    return y, padded[:, L:]
    ### END SOLUTION


class MambaBlock(torch.nn.Module):
    """One Mamba block; its parameters are given, with sizes dim, E = inner, N = states, K = kernel and R = rank."""

    def __init__(self, dim: int, inner: int, states: int, kernel: int, rank: int) -> None:
        super().__init__()
        self.in_proj = torch.nn.Linear(dim, 2 * inner, bias=False)  # u, z
        self.conv_weight = torch.nn.Parameter(torch.randn(inner, kernel) / math.sqrt(kernel))
        self.conv_bias = torch.nn.Parameter(torch.zeros(inner))
        self.x_proj = torch.nn.Linear(inner, rank + 2 * states, bias=False)  # delta, B, C
        self.dt_proj = torch.nn.Linear(rank, inner)
        step = torch.empty(inner).uniform_(math.log(1e-3), math.log(1e-1)).exp()
        self.dt_proj.bias = torch.nn.Parameter(step.expm1().log())  # the softplus of the bias is the step
        self.A_log = torch.nn.Parameter(torch.arange(1.0, states + 1).log().repeat(inner, 1))  # (E, N)
        self.D = torch.nn.Parameter(torch.ones(inner))
        self.out_proj = torch.nn.Linear(inner, dim, bias=False)

    def forward(
        self, x: torch.Tensor, state: State | None = None, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, State]:
        """A prompt, or the next part of a sequence, by either selective scan.

        `x` is `(B, L, dim)`. `mask`, `(B, L)` of bool, is True at real tokens; padding stands on the left, may hold any
        finite numbers, and comes without a state. Returns y, `(B, L, dim)`, which may be anything at padding,
        and the state: the convolution's, `(B, K - 1, E)`, and h, `(B, E, N)`.
        """
        ### BEGIN SOLUTION
        conv_state, h = state or (None, None)
        N = self.A_log.shape[1]
        u, z = self.in_proj(x).chunk(2, dim=-1)  # (B, L, E)
        if mask is not None:
            u = u * mask[..., None]
        u, conv_state = causal_conv(u, self.conv_weight, self.conv_bias, conv_state)
        u = F.silu(u)
        if mask is not None:
            u = u * mask[..., None]
        delta, B, C = self.x_proj(u).split([self.dt_proj.in_features, N, N], dim=-1)
        delta = F.softplus(self.dt_proj(delta))  # (B, L, E)
        y, h = selective_scan(u, delta, -self.A_log.exp(), B, C, self.D, h)
        return self.out_proj(y * F.silu(z)), (conv_state, h)
        ### END SOLUTION

    def step(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """One token, `x` of `(B, dim)`: its y, `(B, dim)`, and the new state."""
        ### BEGIN SOLUTION
        y, state = self.forward(x[:, None], state)
        return y[:, 0], state
        ### END SOLUTION


def retention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, gamma: torch.Tensor, S: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Retention by the parallel scan.

    `q` and `k` are `(B, L, H, K)`, `v` is `(B, L, H, M)`, `gamma` is `(H,)`, and the state `S` is `(B, H, K, M)`.
    Returns o, `(B, L, H, M)`, and the last state.
    """
    ### BEGIN SOLUTION
    b = k[..., :, None] * v[..., None, :]  # (B, L, H, K, M)
    a = gamma[:, None, None].expand_as(b)
    states = parallel_scan(a, b, S)
    return (q[..., None, :] @ states).squeeze(-2), states[:, -1]
    ### END SOLUTION


def lru(
    u: torch.Tensor,
    nu: torch.Tensor,
    theta: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    x: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The linear recurrent unit by the parallel scan.

    `u` is `(B, L, H)`, `nu` and `theta` are `(N,)`, all real, `B` is `(N, H)` and `C` is `(H, N)`, both complex, `D` is
    `(H,)`, real, and the state `x` is `(B, N)`, complex. Returns y, `(B, L, H)`, real, and the last state.
    """
    ### BEGIN SOLUTION
    rate = nu.exp()
    lam = torch.polar((-rate).exp(), theta.exp())  # (N,)
    scale = (-torch.expm1(-2 * rate)).sqrt()  # 1 - r^2 without cancellation
    b = scale * (u.to(B.dtype) @ B.T)  # (B, L, N)
    states = parallel_scan(lam.expand_as(b), b, x)
    return (states @ C.T).real + D * u, states[:, -1]
    ### END SOLUTION
