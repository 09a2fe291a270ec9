"""The solution of optimizers/adamw against optax, which shares no code with torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import optax
import pytest
import torch

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
