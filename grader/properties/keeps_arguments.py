"""Arguments are left as they are. The sandbox compares them before and after every call, so that no test is needed."""

from __future__ import annotations

import functools
from typing import Any

from grader.properties.property import Property


def changes_an_argument(original: Any) -> Any:
    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        for value in [*args, *kwargs.values()]:
            if hasattr(value, "untyped_storage") and value.numel():
                first = value.detach()[(0,) * value.ndim]
                first.copy_(~first if first.dtype.itemsize == 1 else first + 1)
                break
            if type(value) is list and value:
                value.append(value[0])
                break
        return result

    return wrapped


keeps_arguments = Property(
    "keeps_arguments",
    "arguments are left as they are",
    "anything",
    "changes-its-argument",
    "An argument is changed in place; it belongs to the caller, so work on a copy.",
    changes_an_argument,
    None,
)
