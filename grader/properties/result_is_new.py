"""A result is the caller's own: it shares no memory with arguments, with state or with another result."""

from __future__ import annotations

import functools
from typing import Any

from grader.compare import assert_close, assert_that
from grader.properties.property import Property, mapped, size_of
from grader.properties.subject import subject
from grader.suite import probe


@probe
def copied(value: Any) -> Any:
    """A copy that shares nothing."""
    if hasattr(value, "untyped_storage"):
        return value.detach().clone()
    if isinstance(value, list | tuple | set):
        kind = next(kind for kind in (list, tuple, set) if isinstance(value, kind))  # a named tuple takes no iterable
        return kind(copied(item) for item in value)
    return {key: copied(item) for key, item in value.items()} if isinstance(value, dict) else value


@probe
def overwrite(value: Any) -> None:
    """Change whatever can be changed in a value."""
    if hasattr(value, "untyped_storage"):
        if 0 not in value.stride() or value.numel() < 2:  # an expanded one cannot be written to
            value.detach().fill_(1)
    elif isinstance(value, list | tuple):
        for item in value:
            overwrite(item)
        if isinstance(value, list):
            value.append(value[0] if value else 0)
    elif isinstance(value, dict):
        for item in value.values():
            overwrite(item)
        value.clear()
    elif isinstance(value, set):
        value.clear()


@probe
def used_up(module: Any, name: str, settings: tuple[Any, ...], calls: list[Any], others: list[Any]) -> tuple[Any, ...]:
    """The results as they come and after other calls, the arguments before and after the results are overwritten, and
    the results of the same calls made again then.
    """
    called = subject(module, name, settings)
    results, first = [], []
    for args, kwargs in calls:
        results.append(called(*args, **kwargs))
        first.append(copied(results[-1]))
    for args, kwargs in others:
        called(*args, **kwargs)
    later = copied(results)
    before = copied(calls)
    overwrite(results)
    after = copied(calls)
    again = [copied(called(*args, **kwargs)) for args, kwargs in before]
    return first, later, before, after, again


def check(submission: Any, case: Any, draw: Any) -> None:
    drawn, (_, others) = case.draw(draw), case.draw(draw).plain()
    first, later, before, after, again = case.run(submission, used_up, *drawn.plain(), others, may_change=True)
    assert_close(later, first, what="results after later calls")
    for number, (a, b) in enumerate(zip(after, before, strict=True), 1):
        assert_that(_same(a, b), f"writing into the result of call {number} leaves its arguments alone")
    assert_close(again, first, what="results of the same calls, after the first results were overwritten")
    case.check_right(drawn, first)


def _same(a: Any, b: Any) -> bool:
    try:
        assert_close(a, b)
    except AssertionError:
        return False
    return True


def hands_out_its_own(original: Any) -> Any:
    kept: dict[str, Any] = {}

    def update(old: Any, new: Any) -> None:
        if hasattr(old, "untyped_storage"):
            old.copy_(new.detach())
        elif type(old) is list:
            old[:] = new
        elif type(old) is tuple:
            for a, b in zip(old, new, strict=True):
                update(a, b)
        elif isinstance(old, dict | set):
            old.clear()
            old.update(new)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = mapped(original(*args, **kwargs), lambda x: x.detach().clone())
        old = kept.setdefault(repr(size_of((args, kwargs))), result)
        update(old, result)
        return old

    return wrapped


result_is_new = Property(
    "result_is_new",
    "a result is the caller's own: later calls leave it alone, and what is written into it changes nothing else",
    "anything",
    "hands-out-its-own-memory",
    "The result shares memory with something that is used again, an argument or what the next call returns; return "
    "something new.",
    hands_out_its_own,
    check,
)
