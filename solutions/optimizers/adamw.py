r"""# SGD, Adam and AdamW

Write the three optimizers that trained almost everything, as classes with the interface of
`torch.optim`. Given parameters $\theta$, gradients $g_t$ (in `parameter.grad`) and steps $t = 1, 2, \dots$:

**SGD** with momentum $\mu$ and L2 penalty $\lambda$ (PyTorch's form: the learning rate stands outside the buffer):

$$g_t \leftarrow g_t + \lambda\theta_{t-1} \qquad b_1 = g_1,\quad b_t = \mu b_{t-1} + g_t \qquad
\theta_t = \theta_{t-1} - \eta\, b_t$$

With `nesterov=True` the step is $\theta_t = \theta_{t-1} - \eta\,(g_t + \mu b_t)$.

**Adam** (Kingma and Ba, 2015, arXiv:1412.6980, algorithm 1), with the L2 penalty added to the gradient as in SGD:

$$m_t = \beta_1 m_{t-1} + (1-\beta_1) g_t \qquad v_t = \beta_2 v_{t-1} + (1-\beta_2) g_t^2$$
$$\hat m_t = \frac{m_t}{1-\beta_1^t} \qquad \hat v_t = \frac{v_t}{1-\beta_2^t} \qquad
\theta_t = \theta_{t-1} - \eta\,\frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}$$

**AdamW** (Loshchilov and Hutter, 2019, arXiv:1711.05101, algorithm 2): the gradient is left alone, and the
parameter itself decays, scaled by the learning rate as in PyTorch: first
$\theta \leftarrow (1 - \eta\lambda)\,\theta$, then Adam's step.

With `amsgrad=True` (Reddi et al., 2018, arXiv:1904.09237, algorithm 2) the second moment in the denominator is the
largest so far. Take the maximum of the *uncorrected* $v_t$, then correct its bias, as PyTorch does:
$v^{\max}_t = \max(v^{\max}_{t-1}, v_t)$, $\hat v_t = v^{\max}_t / (1 - \beta_2^t)$.

Conventions:

- A parameter whose `grad` is `None` is skipped: it does not move or decay, and its own $t$ does not advance.
- Parameters are changed in place, in their own type and however they lie in memory. Gradients are left as they are,
  and what is written into them after a step changes nothing but the next step.
- Settings are read from `param_groups` at every step: schedules change them there.
- `params` is an iterable of parameters, or of dicts `{"params": [...], "lr": ...}` ("parameter groups") whose own
  settings override the defaults. No parameters at all is a `ValueError`.
- `state` maps a parameter to a dict of its state, and is empty until the first step. Adam keeps two tensors a
  parameter (three with `amsgrad`), SGD one with momentum and none without.
- `state_dict()` numbers the parameters 0, 1, ... in order: `{"state": {number: {...}}, "param_groups": [{"lr": ...,
  "params": [numbers]}]}`. It is a snapshot: later steps do not change it. After `load_state_dict(snapshot)` another
  optimizer over equal parameters continues exactly where the first one stood, settings included.

Rules: no `torch.optim`, no Python loop over the elements of a tensor.

>>> p = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
>>> optimizer = SGD([p], lr=0.1)
>>> p.grad = torch.tensor([1.0, -2.0])
>>> optimizer.step()
>>> p.data
tensor([0.9000, 1.2000])

The first step of Adam has size `lr` whatever the gradient's size, and AdamW shrinks the parameter first:

>>> p = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
>>> p.grad = torch.tensor([100.0, -0.001])
>>> Adam([p], lr=0.1).step()
>>> p.data
tensor([0.9000, 1.1000])
>>> p = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
>>> p.grad = torch.tensor([100.0, -0.001])
>>> AdamW([p], lr=0.1, weight_decay=0.5).step()
>>> p.data
tensor([0.8500, 1.0500])
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


class Optimizer:
    """What the three share: parameter groups, state, and saving both."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        """Set `param_groups` (a list of dicts with `params` and every setting) and an empty `state`."""
        ### BEGIN SOLUTION
        groups = list(params)
        if not groups:
            raise ValueError("an optimizer needs at least one parameter")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        self.param_groups = [{**defaults, **group, "params": list(group["params"])} for group in groups]
        self.state: dict[torch.Tensor, dict[str, Any]] = {}
        ### END SOLUTION

    def zero_grad(self) -> None:
        """Forget the gradients: every parameter's `grad` becomes None."""
        ### BEGIN SOLUTION
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None
        ### END SOLUTION

    def state_dict(self) -> dict[str, Any]:
        """A snapshot of state and settings, parameters replaced by their numbers."""
        ### BEGIN SOLUTION
        parameters = [p for group in self.param_groups for p in group["params"]]
        number = {p: i for i, p in enumerate(parameters)}
        groups = [{**group, "params": [number[p] for p in group["params"]]} for group in self.param_groups]
        state = {number[p]: copy_state(values) for p, values in self.state.items()}
        return {"state": state, "param_groups": groups}
        ### END SOLUTION

    def load_state_dict(self, snapshot: dict[str, Any]) -> None:
        """Take over state and settings from a snapshot of an optimizer over parameters of the same shapes."""
        ### BEGIN SOLUTION
        parameters = [p for group in self.param_groups for p in group["params"]]
        for group, saved in zip(self.param_groups, snapshot["param_groups"], strict=True):
            group.update({name: value for name, value in saved.items() if name != "params"})
        self.state = {parameters[i]: copy_state(values) for i, values in snapshot["state"].items()}
        ### END SOLUTION


