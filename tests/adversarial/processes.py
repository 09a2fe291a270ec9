"""Who runs below whom, as /proc tells it."""

from __future__ import annotations

from pathlib import Path


def below(pid: int, zombies: bool = True) -> set[int]:
    """The processes below one: its children, theirs, and so on."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it ended meanwhile
        if zombies or state != "Z":
            children.setdefault(int(parent), []).append(int(stat.parent.name))
    found, todo = set[int](), [pid]
    while todo:
        more = children.get(todo.pop(), [])
        found.update(more)
        todo += more
    return found
