"""One exercise: where its files are, and all that is read and derived from them, each once. Layer 1."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from grader import card, mistake, source
from grader.card import Card
from grader.errors import Fault
from grader.mistake import Equivalent, Mistake

PUZZLES = "leetcode"  # the track whose stubs lie at the top level
STUBS = ("exercises", PUZZLES)  # the folders of all stubs


@dataclass(frozen=True)
class Exercise:
    """
    track, slug  what it is called; the slug is unique
    suites       the folder of all suites
    content      the folder that holds `solutions`, `exercises` and `leetcode`
    """

    track: str
    slug: str
    suites: Path = field(repr=False, compare=False)
    content: Path = field(repr=False, compare=False)

    @property
    def path(self) -> str:
        """`optimizers/adamw`, the name in verdicts."""
        return f"{self.track}/{self.slug}"

    # --- files ---

    @property
    def folder(self) -> Path:
        """What its author writes, the solution aside."""
        return self.suites / self.track / self.slug

    @property
    def suite(self) -> Path:
        return self.folder / "suite.py"

    @property
    def solution(self) -> Path:
        return self.content / "solutions" / self.track / f"{self.slug}.py"

    @property
    def stub(self) -> Path:
        """The stub as it is handed out."""
        return self.content / self.stub_path

    @property
    def stub_path(self) -> Path:
        """Where the learner's file lies, relative to a workspace."""
        folder = Path(PUZZLES) if self.track == PUZZLES else Path(STUBS[0]) / self.track
        return folder / f"{self.slug}.py"

    # --- what they hold ---

    @cached_property
    def card(self) -> Card:
        return card.read(self.folder / "card.toml")

    @cached_property
    def text(self) -> str:
        """The solution's. Raises Fault when it cannot be read."""
        try:
            return self.solution.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Fault(f"the solution of `{self.path}` cannot be read: {error}") from error

    @cached_property
    def statement(self) -> str:
        """Markdown."""
        return source.statement(self.text)

    @cached_property
    def parts(self) -> tuple[source.Part, ...]:
        """What the learner writes, in the order of the text."""
        return source.parts(self.text)

    @cached_property
    def given(self) -> tuple[str, ...]:
        """The signatures of what the learner finds complete."""
        return source.given(self.text)

    @cached_property
    def stub_text(self) -> str:
        """What the learner starts from."""
        return source.stub(self.text)

    @cached_property
    def examples(self) -> tuple[source.Examples, ...]:
        """The worked examples, which are the visible tests."""
        return source.examples(self.text)

    @cached_property
    def mistakes(self) -> tuple[Mistake, ...]:
        return mistake.read_mistakes(self.folder / "mistakes.diff")

    @cached_property
    def equivalents(self) -> tuple[Equivalent, ...]:
        return mistake.read_equivalents(self.folder / "equivalent.diff")

    @property
    def styles(self) -> dict[str, Path]:
        """Correct answers in other styles, by name."""
        return {file.stem: file for file in sorted((self.folder / "accepted").glob("*.py"))}

    @property
    def packages(self) -> tuple[str, ...]:
        """What its sandbox imports before it forks."""
        needs = self.card.needs
        return ("torch", "numpy", "torch.utils.flop_counter") if "torch" in needs else needs
