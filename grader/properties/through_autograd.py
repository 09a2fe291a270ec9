"""What autograd makes of a call, in the sandbox and of an oracle. Imported only where torch is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from grader.probes import vjp
from grader.properties.case import Given
from grader.properties.property import mapped
from grader.properties.subject import subject
from grader.suite import probe


@probe
def outputs(result: Any) -> list[torch.Tensor]:
    """The tensors of a result that may have gradients, in order."""
    found: list[torch.Tensor] = []
    mapped(result, found.append)
    return [y for y in found if y.is_floating_point() or y.is_complex()]


@probe
def as_leaves(value: Any, leaves: list[torch.Tensor]) -> Any:
    """A value whose floating tensors want gradients; they are added to `leaves`."""

    def leaf(x: torch.Tensor) -> torch.Tensor:
        if not (x.is_floating_point() or x.is_complex()):
            return x
        leaves.append(x.detach().requires_grad_())  # not cloned: it lies in memory as it came
        return leaves[-1]

    return mapped(value, leaf)


@probe
def wanting(args: Any, kwargs: dict[str, Any], which: Any, leaves: list[torch.Tensor]) -> tuple[Any, dict[str, Any]]:
    """Arguments as leaves: those of `which`, or all."""
    some = [as_leaves(x, leaves) if not which or place in which else x for place, x in enumerate(args)]
    return some, {key: as_leaves(x, leaves) if not which or key in which else x for key, x in kwargs.items()}


@probe
def differentiated(
    module: Any, name: str, settings: tuple[Any, ...], calls: list[Any], upstream: list[Any], which: list[Any]
) -> list[Any]:
    """The results of each call, and what reaches its tensors and every parameter when `upstream` arrives there."""
    called = subject(module, name, settings)
    dicts = [value for value in settings if isinstance(value, dict)]
    states = [value for value in dicts if any(map(torch.is_tensor, value.values()))]
    named = dict(called.named_parameters()) if states else {}
    parameters = [named[key] for state in states for key in state]
    found = []
    for (args, kwargs), arrives in zip(calls, upstream, strict=True):
        leaves: list[torch.Tensor] = []
        some, named_ones = wanting(args, kwargs, which, leaves)
        results = outputs(called(*some, **named_ones))
        gradients = vjp(results, [*leaves, *parameters], arrives)
        found.append(([y.detach() for y in results], gradients[: len(leaves)], gradients[len(leaves) :]))
    return found


class Run:
    """The same for one call of an oracle, `oracle(calls, settings)`."""

    def __init__(self, oracle: Callable[..., Any], call: Given, settings: tuple[Any, ...], which: Any) -> None:
        self.leaves: list[torch.Tensor] = []
        self.parameters: list[torch.Tensor] = []
        args, kwargs = wanting(call.args, call.kwargs, which, self.leaves)
        states = [as_leaves(value, self.parameters) if isinstance(value, dict) else value for value in settings]
        self.results = outputs(oracle((Given(tuple(args), kwargs),), tuple(states)))

    @property
    def arrives(self) -> list[tuple[tuple[int, ...], torch.dtype]]:
        """Shape and type of what is to arrive at each result; of a complex one at its pairs."""
        return [((*y.shape, 2), y.real.dtype) if y.is_complex() else (tuple(y.shape), y.dtype) for y in self.results]

    def back(self, upstream: list[torch.Tensor]) -> tuple[list[torch.Tensor], ...]:
        """The results, and what reaches inputs and parameters."""
        gradients = vjp(self.results, [*self.leaves, *self.parameters], upstream)
        count = len(self.leaves)
        return [y.detach() for y in self.results], gradients[:count], gradients[count:]
