"""The card of an exercise: what its author says about it, in `card.toml`. Layer 0."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from grader.errors import Fault


class Level(StrEnum):
    WARM_UP = "warm-up"
    CORE = "core"
    STRETCH = "stretch"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What stands in `card.toml`; texts may be wrapped there, and are one line here.

    title       what the exercise is called in lists
    level       "warm-up", "core" or "stretch"
    minutes     how long a prepared candidate needs for all parts
    hints       at least three, from a nudge to nearly the answer, no solution code
    follow_ups  (question, model answer) pairs, as an interviewer would go on; `[[follow_ups]]` in the file
    after       slugs that are best solved first
    forbid      what the statement's rules exclude; see `grader.sandbox.inside.forbidden`
    needs       the pip packages that an answer may import ("torch", "numpy")
    timeout     seconds for one call of the learner's code
    composes    any of its mistakes may be planted together, for a bug hunt; all of them are named
    """

    title: str
    level: str
    minutes: int
    hints: tuple[str, ...]
    follow_ups: tuple[tuple[str, str], ...]
    after: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    needs: tuple[str, ...] = ("torch",)
    timeout: float = 5.0
    composes: bool = False


def read(file: Path) -> Card:
    """The card in a file. Raises Fault, which says what is wrong with it."""
    try:
        with file.open("rb") as stream:
            return parse(tomllib.load(stream))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise Fault(f"the card {file} cannot be read: {error}") from error


def parse(data: dict[str, Any]) -> Card:
    """The card that a TOML document holds. Raises TypeError for a missing, unknown or misshapen field."""
    if unknown := data.keys() - {field.name for field in fields(Card)}:
        raise TypeError(f"there is no field `{min(unknown)}`")
    values = dict(data)
    if "follow_ups" in data:
        values["follow_ups"] = tuple(_pair(item) for item in _list("follow_ups", data))
    for name in {"hints", "after", "forbid", "needs"} & data.keys():
        values[name] = tuple(_text(name, item) for item in _list(name, data))
    for name in {"title", "level"} & data.keys():
        values[name] = _text(name, data[name])
    card = Card(**values)
    if type(card.minutes) is not int:
        raise TypeError(f"`minutes` is {card.minutes!r:.60}")
    if type(card.timeout) not in (int, float) or not 0 < card.timeout < float("inf"):
        raise TypeError(f"`timeout` is {card.timeout!r:.60}")
    if type(card.composes) is not bool:
        raise TypeError(f"`composes` is {card.composes!r:.60}")
    return card


def _pair(item: object) -> tuple[str, str]:
    if not isinstance(item, dict) or item.keys() != {"question", "answer"}:
        raise TypeError(f"a follow-up has a `question` and an `answer`, not {item!r:.60}")
    return _text("question", item["question"]), _text("answer", item["answer"])


def _list(name: str, data: dict[str, Any]) -> list[Any]:
    if not isinstance(data[name], list):
        raise TypeError(f"`{name}` is {data[name]!r:.60}, not a list")
    return data[name]


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"`{name}` holds {value!r:.60}, not a text")
    return " ".join(value.split())
