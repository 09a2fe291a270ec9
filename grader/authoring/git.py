"""What git has of the kit, where the kit lies in a clone."""

from __future__ import annotations

import subprocess
from pathlib import Path


def head(folder: Path) -> str | None:
    """The commit that is checked out; None outside a repository, and before its first commit."""
    return _ask(folder, "rev-parse", "--verify", "HEAD")


def committed(file: Path) -> str | None:
    """A file's text as the commit has it; None where it has none."""
    return _ask(file.parent, "show", f"HEAD:./{file.name}")


def _ask(folder: Path, *words: str) -> str | None:
    try:
        said = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, timeout=60)
        return said.stdout.decode("utf-8") if said.returncode == 0 else None
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
