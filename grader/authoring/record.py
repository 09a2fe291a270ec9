"""What is committed beside the exercises: the gate's findings, mutation scores, and correct answers in other styles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grader import catalog, source
from grader.authoring import mutants
from grader.catalog import Entry


def scores() -> Path:
    return catalog.content() / "tests" / "mutation.json"


def findings() -> Path:
    return catalog.content() / "tests" / "findings.json"


def hashes(entry: Entry) -> dict[str, str]:
    """What a score depends on."""
    files = {"suite": entry.suite, "solution": entry.solution, "mutator": Path(mutants.__file__)}
    return {name: source.fingerprint(path.read_text(encoding="utf-8")) for name, path in files.items()}


def keep(entry: Entry, figures: dict[str, Any]) -> None:
    """Write an exercise's figures, with the hashes of what they were measured on."""
    kept = read(scores()) | {entry.path: {"hashes": hashes(entry), **figures}}
    write(scores(), dict(sorted(kept.items())))


def known(entry: Entry) -> dict[str, Any] | None:
    """The figures of an exercise, if there are any."""
    return read(scores()).get(entry.path)


def current(entry: Entry) -> dict[str, Any] | None:
    """The same, unless they were measured on something else."""
    found = known(entry)
    return found if found and found["hashes"] == hashes(entry) else None


def variants(entry: Entry) -> list[Path]:
    """The correct answers in other styles, kept with the kit's own tests."""
    folder = catalog.content() / "tests" / "accepted" / entry.track
    return sorted(file for file in folder.glob(f"{entry.slug}*.py") if _owner(file.stem) == entry.slug)


def _owner(stem: str) -> str:
    """The longest slug that the file's name begins with."""
    slugs = [entry.slug for entry in catalog.entries() if stem == entry.slug or stem.startswith(entry.slug + "_")]
    return max(slugs, key=len, default="")


def read(file: Path | None) -> dict[str, Any]:
    """A JSON object from a file; an empty one where there is none."""
    try:
        data = json.loads(file.read_text(encoding="utf-8")) if file else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def write(file: Path | None, data: dict[str, Any]) -> None:
    """Whole or not at all."""
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    temporary.replace(file)
