"""`grade SLUG...`: grade answers and keep the attempts. Without a word: the dashboard."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from grader import workspace
from grader.cli.exit_code import ExitCode
from grader.cli.session import Session, complete_names, is_python_file, json_option, select
from grader.errors import UsageError
from grader.exercise import Exercise
from grader.verdict import Status, Verdict

if TYPE_CHECKING:
    from grader.engine import Engine


@dataclass(frozen=True)
class Target:
    exercise: Exercise
    file: Path


@dataclass(frozen=True)
class Options:
    """How to grade and what to print."""

    part: str | None = None
    device: str = "cpu"
    seed: int = 0
    performance: bool = True
    repro: bool = False
    as_json: bool = False
    verbose: bool = False


class Seed(click.ParamType):
    name = "N|random"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "random":
            import secrets

            return secrets.randbelow(1 << 31)
        try:
            seed = int(value)
        except ValueError:
            seed = -1
        if not 0 <= seed < 1 << 63:
            self.fail(f"`{value}` is no seed: give a whole number from 0, or `random`", param, ctx)
        return seed


class GradeCommand(click.Command):
    """Its name is never typed, so usage does not show it."""

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage("grade", "[SLUG | TRACK | FILE | all]... [OPTIONS]")


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    return complete_names(incomplete)


@click.command(cls=GradeCommand)
@click.argument("names", nargs=-1, shell_complete=_complete)
@click.option("--file", type=click.Path(path_type=Path), help="grade this file instead of the one in the workspace")
@click.option("--part", metavar="PART", help="grade one function or class only")
@click.option(
    "--device", type=click.Choice(["cpu", "cuda", "auto"]), default="cpu", show_default=True, help="where tensors live"
)
@click.option("--seed", type=Seed(), default="0", help="of the random inputs; the verdict names it  [default: 0]")
@click.option("--repro", is_flag=True, help="write the first failing call as a script for a debugger")
@json_option
@click.option("-v", "--verbose", is_flag=True, help="every failing test in full, and the passing ones")
@click.option("--memory", metavar="MIB", type=click.IntRange(64), default=4096, show_default=True, help="limit in MiB")
@click.option("--no-performance", is_flag=True, help="leave the cost tests out; a pass then does not count")
def grade(
    names: tuple[str, ...],
    file: Path | None,
    part: str | None,
    device: str,
    seed: int,
    repro: bool,
    as_json: bool,
    verbose: bool,
    memory: int,
    no_performance: bool,
) -> int:
    """Grade one or more exercises, a track, or all of them. Without a name: where you are."""
    if not names and file is None:
        if part or repro:
            raise UsageError("`--part` and `--repro` need an exercise\n\nhint: `grade list` shows them all")
        from grader.cli.dashboard import dashboard

        return dashboard(as_json)
    session = Session.anywhere()
    targets = resolve(names, file, session)
    if part:
        part = check_part(part, targets)
    options = Options(part, find_device(device), seed, not no_performance, repro, as_json, verbose)
    return grade_all(targets, options, session, memory)


def find_device(device: str) -> str:
    """Turn `auto` into what is there. Raises UsageError when a GPU was asked for and there is none."""
    if device == "cpu":
        return device
    from grader.cli.device import gpu

    found = gpu()
    if device == "cuda" and found.name is None:
        raise UsageError(f"no GPU can be used: {found.why}\n\nhint: `--device auto` takes one where there is one")
    return "cuda" if found.name else "cpu"


def resolve(names: Sequence[str], file: Path | None, session: Session) -> list[Target]:
    """What the words on the command line mean, each exercise once. Raises UsageError."""
    found: dict[str, Target] = {}
    for name in names or (str(file),):
        for exercise in select(name):
            given = Path(name) if is_python_file(name) else None
            found.setdefault(exercise.path, Target(exercise, file or given or _own_file(exercise, session)))
    targets = list(found.values())
    if file and len(targets) != 1:
        raise UsageError("`--file` needs exactly one exercise")
    missing = [target for target in targets if not os.path.exists(target.file)]
    if missing:
        names_missing = ", ".join(f"`{session.shown(target.file)}`" for target in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        if len(missing) == len(targets):
            hint = "" if file else f"\n\nhint: `grade reset {missing[0].exercise.slug}` writes the stub"
            raise UsageError(f"there is no file {names_missing}{more}{hint}")
        session.screen.error(
            f"left out, for want of a file: {names_missing}{more}\n\nhint: `grade init .` writes stubs"
        )
    return [target for target in targets if target not in missing]


def _own_file(exercise: Exercise, session: Session) -> Path:
    place = session.workspace or workspace.find(Path.cwd())  # which raises, and says what to do
    return place.file(exercise)


def check_part(part: str, targets: Sequence[Target]) -> str:
    import difflib

    if len(targets) != 1:
        raise UsageError("`--part` needs exactly one exercise")
    exercise = targets[0].exercise
    known = [p.name for p in exercise.parts]
    if part not in known:
        near = difflib.get_close_matches(part, known, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else "parts are functions and classes of the stub"
        raise UsageError(f"`{exercise.slug}` has no part `{part}`: it has {', '.join(known)}\n\nhint: {hint}")
    return part


def grade_all(targets: Sequence[Target], options: Options, session: Session, memory: int = 4096) -> int:
    """Grade, print each verdict as soon as it is there, and keep it. The exit code says whether all passed."""
    passed = 0
    with session.screen.status("starting"):
        from grader.engine import Engine

        engine = Engine(memory=memory << 20)
    with engine:
        for target in targets:
            verdict = grade_one(engine, target, options, session)
            passed += verdict.passed
            present(verdict, target, options, session, alone=len(targets) == 1)
            record(verdict, options, session)
            if options.repro:
                write_repro(engine.repro, target, session, to_stderr=options.as_json)
    if len(targets) > 1 and not options.as_json:
        session.screen.result(f"\n{passed} of {len(targets)} passed")
    return ExitCode.PASSED if passed == len(targets) else ExitCode.NOT_PASSED


def grade_one(engine: Engine, target: Target, options: Options, session: Session) -> Verdict:
    with session.screen.status(f"grading {target.exercise.slug}") as notify:
        return engine.grade(
            target.exercise,
            target.file,
            seed=options.seed,
            device=options.device,
            part=options.part,
            performance=options.performance,
            notify=notify,
        )


def present(verdict: Verdict, target: Target, options: Options, session: Session, *, alone: bool = True) -> None:
    """One exercise in full, several with a line each; JSON always one object a line."""
    from grader.render.terminal import render, status_line

    if options.as_json:
        session.screen.json(verdict.to_json(), indent=None)
    elif alone or options.verbose:
        page = render(
            verdict,
            width=session.screen.width,
            verbose=options.verbose,
            follow_ups=[question for question, _ in target.exercise.card.follow_ups],
            file=session.shown(target.file),
        )
        session.screen.result(page)
    else:
        session.screen.result(status_line(verdict, session.screen.width))


def record(verdict: Verdict, options: Options, session: Session) -> None:
    """Keep the attempt, after the verdict was printed: a store that fails costs the learner nothing else.

    Grading a stub is no attempt.
    """
    if verdict.status is Status.NOT_STARTED:
        return
    session.keep(lambda store: store.record(verdict, part=options.part, complete=options.performance))


def write_repro(script: str | None, target: Target, session: Session, *, to_stderr: bool) -> None:
    say = session.screen.note if to_stderr else session.screen.result
    if script is None:
        say(f"\nno call of `{target.exercise.slug}` failed, so there is nothing to repeat")
        return
    try:
        folder = session.workspace.make_state() / "repro" if session.workspace else Path.cwd()
        folder.mkdir(exist_ok=True)
        path = folder / (f"{target.exercise.slug}.py" if session.workspace else f"repro_{target.exercise.slug}.py")
        path.write_text(script, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        session.screen.error(f"the script cannot be written: {error}")
        return
    say(f"\nthe failing call as a script: {session.shown(path)}")
