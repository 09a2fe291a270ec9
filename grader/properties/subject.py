"""What a property calls: the part itself, a suite's own probe in its place, or an object that one makes. Layer 2.

The probes here know it as `subject`, and `bound` says which it is. Without torch, which some exercises never import.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

from grader.suite import probe

Probe = Callable[..., Any]


@probe
def subject(module: Any, name: str, settings: tuple[Any, ...]) -> Any:
    """The part itself."""
    return getattr(module, name)


@probe
def own(module: Any, *args: Any, **kwargs: Any) -> Any:
    """Stands for a suite's own probe."""
    raise LookupError("`bound` puts the suite's probe here")


@probe
def in_its_place(module: Any, name: str, settings: tuple[Any, ...]) -> Any:
    """A suite's own probe."""
    return functools.partial(own, module, *settings)


@probe
def made_anew(module: Any, name: str, settings: tuple[Any, ...]) -> Any:
    """A new object, made by a suite's own probe."""
    return own(module, *settings)


@probe
def in_turn(module: Any, name: str, groups: list[Any]) -> list[list[Any]]:
    """The results of calls, made one after another."""
    results = []
    for settings, calls in groups:
        called = subject(module, name, settings)
        results.append([called(*args, **kwargs) for args, kwargs in calls])
    return results


@functools.cache
def bound(generic: Probe, of: Probe | None, made: Probe | None) -> Probe:
    """A property's probe, with what it calls."""
    if of is not None:
        return _with(generic, subject=_with(in_its_place, own=of))
    if made is not None:
        return _with(generic, subject=_with(made_anew, own=made))
    return generic


def _with(function: Any, **names: Probe) -> Probe:
    """A probe that sees other probes under some names."""
    new = types.FunctionType(function.__code__, {**function.__globals__, **names}, function.__name__)
    new.__doc__, new.__module__, new.__kwdefaults__ = function.__doc__, function.__module__, function.__kwdefaults__
    return probe(new)
