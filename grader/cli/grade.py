"""`grade SLUG...`: grade answers and keep the attempts. Without a word: the dashboard."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from grader import workspace
from grader.cli.exit_code import ExitCode
from grader.cli.grading import (
    FORMS,
    Display,
    Seed,
    find_device,
    grade_one,
    present,
    present_all,
    record,
    warm_engine,
    write_repro,
)  # fmt: skip
from grader.cli.session import Session, complete_names, is_python_file, json_option, select
from grader.errors import UsageError
from grader.exercise import Exercise
from grader.order import Order


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
@click.option(
    "--format", "form", type=click.Choice(FORMS), default="text", show_default=True,
    help="for a person, or for programs: one JSON object a line, compilers' messages, annotations, a test report",
)  # fmt: skip
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
    form: str,
    as_json: bool,
    verbose: bool,
    memory: int,
    no_performance: bool,
) -> int:
    """Grade one or more exercises, a track, or all of them. Without a name: where you are."""
    if as_json and form not in ("text", "json"):
        raise UsageError(f"`--json` and `--format {form}` contradict each other")
    form = "json" if as_json else form
    if not names and file is None:
        if part or repro or form not in ("text", "json"):
            options = "`--part` and `--repro` need" if part or repro else f"`--format {form}` needs"
            raise UsageError(f"{options} an exercise\n\nhint: `grade list` shows them all")
        from grader.cli.dashboard import dashboard

        return dashboard(form == "json")
    session = Session.anywhere()
    if form != "text":
        session.screen = session.screen.still()
    targets = resolve(names, file, session)
    if part:
        part = check_part(part, targets)
    device = find_device(device)
    orders = [
        Order(exercise, answer, part=part, device=device, seed=seed, performance=not no_performance)
        for exercise, answer in targets.items()
    ]
    display = Display(form, verbose, alone=len(orders) == 1)
    return grade_all(orders, display, session, memory, repro)


def resolve(names: Sequence[str], file: Path | None, session: Session) -> dict[Exercise, Path]:
    """What the words on the command line mean: exercises, each once, with the file to grade. Raises UsageError."""
    found: dict[Exercise, Path] = {}
    for name in names or (str(file),):
        for exercise in select(name):
            given = Path(name) if is_python_file(name) else None
            found.setdefault(exercise, file or given or _own_file(exercise, session))
    if file and len(found) != 1:
        raise UsageError("`--file` needs exactly one exercise")
    missing = [exercise for exercise, answer in found.items() if not os.path.exists(answer)]
    if missing:
        names_missing = ", ".join(f"`{session.shown(found[exercise])}`" for exercise in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        if len(missing) == len(found):
            hint = "" if file else f"\n\nhint: `grade reset {missing[0].slug}` writes the stub"
            raise UsageError(f"there is no file {names_missing}{more}{hint}")
        session.screen.error(
            f"left out, for want of a file: {names_missing}{more}\n\nhint: `grade init .` writes stubs"
        )
    return {exercise: answer for exercise, answer in found.items() if exercise not in missing}


def _own_file(exercise: Exercise, session: Session) -> Path:
    place = session.workspace or workspace.find(Path.cwd())  # which raises, and says what to do
    return place.file(exercise)


def check_part(part: str, targets: Collection[Exercise]) -> str:
    import difflib

    if len(targets) != 1:
        raise UsageError("`--part` needs exactly one exercise")
    (exercise,) = targets
    known = [p.name for p in exercise.parts]
    if part not in known:
        near = difflib.get_close_matches(part, known, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else "parts are functions and classes of the stub"
        raise UsageError(f"`{exercise.slug}` has no part `{part}`: it has {', '.join(known)}\n\nhint: {hint}")
    return part


def grade_all(orders: Sequence[Order], display: Display, session: Session, memory: int, repro: bool) -> int:
    """Grade, print each verdict as soon as it is there, and keep it. The exit code says whether all passed."""
    reports = []
    with warm_engine(session, memory) as engine:
        for order in orders:
            report = grade_one(engine, order, session)
            reports.append(replace(report, failing=None, trials=()))  # whose calls may be large
            present(report, display, session)
            record(report, session)
            if repro:
                write_repro(report, session, to_stderr=display.form != "text")
    present_all(reports, display, session)
    return ExitCode.PASSED if all(report.verdict.passed for report in reports) else ExitCode.NOT_PASSED
