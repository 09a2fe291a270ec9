"""What a suite is written with. Layer 0: nothing heavy, nothing of the kit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def probe(function: Function) -> Function:
    """Mark a function of a suite as one that runs beside the learner's code.

    Its source crosses into the sandbox: it must return plain data and hold no expectation.
    It sees the modules its suite imports (`torch`, `numpy as np`, `math`) and other probes.
    """
    function.__probe__ = True  # type: ignore[attr-defined]
    return function
