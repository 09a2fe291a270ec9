"""The solution of optimizers/adamw against optax, and the suite's formulas against torch.optim."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import optax
import pytest
import torch

from grader.suites.optimizers.adamw import suite

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("solution_adamw", ROOT / "solutions/optimizers/adamw.py")
solution = importlib.util.module_from_spec(spec)
spec.loader.exec_module(solution)

LR, STEPS = 0.05, 8
CASES = {
    "sgd": (lambda p: solution.SGD(p, lr=LR), optax.sgd(LR)),
    "momentum": (lambda p: solution.SGD(p, lr=LR, momentum=0.9), optax.sgd(LR, momentum=0.9)),
    "nesterov": (lambda p: solution.SGD(p, lr=LR, momentum=0.9, nesterov=True), optax.sgd(LR, 0.9, nesterov=True)),
    "adam": (lambda p: solution.Adam(p, lr=LR, betas=(0.8, 0.95)), optax.adam(LR, b1=0.8, b2=0.95)),
    "adamw": (lambda p: solution.AdamW(p, lr=LR, weight_decay=0.3), optax.adamw(LR, weight_decay=0.3)),
}


@pytest.mark.parametrize("case", CASES)
def test_follows_optax(case):
    ours, theirs = CASES[case]
    generator = np.random.default_rng(3)
    start = generator.normal(size=(4, 3)).astype(np.float32)
    p = torch.nn.Parameter(torch.tensor(start))
    optimizer = ours([p])
    other, state = start, theirs.init(start)
    for _ in range(STEPS):
        g = generator.normal(size=start.shape).astype(np.float32)
        p.grad = torch.tensor(g)
        optimizer.step()
        updates, state = theirs.update(g, state, other)
        other = optax.apply_updates(other, updates)
    np.testing.assert_allclose(p.detach().numpy(), np.asarray(other), rtol=2e-5, atol=2e-6)


ADAM = dict(lr=0.03, betas=(0.8, 0.95), eps=1e-6)
HYPER = {
    "SGD": [dict(lr=0.1), dict(lr=0.1, momentum=0.8, nesterov=True), dict(lr=0.1, momentum=0.7, weight_decay=0.3)],
    "Adam": [{}, {**ADAM, "weight_decay": 0.4}, {**ADAM, "amsgrad": True}],
    "AdamW": [{}, {**ADAM, "weight_decay": 0.4}, {**ADAM, "amsgrad": True, "weight_decay": 0.0}],
}


@pytest.mark.parametrize(("name", "hyper"), [(name, hyper) for name, cases in HYPER.items() for hyper in cases])
def test_the_suite_follows_torch(name, hyper):
    """With a parameter group of its own for each parameter, gradients that fade, and one that is missing."""
    generator = torch.Generator().manual_seed(5)
    start = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in suite.SHAPES]
    grads = [[torch.randn(p.shape, generator=generator, dtype=p.dtype) * 0.5**n for p in start] for n in range(STEPS)]
    grads[2][1] = None
    settings = [{"lr": 0.3}, *[{} for _ in start[1:]]]
    params = [torch.nn.Parameter(p.clone()) for p in start]
    groups = [{"params": [p], **own} for p, own in zip(params, settings, strict=True)]
    theirs = getattr(torch.optim, name)(groups, **hyper)
    for step, expected in zip(grads, suite.oracle(name, start, grads, hyper, own=settings), strict=True):
        for p, g in zip(params, step, strict=True):
            p.grad = g
        theirs.step()
        torch.testing.assert_close([p.detach() for p in params], expected, rtol=1e-12, atol=1e-14)
