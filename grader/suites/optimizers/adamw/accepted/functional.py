"""Out of place, moments by lerp, one update rule for all three classes."""

import torch


def adam_rule(g, s, o):
    b1, b2 = o["betas"]
    s["t"] = s.get("t", 0) + 1
    s["mean"] = torch.lerp(s.get("mean", torch.zeros_like(g)), g, 1 - b1)
    s["square"] = torch.lerp(s.get("square", torch.zeros_like(g)), g.square(), 1 - b2)
    square = s["square"]
    if o["amsgrad"]:
        s["largest"] = torch.maximum(s.get("largest", square), square)
        square = s["largest"]
    unbiased = square / (1 - b2 ** s["t"])
    return (s["mean"] / (1 - b1 ** s["t"])) / (unbiased.sqrt() + o["eps"])


class Optimizer:
    def __init__(self, params, defaults):
        params = list(params)
        if len(params) == 0:
            raise ValueError("no parameters")
        if not isinstance(params[0], dict):
            params = [dict(params=params)]
        self.state = {}
        self.param_groups = []
        for group in params:
            merged = dict(defaults)
            merged.update(group)
            merged["params"] = list(group["params"])
            self.param_groups.append(merged)

    def every(self):
        return [(p, group) for group in self.param_groups for p in group["params"]]

    def zero_grad(self):
        for p, _ in self.every():
            p.grad = None

    def state_dict(self):
        order = {id(p): i for i, (p, _) in enumerate(self.every())}
        copied = {order[id(p)]: {k: v.clone() if torch.is_tensor(v) else v for k, v in s.items()} for p, s in self.state.items()}
        groups = []
        for group in self.param_groups:
            entry = {k: v for k, v in group.items() if k != "params"}
            entry["params"] = [order[id(p)] for p in group["params"]]
            groups.append(entry)
        return {"state": copied, "param_groups": groups}

    def load_state_dict(self, snapshot):
        every = [p for p, _ in self.every()]
        for mine, theirs in zip(self.param_groups, snapshot["param_groups"]):
            for k in theirs:
                if k != "params":
                    mine[k] = theirs[k]
        self.state = {every[i]: {k: v.clone() if torch.is_tensor(v) else v for k, v in s.items()} for i, s in snapshot["state"].items()}

    def step(self):
        with torch.no_grad():
            for p, group in self.every():
                if p.grad is not None:
                    p.copy_(self.updated(p.detach(), p.grad, p, group))


class SGD(Optimizer):
    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov})

    def updated(self, value, g, p, o):
        g = torch.add(g, value, alpha=o["weight_decay"])
        if o["momentum"] != 0:
            s = self.state.setdefault(p, {})
            s["b"] = g if "b" not in s else o["momentum"] * s["b"] + g
            g = g + o["momentum"] * s["b"] if o["nesterov"] else s["b"]
        return torch.add(value, g, alpha=-o["lr"])


class Adam(Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad))

    def updated(self, value, g, p, o):
        return value - o["lr"] * adam_rule(g + o["weight_decay"] * value, self.state.setdefault(p, {}), o)


class AdamW(Adam):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)

    def updated(self, value, g, p, o):
        decayed = value - o["lr"] * o["weight_decay"] * value
        return decayed - o["lr"] * adam_rule(g, self.state.setdefault(p, {}), o)