def copy_state(values: dict[str, Any]) -> dict[str, Any]:
    """A copy of one parameter's state that shares no memory with it (given)."""
    return {name: value.clone() if torch.is_tensor(value) else value for name, value in values.items()}


class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov))

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient, in place."""
        ### BEGIN SOLUTION
        for group in self.param_groups:
            lr, mu = group["lr"], group["momentum"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                g = p.grad + group["weight_decay"] * p
                if mu:
                    if p not in self.state:
                        self.state[p] = {"momentum": g.clone()}
                    else:
                        self.state[p]["momentum"].mul_(mu).add_(g)
                    b = self.state[p]["momentum"]
                    g = g + mu * b if group["nesterov"] else b
                p.sub_(lr * g)
        ### END SOLUTION


class Adam(Optimizer):
    """Adam with bias correction; `weight_decay` is an L2 penalty."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad))

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient, in place."""
        ### BEGIN SOLUTION
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    g = p.grad + group["weight_decay"] * p
                    p.sub_(group["lr"] * self.direction(p, g, group))
        ### END SOLUTION

    def direction(self, p: torch.Tensor, g: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        """Advance the moments of `p` by its gradient `g`; return m_hat / (sqrt(v_hat) + eps), shaped like `p`."""
        ### BEGIN SOLUTION
        beta1, beta2 = group["betas"]
        if p not in self.state:
            self.state[p] = {"step": 0, "m": torch.zeros_like(p), "v": torch.zeros_like(p)}
            if group["amsgrad"]:
                self.state[p]["v_max"] = torch.zeros_like(p)
        state = self.state[p]
        state["step"] += 1
        m = state["m"].mul_(beta1).add_((1 - beta1) * g)
        v = state["v"].mul_(beta2).add_((1 - beta2) * g * g)
        if group["amsgrad"]:
            v = state["v_max"].copy_(torch.maximum(state["v_max"], v))
        m_hat = m / (1 - beta1 ** state["step"])
        v_hat = v / (1 - beta2 ** state["step"])
        return m_hat / (v_hat.sqrt() + group["eps"])
        ### END SOLUTION


class AdamW(Adam):
    """Adam with decoupled weight decay."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient, in place."""
        ### BEGIN SOLUTION
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.sub_(group["lr"] * self.direction(p, p.grad, group))
        ### END SOLUTION
