"""What a command's exit code means. Layer 5."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    PASSED = 0
    NOT_PASSED = 1
    USAGE = 2
    FAULT = 3  # the kit's own
    INTERRUPTED = 130
