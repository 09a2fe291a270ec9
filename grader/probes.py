"""Probes that several suites share. Layer 1.

Like every probe these run beside the learner's code, and hold no expectation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from grader.suite import probe


@probe
def vjp(
    outputs: Sequence[torch.Tensor], leaves: Sequence[torch.Tensor], upstream: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """The vector-Jacobian product: what reaches `leaves` when `upstream` arrives at `outputs`.

    Zeros reach a leaf that the outputs do not depend on. Through a scalar, because `torch.autograd.grad` imports sympy
    (half a second) when it is given `grad_outputs`. Complex outputs count as pairs of real numbers.
    """
    outputs = [torch.view_as_real(y) if y.is_complex() else y for y in outputs]
    products = [y.flatten() @ u.flatten() for y, u in zip(outputs, upstream, strict=True)]
    total = torch.stack(products).sum()
    return list(torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True))


@probe
def several(module: Any, name: str, calls: Sequence[tuple[Sequence[Any], dict[str, Any]]]) -> list[Any]:
    """The results of several calls, given as (arguments, keywords)."""
    return [getattr(module, name)(*arguments, **how) for arguments, how in calls]


@probe
def back(results: Any, leaves: Sequence[torch.Tensor], upstream: Any) -> tuple[Any, list[torch.Tensor]]:
    """Results, one tensor or several, and what reaches `leaves` when `upstream`, of their form, arrives there."""
    if torch.is_tensor(results):
        return results.detach(), vjp([results], leaves, [upstream])
    return [y.detach() for y in results], vjp(list(results), leaves, upstream)


@probe
def gradients(
    module: Any, name: str, leaves: Sequence[torch.Tensor], upstream: Any, *rest: Any, **how: Any
) -> tuple[Any, list[torch.Tensor]]:
    """A function's results, and what reaches its first arguments when `upstream` arrives there."""
    leaves = [x.detach().requires_grad_() for x in leaves]  # not cloned: they lie in memory as they came
    return back(getattr(module, name)(*leaves, *rest, **how), leaves, upstream)


@probe
def loaded(module: Any, name: str, settings: dict[str, Any], state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """A module with the given parameters, in their type and on their device."""
    layer: torch.nn.Module = getattr(module, name)(**settings).to(next(iter(state.values())))
    layer.load_state_dict(state)
    return layer


@probe
def applied(
    module: Any, name: str, settings: dict[str, Any], state: dict[str, torch.Tensor], *arguments: Any, **how: Any
) -> Any:
    """The output of a module with the given parameters."""
    return loaded(module, name, settings, state)(*arguments, **how)


@probe
def applied_gradients(
    module: Any,
    name: str,
    settings: dict[str, Any],
    state: dict[str, torch.Tensor],
    leaves: Sequence[torch.Tensor],
    upstream: Any,
    *rest: Any,
    **how: Any,
) -> tuple[Any, list[torch.Tensor]]:
    """A module's output, and what reaches its first arguments and every parameter when `upstream` arrives there."""
    layer, leaves = loaded(module, name, settings, state), [x.detach().requires_grad_() for x in leaves]
    parameters = dict(layer.named_parameters())
    return back(layer(*leaves, *rest, **how), [*leaves, *(parameters[key] for key in state)], upstream)


@probe
def loaded_method(
    module: Any, name: str, settings: dict[str, Any], state: dict[str, torch.Tensor], method: str
) -> torch.nn.Module:
    """A method of a module with the given parameters, to be called like a module."""

    class Method(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = loaded(module, name, settings, state)

        def named_parameters(self, *arguments: Any, **how: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
            return self.layer.named_parameters(*arguments, **how)

        def forward(self, *arguments: Any, **how: Any) -> Any:
            return getattr(self.layer, method)(*arguments, **how)

    return Method()


@probe
def method_cost(
    module: Any,
    meter: Any,
    name: str,
    settings: dict[str, Any],
    state: dict[str, torch.Tensor],
    method: str,
    *arguments: Any,
) -> Any:
    """The result of a method of a module; the method alone is metered."""
    layer = loaded(module, name, settings, state)
    with meter:
        return getattr(layer, method)(*arguments)


@probe
def applied_cost(
    module: Any, meter: Any, name: str, settings: dict[str, Any], state: dict[str, torch.Tensor], *arguments: Any
) -> Any:
    """The output of a module; the forward alone is metered."""
    layer = loaded(module, name, settings, state)
    with meter:
        return layer(*arguments)


@probe
def layout(module: Any, name: str, settings: dict[str, Any]) -> dict[str, list[int]]:
    """Names and shapes of a module's parameters."""
    return {key: list(p.shape) for key, p in getattr(module, name)(**settings).named_parameters()}


@probe
def built(module: Any, name: str, *arguments: Any, **settings: Any) -> None:
    """Nothing; the object is made."""
    getattr(module, name)(*arguments, **settings)


@probe
def rounded(module: Any, name: str, *arguments: Any, **how: Any) -> Any:
    """The type of the result, or of each, and the values in float64, where roundings show."""
    results = getattr(module, name)(*arguments, **how)
    if torch.is_tensor(results):
        return results.dtype, results.detach().double()
    return [x.dtype for x in results], [x.detach().double() for x in results]
