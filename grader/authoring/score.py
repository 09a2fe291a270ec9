"""What came of mutants, of a solution or of a module: score = killed / (mutants - equivalent)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from grader.authoring import mutants as mutator
from grader.authoring.mutants import Mutant
from grader.mistake import Equivalent, edited

Killers = dict[str, str]  # a mutant's key -> the test that rejects it, or the status; "" for a survivor


@dataclass(frozen=True)
class Score:
    """`survivors` are those that the list of equivalent ones does not explain."""

    name: str
    killed: int
    equivalent: tuple[str, ...]  # keys
    survivors: tuple[Mutant, ...]
    stale: tuple[str, ...]  # what is wrong with that list

    @property
    def mutants(self) -> int:
        return self.killed + len(self.equivalent) + len(self.survivors)

    @property
    def score(self) -> float:
        return self.killed / max(1, self.killed + len(self.survivors))

    def plain(self, original: str, name: str) -> dict[str, Any]:
        """As `grade dev mutate --json` prints it; what was mutated stands under `name`."""
        return {
            name: self.name, "mutants": self.mutants, "killed": self.killed, "equivalent": len(self.equivalent),
            "score": round(self.score, 4), "survivors": [mutant.diff(original) for mutant in self.survivors],
        }  # fmt: skip


def judge(
    name: str, original: str, mutants: Sequence[Mutant], equivalents: Iterable[Equivalent], killers: Killers
) -> Score:
    """Judge all mutants of a text, or those that were measured."""
    alive = {mutant.key: mutant for mutant in mutants if killers.get(mutant.key) == ""}
    unmeasured = {mutant.key for mutant in mutants} - killers.keys()
    explained, stale = [], []
    for edit in (edit for item in equivalents for edit in item.edits):
        try:
            key = mutator.key(edited(original, edit))
        except ValueError as error:
            stale.append(str(error))
            continue
        if key not in alive and key not in unmeasured:
            stale.append(f"an edit is no survivor:\n{edit.new.rstrip()}")
        explained.append(key)
    survivors = tuple(mutant for key, mutant in alive.items() if key not in explained)
    killed = sum(bool(killer) for killer in killers.values())
    return Score(name, killed, tuple(key for key in alive if key in explained), survivors, tuple(stale))
