"""Finds a GPU by asking another process: this one never imports torch for it. Layer 5."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ASK = Path(__file__).with_name("gpu_name.py")
PATIENCE = 60.0  # seconds; a cold import of torch from a slow disk


@dataclass(frozen=True)
class Gpu:
    name: str | None
    why: str = ""  # why there is none


def gpu() -> Gpu:
    """The first CUDA device, or why there is none."""
    try:
        answer = subprocess.run(
            [sys.executable, "-I", str(ASK)], capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Gpu(None, f"asking torch for one failed ({type(error).__name__})")
    if answer.returncode:
        last = answer.stderr.strip().splitlines()[-1:] or ["no message"]
        return Gpu(None, f"torch does not import ({last[0]})")
    lines = answer.stdout.strip().splitlines()
    return Gpu(lines[-1]) if lines else Gpu(None, "torch finds no CUDA device")
