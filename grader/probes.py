"""Probes that several suites share. Layer 1.

Like every probe these run beside the learner's code, and hold no expectation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from grader.suite import probe


@probe
def vjp(
    outputs: Sequence[torch.Tensor], leaves: Sequence[torch.Tensor], upstream: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """The vector-Jacobian product: what reaches `leaves` when `upstream` arrives at `outputs`.

    Zeros reach a leaf that the outputs do not depend on. Through a scalar, because `torch.autograd.grad` imports sympy
    (half a second) when it is given `grad_outputs`.
    """
    products = [y.flatten() @ u.flatten() for y, u in zip(outputs, upstream, strict=True)]
    total = torch.stack(products).sum()
    return list(torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True))
