"""What the gate measured, committed in one file an exercise: `tests/measured/TRACK/SLUG.json`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from grader import catalog, source
from grader.authoring import git, keys, mutants
from grader.exercise import Exercise


def file(exercise: Exercise) -> Path:
    return exercise.content / "tests" / "measured" / exercise.track / f"{exercise.slug}.json"


def hashes(exercise: Exercise) -> dict[str, str]:
    """What a mutation score depends on."""
    return keys.mutation(exercise, Path(mutants.__file__))


def same_mutants(measured: dict[str, str], now: dict[str, str]) -> bool:
    """Whether what was measured holds for each mutant, whichever of them are listed as equivalent since."""
    return {**measured, "equivalent": ""} == {**now, "equivalent": ""}


@cache
def commit() -> str:
    """What draws the samples that are measured again: the commit, or where there is none the text of the suites."""
    texts = (file.read_text(encoding="utf-8", errors="replace") for file in sorted(catalog.SUITES.rglob("*.py")))
    return git.head(catalog.content()) or source.fingerprint(*texts)


def keep(exercise: Exercise, **what: dict[str, Any] | None) -> None:
    """Write what was measured: `mutation`, `finding`. None takes it out."""
    kept = {**read(file(exercise)), **what}
    write(file(exercise), {name: figures for name, figures in sorted(kept.items()) if figures is not None})


def score(exercise: Exercise) -> dict[str, Any] | None:
    """The mutation score, if there is one."""
    return read(file(exercise)).get("mutation")


def current_score(exercise: Exercise) -> dict[str, Any] | None:
    """The same, unless it was measured on something else."""
    found = score(exercise)
    return found if found and found["hashes"] == hashes(exercise) else None


def finding(exercise: Exercise) -> dict[str, Any] | None:
    """What `grade dev check` found, with the key of what that depended on, if there is any."""
    return read(file(exercise)).get("finding")


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
