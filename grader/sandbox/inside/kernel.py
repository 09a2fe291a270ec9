"""The C library, for what Python has no function for."""

from __future__ import annotations

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> int:
    """The result of a call. Raises OSError where it is negative."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def prctl(what: str, option: int, *values: int) -> None:
    padded = (*values, 0, 0, 0, 0)[:4]
    checked(libc.prctl(option, *(ctypes.c_ulong(value) for value in padded)), what)
