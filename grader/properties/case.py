"""What a suite declares: how a part is called, and what must hold then. Layer 2."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from grader.compare import assert_close, assert_that
from grader.properties.keeps_arguments import keeps_arguments
from grader.properties.property import Property
from grader.properties.subject import bound, in_turn

Probe = Callable[..., Any]


@dataclass(frozen=True)
class Given:
    """The arguments of one call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawn:
    """Calls of one part, and where they go to an object, what that is made with."""

    calls: tuple[Given, ...]
    settings: tuple[Any, ...] = ()

    def plain(self) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]]:
        """In the form in which it crosses."""
        return self.settings, [(call.args, call.kwargs) for call in self.calls]


def given(*args: Any, **kwargs: Any) -> Given:
    """The arguments of one call."""
    return Given(args, kwargs)


def on(settings: Sequence[Any], *calls: Given) -> Drawn:
    """Calls of an object that is made with `settings`."""
    return Drawn(calls, tuple(settings))


@dataclass(frozen=True, eq=False)
class Case:
    """A part of an exercise, how it is called, and what it holds; see `case`."""

    part: str
    inputs: Callable[..., Drawn | Sequence[Given]]
    properties: tuple[Property, ...]
    expect: Callable[..., Any] | None
    of: Probe | None
    made: Probe | None
    target: str
    name: str

    @property
    def source(self) -> str:
        """The fixture that its inputs are drawn from: `draw` or `random`."""
        return next(iter(inspect.signature(self.inputs).parameters))

    def draw(self, source: Any) -> Drawn:
        found = self.inputs(source)
        return found if isinstance(found, Drawn) else Drawn(tuple(found))

    def results(self, submission: Any, *groups: Drawn) -> list[list[Any]]:
        """What the calls of each group give, made one after another in one process; each group has its own object."""
        return self.run(submission, in_turn, [group.plain() for group in groups])

    def run(self, submission: Any, generic: Probe, *args: Any, **kwargs: Any) -> Any:
        """A property's probe beside the learner's code, where `subject` is what this case calls."""
        name = self.part if "." in self.target else self.target or self.part
        return submission.run(bound(generic, self.of, self.made), name, *args, **kwargs)

    def check_right(self, drawn: Drawn, results: list[Any]) -> None:
        """A result must be right before anything else about it counts: raises Mismatch for one that is not."""
        if self.expect is None:
            return assert_that(all(got is not None for got in results), "something is returned", got="None")
        for number, (got, right) in enumerate(zip(results, self.expected(drawn), strict=True), 1):
            assert_close(got, right, what=f"result of call {number}")
        return None

    def expected(self, drawn: Drawn) -> list[Any]:
        """What the oracle gives for each call."""
        assert self.expect is not None, f"{self.name} needs `expect`"
        return [self.expect(*drawn.settings, *call.args, **call.kwargs) for call in drawn.calls]


def case(
    part: str,
    inputs: Callable[..., Drawn | Sequence[Given]],
    *properties: Property,
    expect: Callable[..., Any] | None = None,
    of: Probe | None = None,
    made: Probe | None = None,
    target: str = "",
    name: str = "",
) -> Case:
    """A part, its calls, and the properties that it holds.

    inputs   `inputs(draw)` or `inputs(random)` gives a list of `given(...)`, or `on(settings, given(...), ...)`
    expect   the oracle: `expect(*settings, *args, **kwargs)`, in float64
    of       a probe to call in place of the part: `of(module, *settings, *args, **kwargs)`
    made     a probe that makes the object to call: `made(module, *settings)`
    target   the function that is called where it has another name, or the method that does a class's work: there the
             generic mistakes are planted. By default the part itself, or its `forward`, `__call__` or `step`
    name     to tell apart two cases that share a part and a property
    """
    return Case(part, inputs, properties, expect, of, made, target, name or part)


def holds(*cases: Case) -> type:
    """A class of tests, a method for each property and in it a case for each part that holds it."""
    properties = {held.name: held for one in cases for held in one.properties}
    tests = {f"test_{name}": _test(held, cases) for name, held in properties.items() if held.check is not None}
    return type("TestProperties", (), {**tests, "cases": cases, "always": (keeps_arguments,)})


def _test(held: Property, cases: Sequence[Case]) -> Any:
    def test(self: Any, submission: Any, request: pytest.FixtureRequest, case: Case) -> None:
        own = next(own for own in case.properties if own.name == held.name)
        own.test(submission, case, request.getfixturevalue(case.source))

    test.__doc__ = held.title
    chosen = [one for one in cases if held.name in [own.name for own in one.properties]]
    params = [pytest.param(one, id=one.name, marks=pytest.mark.part(one.part)) for one in chosen]
    return pytest.mark.parametrize("case", params)(test)
