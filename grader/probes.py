"""Probes that several suites share. Layer 1.

Like every probe these run beside the learner's code, and hold no expectation.
"""

import torch

from grader.exercise import probe


@probe
def vjp(outputs, leaves, upstream):
    """The vector-Jacobian product: what reaches `leaves` when `upstream` arrives at `outputs`; a list.

    Through a scalar, because `torch.autograd.grad` imports sympy (half a second) when it is given `grad_outputs`.
    """
    return list(
        torch.autograd.grad(sum(y.flatten() @ u.flatten() for y, u in zip(outputs, upstream, strict=True)), leaves)
    )
