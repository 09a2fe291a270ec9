"""Writes through `.data`, keeps state by attribute objects' dicts, and spells each update out."""

import torch


class Optimizer:
    def __init__(self, params, defaults):
        given = [p for p in params]
        if given == []:
            raise ValueError("nothing to optimize")
        grouped = given if isinstance(given[0], dict) else [{"params": given}]
        self.param_groups = [{**defaults, **g} for g in grouped]
        for g in self.param_groups:
            g["params"] = [p for p in g["params"]]
        self.state = {}

    def zero_grad(self):
        for g in self.param_groups:
            for p in g["params"]:
                p.grad = None

    def _numbers(self):
        numbers = {}
        for g in self.param_groups:
            for p in g["params"]:
                numbers[p] = len(numbers)
        return numbers

    @staticmethod
    def _copied(values):
        return {k: v.detach().clone() if isinstance(v, torch.Tensor) else v for k, v in values.items()}

    def state_dict(self):
        numbers = self._numbers()
        state = {}
        for p, values in self.state.items():
            state[numbers[p]] = self._copied(values)
        groups = [{k: ([numbers[p] for p in v] if k == "params" else v) for k, v in g.items()} for g in self.param_groups]
        return dict(state=state, param_groups=groups)

    def load_state_dict(self, snapshot):
        by_number = {i: p for p, i in self._numbers().items()}
        self.state = {by_number[i]: self._copied(v) for i, v in snapshot["state"].items()}
        for g, saved in zip(self.param_groups, snapshot["param_groups"]):
            params = g["params"]
            g.clear()
            g.update(saved)
            g["params"] = params


class SGD(Optimizer):
    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
        Optimizer.__init__(self, params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov})

    def step(self):
        for g in self.param_groups:
            for p in g["params"]:
                if p.grad is None:
                    continue
                d = p.grad.detach() + g["weight_decay"] * p.data
                if g["momentum"] > 0:
                    if p in self.state:
                        b = g["momentum"] * self.state[p]["buffer"] + d
                    else:
                        b = d
                    self.state[p] = {"buffer": b}
                    d = d + g["momentum"] * b if g["nesterov"] else b
                p.data -= g["lr"] * d


class Adam(Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False):
        Optimizer.__init__(self, params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad})

    def shrink(self, p, g):
        return p.grad.detach() + g["weight_decay"] * p.data

    def step(self):
        for g in self.param_groups:
            b1, b2 = g["betas"]
            for p in g["params"]:
                if p.grad is None:
                    continue
                d = self.shrink(p, g)
                zero = torch.zeros_like(p.data)
                old = self.state.get(p, {"t": 0, "m": zero, "v": zero})
                new = {"t": old["t"] + 1, "m": b1 * old["m"] + (1 - b1) * d, "v": b2 * old["v"] + (1 - b2) * d**2}
                v = new["v"]
                if g["amsgrad"]:
                    v = new["top"] = torch.max(old.get("top", zero), v)
                self.state[p] = new
                v_hat = v / (1 - b2 ** new["t"])
                m_hat = new["m"] / (1 - b1 ** new["t"])
                p.data -= g["lr"] * m_hat / (torch.sqrt(v_hat) + g["eps"])


class AdamW(Adam):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False):
        Adam.__init__(self, params, lr, betas, eps, weight_decay, amsgrad)

    def shrink(self, p, g):
        p.data -= g["lr"] * g["weight_decay"] * p.data
        return p.grad.detach()
