"""A property: the test that it makes of a case, and the mistake that this test must reject. Layer 2."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from grader.suite import probe

if TYPE_CHECKING:
    from grader.properties.case import Case

NEEDS = """import functools
from collections.abc import Callable
from typing import Any

probe = lambda function: function  # what is planted uses these
"""
Check = Callable[..., None]  # (submission, case, draw, *options)


@dataclass(frozen=True)
class Property:
    """
    name            as a suite declares it
    title           the line that a learner reads
    fits            what a part must take for it: "tensors", "iterables", "sequences" or "anything"
    mistake         the generic mistake's name, kebab-case
    says            what a learner is told of it: what was done, and what is right
    mistaken        a function as it would be with the mistake, given the right one; its source is planted
    check           the test; None where the sandbox looks by itself
    options, named  what a suite says of one case
    """

    name: str
    title: str
    fits: str
    mistake: str
    says: str
    mistaken: Callable[[Any], Any]
    check: Check | None
    options: tuple[Any, ...] = ()
    named: dict[str, Any] = field(default_factory=dict, compare=False)

    def __call__(self, *options: Any, **named: Any) -> Property:
        """The same with options for one case."""
        return replace(self, options=options, named=named)

    def test(self, submission: Any, case: Case, draw: Any) -> None:
        """Raises Mismatch where the property does not hold."""
        assert self.check is not None
        self.check(submission, case, draw, *self.options, **self.named)

    def plant(self, solution: str, target: str) -> str:
        """The solution with the generic mistake.

        target  the function or method that gets it: `f`, `C.forward`
        """
        sources = [inspect.getsource(function) for function in (mapped, size_of, self.mistaken)]
        return "\n\n".join([solution, NEEDS, *sources, f"{target} = {self.mistaken.__name__}({target})\n"])


@probe
def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """A value with every tensor in its lists, tuples and dicts changed."""
    if hasattr(value, "untyped_storage"):
        return change(value)
    if isinstance(value, list | tuple):
        items = [mapped(item, change) for item in value]
        return items if isinstance(value, list) else tuple(items)  # a named tuple, too
    if type(value) is dict:
        return {key: mapped(item, change) for key, item in value.items()}
    return value


def size_of(value: Any) -> Any:
    """How large a value is, whatever it holds: its shape, its lengths, the types of its numbers and functions."""
    if hasattr(value, "untyped_storage"):
        return str(tuple(value.shape))
    if type(value) in (list, tuple):
        return [size_of(item) for item in value]
    if type(value) is dict:
        return [[size_of(key), size_of(item)] for key, item in value.items()]
    if type(value) in (str, bytes):
        return len(value)
    return type(value).__name__ if type(value) in (int, float) or callable(value) else repr(value)
