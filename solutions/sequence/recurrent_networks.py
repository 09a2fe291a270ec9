r"""# Recurrent networks

The three classic cells, one loop that runs any of them over a sequence, and backpropagation through time: by hand,
truncated, and as a look at why gradients vanish.

A cell makes the next state from the last one and the input $x_t$. The products with the inputs don't wait for the
state, so a layer computes them for all steps at once, and a cell starts from $a_t = W_{ih} x_t + b_{ih}$. With
$u = W_{hh} h_{t-1} + b_{hh}$, and $\odot$ and $\sigma$ element by element:

**RNN** (Elman, 1990), state $(h)$:

$$h_t = \tanh(a_t + u)$$

**LSTM** (Hochreiter and Schmidhuber, 1997, with the forget gate of Gers, Schmidhuber and Cummins, 2000; no
peepholes), state $(h, c)$. The blocks of $H$ rows in weights, biases, $a$ and $u$ are in the order **i, f, g, o**:

$$i = \sigma(a_i + u_i) \quad f = \sigma(a_f + u_f) \quad g = \tanh(a_g + u_g) \quad o = \sigma(a_o + u_o)$$
$$c_t = f \odot c_{t-1} + i \odot g \qquad h_t = o \odot \tanh(c_t)$$

**GRU** (Cho et al., 2014, arXiv:1406.1078, equations 5 to 8, in the variant of cuDNN and PyTorch), state $(h)$. The
blocks are in the order **r, z, n**. The reset gate acts after the product with $W_{hh}$ and its bias, where the paper
has $W(r \odot h)$, and $z$ near 1 keeps the old state:

$$r = \sigma(a_r + u_r) \quad z = \sigma(a_z + u_z) \quad n = \tanh(a_n + r \odot u_n) \qquad
h_t = (1 - z) \odot n + z \odot h_{t-1}$$

**Backpropagation through time** (Werbos, 1990), for the LSTM, by hand. Let $\bar h, \bar c$ be what the loss's gradient
has brought back from step $t + 1$, with the gradient of output $t$ added to $\bar h$. Then one step is

$$\bar c \leftarrow \bar c + \bar h \odot o \odot (1 - \tanh^2 c_t) \qquad
\bar s_i = \bar c\, g\, i (1 - i) \quad \bar s_f = \bar c\, c_{t-1} f (1 - f) \quad \bar s_g = \bar c\, i\, (1 - g^2)
\quad \bar s_o = \bar h \tanh(c_t)\, o (1 - o)$$

with $s = a_t + u$; then $\bar h \leftarrow W_{hh}^T \bar s$ and $\bar c \leftarrow \bar c \odot f$ go on to step
$t - 1$. The gradients of the weights are sums over steps of outer products with $\bar s$.

**Truncated** (Williams and Peng, 1990): the sequence is cut into windows. Each window's loss is backpropagated to its
start and no further, while the state runs on. Memory is that of one window, however long the sequence.

**Vanishing gradients** (Pascanu, Mikolov and Bengio, 2013, arXiv:1211.5063, equation 5): in the RNN, a step back
multiplies by $W_{hh}^T \mathrm{diag}(1 - h_t^2)$, so where $W_{hh}$ shrinks every vector, the norms fall step by step:

$$\frac{\partial L}{\partial h_{t-1}} = W_{hh}^T \left((1 - h_t^2) \odot \frac{\partial L}{\partial h_t}\right)$$

Conventions:

- Time stands first: `x` is `(T, B, D)`, T is 1 or more. A state is a tuple of tensors `(B, H)`: `(h,)` or `(h, c)`.
- `weights` is `(W_ih, W_hh, b_ih, b_hh)` of shapes `(G H, D)`, `(G H, H)`, `(G H,)`, `(G H,)`; G, the number of
  blocks, is 1 for the RNN, 4 for the LSTM and 3 for the GRU.
- Results have the type of the inputs, and float64 is computed in float64. They are new tensors, which later calls
  leave alone. Arguments are left as they are, but for the weights' `grad` in `truncated_bptt`.
- Inputs to a gate may be as large as $\pm 1000$: results and gradients stay right.

Cost: a layer makes one matrix product for all inputs and one for each step, with all gates in it, and a step has at
most 40 operators. `lstm_backward` makes at most two products a step, one forward and one back, and those of the
gradients of inputs and weights once for all steps, with at most 130 operators a step. In neither has a tensor more
numbers than twice the gates of all steps, $2\,T B G H$, or twice the weights.

Rules: no `torch.nn.RNN`, `LSTM` or `GRU`, nor their cells or functions; no autograd in `lstm_backward`.

>>> rnn_cell(torch.tensor([[0.5]]), (torch.tensor([[1.0]]),), torch.tensor([[0.25]]), torch.tensor([0.25]))
(tensor([[0.7616]]),)

An open input gate, a shut forget gate and an open output gate: the cell becomes tanh(1), whatever it was:

>>> a, zero = torch.tensor([[100.0, -100.0, 1.0, 100.0]]), torch.zeros(1, 1)
>>> lstm_cell(a, (zero, torch.tensor([[5.0]])), torch.zeros(4, 1), torch.zeros(4))
(tensor([[0.6420]]), tensor([[0.7616]]))
>>> a, W_hh, b_hh = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.0], [0.0], [2.0]]), torch.tensor([0, 0, 1.0])
>>> gru_cell(a, (torch.tensor([[0.5]]),), W_hh, b_hh)
(tensor([[0.7320]]),)

A sequence of three steps, and its gradients when the last output is the loss:

>>> x = torch.tensor([1.0, 0.0, 2.0]).reshape(3, 1, 1)
>>> weights = (torch.ones(4, 1), torch.ones(4, 1), torch.zeros(4), torch.zeros(4))
>>> outputs, (h, c) = layer(lstm_cell, x, weights, (zero, zero))
>>> outputs.flatten(), c
(tensor([0.3696, 0.2908, 0.7997]), tensor([[1.3786]]))
>>> upstream = torch.tensor([0.0, 0.0, 1.0]).reshape(3, 1, 1)
>>> dx, (dW_ih, dW_hh, db_ih, db_hh), dstate = lstm_backward(x, weights, (zero, zero), upstream, (zero, zero))
>>> dx.flatten(), dW_hh.flatten()
(tensor([0.1271, 0.1845, 0.1067]), tensor([0.0122, 0.0142, 0.0467, 0.0261]))

A step back halves the gradient here, and where the state is 0.5 leaves three quarters of that half:

>>> h = torch.tensor([0.9, 0.0, 0.5]).reshape(3, 1, 1)
>>> gradient_norms(h, torch.tensor([[0.5]]), torch.tensor([[8.0]])).flatten()
tensor([1.5000, 3.0000, 8.0000])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

State = tuple[torch.Tensor, ...]


def rnn_cell(a: torch.Tensor, state: State, W_hh: torch.Tensor, b_hh: torch.Tensor) -> State:
    """One step of the RNN: from the projected input `a`, `(B, H)`, and the state `(h,)` to the next state `(h,)`."""
    ### BEGIN SOLUTION
    (h,) = state
    return (torch.tanh(a + h @ W_hh.T + b_hh),)
    ### END SOLUTION


def lstm_cell(a: torch.Tensor, state: State, W_hh: torch.Tensor, b_hh: torch.Tensor) -> State:
    """One step of the LSTM: from `a`, `(B, 4 H)` in the order i, f, g, o, and `(h, c)` to the next `(h, c)`."""
    ### BEGIN SOLUTION
    h, c = state
    i, f, g, o = (a + h @ W_hh.T + b_hh).chunk(4, dim=-1)  # (B, H) each
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c
    ### END SOLUTION


def gru_cell(a: torch.Tensor, state: State, W_hh: torch.Tensor, b_hh: torch.Tensor) -> State:
    """One step of the GRU: from `a`, `(B, 3 H)` in the order r, z, n, and the state `(h,)` to the next `(h,)`."""
    ### BEGIN SOLUTION
    (h,) = state
    a_r, a_z, a_n = a.chunk(3, dim=-1)  # (B, H) each
    u_r, u_z, u_n = (h @ W_hh.T + b_hh).chunk(3, dim=-1)
    r = (a_r + u_r).sigmoid()
    z = (a_z + u_z).sigmoid()
    n = (a_n + r * u_n).tanh()
    return ((1 - z) * n + z * h,)
    ### END SOLUTION


def layer(cell: Callable[..., State], x: torch.Tensor, weights: State, state: State) -> tuple[torch.Tensor, State]:
    """Run a cell over `x`, `(T, B, D)`, from `state`.

    `cell` is one of the three above. Returns the outputs h_1 ... h_T, `(T, B, H)`, and the last state.
    """
    ### BEGIN SOLUTION
    W_ih, W_hh, b_ih, b_hh = weights
    outputs = []
    for a in x @ W_ih.T + b_ih:  # (B, G H), a step of (T, B, G H)
        state = cell(a, state, W_hh, b_hh)
        outputs.append(state[0])
    return torch.stack(outputs), state
    ### END SOLUTION


@torch.no_grad()
def lstm_backward(
    x: torch.Tensor, weights: State, state: State, d_outputs: torch.Tensor, d_state: State
) -> tuple[torch.Tensor, State, State]:
    """The gradients of a loss with respect to all inputs of `layer(lstm_cell, x, weights, state)`, without autograd.

    `d_outputs`, `(T, B, H)`, is the loss's gradient with respect to the outputs, and `d_state`, `(dh, dc)`, that with
    respect to the last state; what reaches the last h is the sum of `d_outputs[-1]` and `dh`. Returns the gradients of
    `x`, of the four `weights`, and of the first `state`, shaped like these.
    """
    ### BEGIN SOLUTION
    W_ih, W_hh, b_ih, b_hh = weights
    a = x @ W_ih.T + b_ih  # (T, B, 4 H)
    states = [state]
    for a_t in a:
        states.append(lstm_cell(a_t, states[-1], W_hh, b_hh))
    h, c = (torch.stack(both) for both in zip(*states, strict=True))  # (T + 1, B, H)
    i, f, g, o = (a + h[:-1] @ W_hh.T + b_hh).chunk(4, dim=-1)  # (T, B, H), all steps at once
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()

    ds = torch.empty_like(a)
    dh, dc = d_state
    for t in reversed(range(len(x))):
        dh = dh + d_outputs[t]
        tanh_c = c[t + 1].tanh()
        dc = dc + dh * o[t] * (1 - tanh_c**2)
        d_i = dc * g[t] * i[t] * (1 - i[t])
        d_f = dc * c[t] * f[t] * (1 - f[t])  # c[t] is the cell before step t
        d_g = dc * i[t] * (1 - g[t] ** 2)
        d_o = dh * tanh_c * o[t] * (1 - o[t])
        ds[t] = torch.cat([d_i, d_f, d_g, d_o], dim=-1)  # (B, 4 H)
        dh = ds[t] @ W_hh
        dc = dc * f[t]

    flat = ds.flatten(0, 1)  # (T B, 4 H)
    db = flat.sum(dim=0)
    dW_ih = flat.T @ x.flatten(0, 1)
    dW_hh = flat.T @ h[:-1].flatten(0, 1)
    return ds @ W_ih, (dW_ih, dW_hh, db, db.clone()), (dh, dc)
    ### END SOLUTION


def truncated_bptt(
    cell: Callable[..., State],
    x: torch.Tensor,
    weights: State,
    state: State,
    window: int,
    loss: Callable[[torch.Tensor, int], Any],
) -> tuple[torch.Tensor, State]:
    """Train on windows of `window` steps, the last of which may be shorter; autograd is welcome.

    `loss(outputs, start)` is a scalar tensor, the loss of the window that begins at step `start`, given its outputs;
    call it once for each window, in order. The gradients of all windows are added to the `grad` of the weights, which
    are leaves. Returns the sum of the losses and the last state, both detached. When the loss is called, at most one
    earlier window is still in memory: outputs, graph and all.
    """
    ### BEGIN SOLUTION
    total = x.new_zeros(())
    for start in range(0, len(x), window):
        outputs, state = layer(cell, x[start : start + window], weights, state)
        value = loss(outputs, start)
        value.backward()
        total = total + value.detach()
        state = tuple(part.detach() for part in state)
    return total, state
    ### END SOLUTION


@torch.no_grad()
def gradient_norms(h: torch.Tensor, W_hh: torch.Tensor, upstream: torch.Tensor) -> torch.Tensor:
    """The norms of dL/dh_t of an RNN whose loss depends on its last state alone.

    `h`, `(T, B, H)`, are the states h_1 ... h_T, `W_hh` is `(H, H)`, and `upstream`, `(B, H)`, is dL/dh_T. Returns
    `(T, B)`: in row t - 1 the Euclidean norms of dL/dh_t, one for each sequence of the batch. Costs one product with
    `W_hh` a step.
    """
    ### BEGIN SOLUTION
    norms = []
    g = upstream
    for h_t in h.flip(0):  # (B, H), the last state first
        norms.append(g.norm(dim=-1))
        g = (g * (1 - h_t**2)) @ W_hh
    return torch.stack(norms[::-1])  # (T, B)
    ### END SOLUTION
