"""What is called Iterable may be read once only, and what is called Sequence need not be a list.

`any_iterable(0, "special")` says which arguments: by place or by name.
"""

from __future__ import annotations

import functools
from typing import Any

from grader.compare import assert_close
from grader.properties.property import Property
from grader.properties.subject import subject
from grader.suite import probe

ONCE = ("list", "tuple", "generator", "iterator")
OFTEN = ("list", "tuple")


@probe
def in_forms(
    module: Any, name: str, settings: tuple[Any, ...], calls: list[Any], which: list[Any], forms: list[str]
) -> list[Any]:
    """The result of each call with its lists as they are, then as tuples and so on."""

    def inner(value: Any) -> Any:
        return tuple(value) if type(value) is list else value

    def formed(value: Any, form: str) -> Any:
        if form == "list":
            return list(value)
        items = [inner(item) for item in value]
        return {"tuple": tuple(items), "generator": (item for item in items), "iterator": iter(items)}[form]

    called = subject(module, name, settings)
    results = []
    for args, kwargs in calls:
        for form in forms:
            some = [formed(value, form) if place in which else value for place, value in enumerate(args)]
            named = {key: formed(value, form) if key in which else value for key, value in kwargs.items()}
            results.append(called(*some, **named))
    return results


def _check(forms: tuple[str, ...]) -> Any:
    def check(submission: Any, case: Any, draw: Any, *which: Any) -> None:
        drawn = case.draw(draw)
        got = case.run(submission, in_forms, *drawn.plain(), list(which), list(forms))
        plain = got[:: len(forms)]
        for place, form in enumerate(forms[1:], 1):
            for result, right in zip(got[place :: len(forms)], plain, strict=True):
                assert_close(result, right, what=f"result for a {form} in place of a list")
        case.check_right(drawn, plain)

    return check


def reads_twice(original: Any) -> Any:
    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        for value in [*args, *kwargs.values()]:
            if hasattr(value, "__next__"):
                list(value)
        return original(*args, **kwargs)

    return wrapped


def needs_a_list(original: Any) -> Any:
    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        for value in [*args, *kwargs.values()]:
            if type(value) is tuple:
                raise AttributeError("'tuple' object has no attribute 'append'")
        return original(*args, **kwargs)

    return wrapped


any_iterable = Property(
    "any_iterable",
    "what may be iterable may be a list, a tuple or something that can be read once",
    "iterables",
    "reads-an-iterable-twice",
    "An iterable is read twice; a generator or a file is empty by then, so make a list of it first, or read it once.",
    reads_twice,
    _check(ONCE),
)
any_sequence = Property(
    "any_sequence",
    "what may be any sequence may be a list or a tuple",
    "sequences",
    "needs-a-list",
    "A sequence is taken for a list; it may be a tuple, which has no `append` and cannot be added to a list.",
    needs_a_list,
    _check(OFTEN),
)
