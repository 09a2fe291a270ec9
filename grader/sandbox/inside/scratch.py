"""Emptying the scratch directory of a learner's code."""

from __future__ import annotations

import os


def remove_tree(folder: str) -> None:
    """Remove a directory and what a learner's code left in it, as far as that is possible.

    It may be nested deeper than Python's stack and than a path may be long, and hold folders without permissions: so
    one folder is open at a time, and nothing recurs. Links are not followed. Nothing of the learner's may run any more.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    above: list[str] = []
    try:
        here = os.open(folder, flags)
        while (inner := _empty(here)) is not None or above:
            there = os.open("..", flags, dir_fd=here) if inner is None else os.open(inner, flags, dir_fd=here)
            os.close(here)
            here = there
            if inner is None:
                os.rmdir(above.pop(), dir_fd=here)
            else:
                above.append(inner)
        os.close(here)
        os.rmdir(folder)
    except OSError:
        return  # it is somebody else's, or gone


def _empty(here: int) -> str | None:
    """Remove what is in a directory, up to the first folder that is not empty: its name."""
    found = True
    while found:  # what is removed while a directory is read may hide what comes after it
        found = False
        with os.scandir(here) as entries:
            for entry in entries:
                found = True
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=here)
                    continue
                os.chmod(entry.name, 0o700, dir_fd=here)
                try:
                    os.rmdir(entry.name, dir_fd=here)
                except OSError:
                    return entry.name
    return None
