"""Tensors may lie in memory in any order, with gaps between their elements, or be expanded."""

from __future__ import annotations

import functools
from typing import Any

from grader.compare import assert_close
from grader.properties.case import Drawn, Given
from grader.properties.property import Property, mapped


def transposed(x: Any) -> Any:
    """The last axis has the largest stride."""
    axes = tuple(reversed(range(x.ndim)))
    return x.permute(axes).contiguous().permute(axes)


def with_gaps(x: Any) -> Any:
    """Every other element of a larger tensor."""
    return x.unsqueeze(-1).repeat(*[1] * x.ndim, 2)[..., 0]


def expanded(x: Any) -> Any:
    """Along the first axis one row stands for all: other values, so that the result is another."""
    return x[:1].expand_as(x) if x.ndim > 1 and (x.is_floating_point() or x.is_complex()) else x


def dense(x: Any) -> Any:
    return expanded(x).contiguous()


WAYS = {"as they come": None, "transposed": transposed, "with gaps": with_gaps, "dense": dense, "expanded": expanded}
PAIRS = (("transposed", "as they come"), ("with gaps", "as they come"), ("expanded", "dense"))


def check(submission: Any, case: Any, draw: Any, expand: bool = True) -> None:
    """
    expand  also with rows that are all alike; False where the part is not defined for them
    """
    drawn = case.draw(draw)
    pairs = PAIRS if expand else PAIRS[:2]
    ways = {way: WAYS[way] for pair in pairs for way in pair}
    groups = [Drawn(tuple(_laid(call, way) for call in drawn.calls), drawn.settings) for way in ways.values()]
    got = dict(zip(ways, case.results(submission, *groups), strict=True))
    for way, plain in pairs:
        for number, (a, b) in enumerate(zip(got[way], got[plain], strict=True), 1):
            assert_close(a, b, what=f"result of call {number} with inputs {way} in memory")
    case.check_right(drawn, got["as they come"])


def _laid(call: Given, way: Any) -> Given:
    return call if way is None else Given(mapped(call.args, way), mapped(call.kwargs, way))


def reads_memory_in_order(original: Any) -> Any:
    def in_order(x: Any) -> Any:
        if x.is_contiguous():
            return x
        there = x.untyped_storage().nbytes() // x.element_size()
        return x.as_strided((there,), (1,)).repeat(-(-x.numel() // there))[: x.numel()].view(x.shape)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        groups = getattr(args[0], "param_groups", []) if args else []
        odd = [p.detach() for group in groups for p in group["params"] if not p.is_contiguous()]
        kept = [p.clone() for p in odd]
        result = original(*mapped(args, in_order), **mapped(kwargs, in_order))
        for p, before in zip(odd, kept, strict=True):  # what is written into `p.reshape(-1)` is lost
            p.copy_(before)
        return result

    return wrapped


any_layout = Property(
    "any_layout",
    "inputs may lie in memory in any order, with gaps, or be expanded",
    "tensors",
    "takes-memory-for-dense",
    "Tensors are taken to lie in memory in the order of their axes; `view` and writing into `reshape(-1)` need that, "
    "`reshape`, `flatten` and indexing do not.",
    reads_memory_in_order,
    check,
)
