"""Gradients reach every tensor that goes in, and every parameter, as they do through the oracle."""

from __future__ import annotations

import functools
from typing import Any

from grader.compare import assert_close
from grader.properties.case import Drawn
from grader.properties.property import Property, mapped


def check(submission: Any, case: Any, draw: Any, *which: int | str) -> None:
    """
    which  the arguments that want gradients, by place or by name; by default all tensors of floats, and all parameters
    """
    from grader.properties import through_autograd  # imports torch

    drawn = case.draw(draw)
    expected, upstream = [], []
    for call in drawn.calls:
        run = through_autograd.Run(lambda *drawn: case.expected(Drawn(*drawn))[0], call, drawn.settings, which)
        upstream.append([draw.normal(*shape, dtype=dtype) for shape, dtype in run.arrives])
        expected.append(run.back(upstream[-1]))
    got = case.run(submission, through_autograd.differentiated, *drawn.plain(), upstream, list(which))
    for number, (a, b) in enumerate(zip(got, expected, strict=True), 1):
        assert_close(a, b, what=f"(results, gradients of what went in, of parameters) of call {number}")


def cuts_the_graph(original: Any) -> Any:
    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        cut: list[Any] = []

        def without_graph(x: Any) -> Any:
            if cut or not x.requires_grad:
                return x
            cut.append(x)
            return x.detach()

        result = original(*mapped(args, without_graph), **mapped(kwargs, without_graph))
        return result if cut else mapped(result, lambda x: x.detach())  # the parameters' graph, then

    return wrapped


is_differentiable = Property(
    "is_differentiable",
    "gradients reach everything that goes in, and are those of the formula",
    "tensors",
    "cuts-the-graph",
    "No gradient reaches an input: something is detached, turned into a number, or computed under `no_grad`.",
    cuts_the_graph,
    check,
)
