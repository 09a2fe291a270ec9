"""What an optimizer is set to counts from the next step on. The suite's own probe changes it between steps."""

from __future__ import annotations

import functools
from typing import Any

from grader.compare import assert_close
from grader.properties.property import Property


def check(submission: Any, case: Any, draw: Any) -> None:
    drawn = case.draw(draw)
    (got,) = case.results(submission, drawn)
    for number, (a, b) in enumerate(zip(got, case.expected(drawn), strict=True), 1):
        assert_close(a, b, what=f"result {number}, with settings that change between steps")


def keeps_first_settings(original: Any) -> Any:
    first: dict[int, Any] = {}

    @functools.wraps(original)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        now = [dict(group) for group in self.param_groups]
        for group, old in zip(self.param_groups, first.setdefault(id(self), now), strict=True):
            group.update({name: value for name, value in old.items() if name != "params"})
        return original(self, *args, **kwargs)

    return wrapped


settings_are_read_each_time = Property(
    "settings_are_read_each_time",
    "settings that are changed count from the next step on",
    "anything",
    "keeps-its-first-settings",
    "A setting is read once and kept; schedules change it between steps, so read it from `param_groups` at each step.",
    keeps_first_settings,
    check,
)
