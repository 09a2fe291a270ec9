"""Lists and ints that count how they are used: reads, writes and comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Tally:
    def __init__(self) -> None:
        self.counting = self.used = False
        self.comparisons = self.reads = self.writes = 0

    def counts(self) -> dict[str, int]:
        return {"comparisons": self.comparisons, "reads": self.reads, "writes": self.writes}

    def wrap(self, value: Any) -> Any:
        """A list of ints becomes a counting list of counting ints; anything else stays as it is."""
        if type(value) is not list or not all(type(item) is int for item in value):
            return value
        self.used = True
        integer, sequence = _types(self)
        return sequence(map(integer, value))


def _types(tally: Tally) -> tuple[type, type]:
    def comparing(name: str) -> Any:
        plain = getattr(int, name)

        def compare(self: int, other: object) -> bool:
            tally.comparisons += tally.counting
            return plain(self, other)

        return compare

    names = ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__")
    integer = type("int", (int,), {name: comparing(name) for name in names} | {"__hash__": int.__hash__})

    class CountingList(list):
        def __getitem__(self, index: Any) -> Any:
            found = list.__getitem__(self, index)
            tally.reads += len(found) if isinstance(index, slice) else 1
            return found

        def __iter__(self) -> Iterator[Any]:
            for item in list.__iter__(self):
                tally.reads += tally.counting
                yield item

        def __setitem__(self, index: Any, value: Any) -> None:
            tally.writes += 1
            list.__setitem__(self, index, value)

        def append(self, value: Any) -> None:
            tally.writes += 1
            list.append(self, value)

        def insert(self, index: Any, value: Any) -> None:
            tally.writes += len(self) + 1  # everything behind the place moves
            list.insert(self, index, value)

        def copy(self) -> list[Any]:
            tally.reads += len(self)
            return list(list.__iter__(self))

    CountingList.__name__ = "list"
    return integer, CountingList
