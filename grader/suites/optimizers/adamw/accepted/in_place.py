"""In the style of a framework: addcmul_, addcdiv_, the corrections folded into step size and denominator."""

import math
from collections import defaultdict
from copy import deepcopy

import torch


class Optimizer:
    def __init__(self, params, defaults):
        self.defaults = defaults
        self.state = defaultdict(dict)
        self.param_groups = []
        entries = list(params)
        if not entries:
            raise ValueError("got an empty parameter list")
        if not isinstance(entries[0], dict):
            entries = [{"params": entries}]
        for entry in entries:
            group = dict(entry)
            group["params"] = list(entry["params"])
            for key, value in defaults.items():
                group.setdefault(key, value)
            self.param_groups.append(group)

    @property
    def flat(self):
        return [p for group in self.param_groups for p in group["params"]]

    def zero_grad(self):
        for p in self.flat:
            if p.grad is not None:
                p.grad = None

    def state_dict(self):
        start, groups = 0, []
        for group in self.param_groups:
            n = len(group["params"])
            groups.append({**group, "params": list(range(start, start + n))})
            start += n
        state = {i: deepcopy(self.state[p]) for i, p in enumerate(self.flat) if p in self.state}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, snapshot):
        snapshot = deepcopy(snapshot)
        for group, saved in zip(self.param_groups, snapshot["param_groups"]):
            group.update((k, v) for k, v in saved.items() if k != "params")
        flat = self.flat
        self.state = defaultdict(dict)
        for i, values in snapshot["state"].items():
            self.state[flat[i]] = values


class SGD(Optimizer):
    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                d = p.grad
                if group["weight_decay"] != 0:
                    d = d.add(p, alpha=group["weight_decay"])
                if group["momentum"] != 0:
                    state = self.state[p]
                    if "momentum_buffer" not in state:
                        state["momentum_buffer"] = torch.clone(d).detach()
                    else:
                        state["momentum_buffer"].mul_(group["momentum"]).add_(d)
                    buffer = state["momentum_buffer"]
                    d = d.add(buffer, alpha=group["momentum"]) if group["nesterov"] else buffer
                p.add_(d, alpha=-group["lr"])


class Adam(Optimizer):
    decoupled = False

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                grad, decay = p.grad, group["weight_decay"]
                if self.decoupled:
                    p.mul_(1 - group["lr"] * decay)
                elif decay:
                    grad = grad.add(p, alpha=decay)
                state = self.state[p]
                if not state:
                    state["step"] = torch.tensor(0.0)
                    state["exp_avg"] = torch.zeros_like(p)
                    state["exp_avg_sq"] = torch.zeros_like(p)
                    if group["amsgrad"]:
                        state["max_exp_avg_sq"] = torch.zeros_like(p)
                state["step"] += 1
                t = int(state["step"])
                state["exp_avg"].mul_(beta1).add_(grad, alpha=1 - beta1)
                second = state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
                if group["amsgrad"]:
                    torch.maximum(state["max_exp_avg_sq"], second, out=state["max_exp_avg_sq"])
                    second = state["max_exp_avg_sq"]
                denominator = (second.sqrt() / math.sqrt(1 - beta2**t)).add_(group["eps"])
                p.addcdiv_(state["exp_avg"], denominator, value=-group["lr"] / (1 - beta1**t))


class AdamW(Adam):
    decoupled = True

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)
