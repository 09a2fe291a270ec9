"""A static update rule for each class; settings travel as keyword arguments, snapshots are deep copies."""

import copy
import math

import torch


class Optimizer:
    def __init__(self, params, defaults):
        groups = [*params]
        if groups == []:
            raise ValueError("nothing to optimize")
        if torch.is_tensor(groups[0]):
            groups = [{"params": groups}]
        self.param_groups = [dict(defaults) | group | {"params": [*group["params"]]} for group in groups]
        self.state = {}

    def flat(self):
        return [p for group in self.param_groups for p in group["params"]]

    def zero_grad(self):
        for p in self.flat():
            p.grad = None

    def state_dict(self):
        order = self.flat()
        where = lambda p: next(i for i, q in enumerate(order) if q is p)
        return copy.deepcopy(
            {
                "state": {where(p): values for p, values in self.state.items()},
                "param_groups": [group | {"params": [where(p) for p in group["params"]]} for group in self.param_groups],
            }
        )

    def load_state_dict(self, snapshot):
        snapshot = copy.deepcopy(snapshot)
        order = self.flat()
        self.state = {order[i]: values for i, values in snapshot["state"].items()}
        self.param_groups = [
            saved | {"params": group["params"]} for group, saved in zip(self.param_groups, snapshot["param_groups"])
        ]

    def step(self):
        with torch.no_grad():
            for group in self.param_groups:
                settings = {name: value for name, value in group.items() if name != "params"}
                for p in group["params"]:
                    if p.grad is not None:
                        self.update(p, p.grad.clone(), self.state.setdefault(p, {}), **settings)
                        if not self.state[p]:
                            del self.state[p]


class SGD(Optimizer):
    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov))

    @staticmethod
    def update(p, g, state, lr, momentum, weight_decay, nesterov):
        g.add_(p, alpha=weight_decay)
        if momentum != 0:
            b = state["b"] = momentum * state["b"] + g if "b" in state else g.clone()
            g = torch.add(g, b, alpha=momentum) if nesterov else b
        p.add_(g, alpha=-lr)


class Adam(Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False):
        super().__init__(
            params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)
        )

    @staticmethod
    def update(p, g, state, lr, betas, eps, weight_decay, amsgrad):
        g.add_(p, alpha=weight_decay)
        moments(p, g, state, lr, betas, eps, amsgrad)


class AdamW(Adam):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)

    @staticmethod
    def update(p, g, state, lr, betas, eps, weight_decay, amsgrad):
        p.mul_(1 - lr * weight_decay)
        moments(p, g, state, lr, betas, eps, amsgrad)


def moments(p, g, state, lr, betas, eps, amsgrad):
    (b1, b2), t = betas, state.get("t", 0) + 1
    state["t"] = t
    state["m"] = state["m"].lerp_(g, 1 - b1) if t > 1 else g * (1 - b1)
    state["v"] = state["v"].mul_(b2).addcmul_(g, g, value=1 - b2) if t > 1 else g * g * (1 - b2)
    v = state["v"]
    if amsgrad:
        v = state["top"] = v.clone() if t == 1 else torch.maximum(state["top"], v)
    p.addcdiv_(state["m"], (v / (1 - b2**t)).sqrt_().add_(eps), value=-lr / (1 - math.pow(b1, t)))
