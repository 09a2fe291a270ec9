"""A verdict as the learner reads it in a terminal. Layer 4.

The status first; then the points of each part; then the plainest failing test in full with its siblings folded;
then what the mistake looks like, what waits, what was printed, and what to do next. Test messages come ready-made
from `grader.compare` and are never parsed. Everything passes through `safe`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from grader.render.text import bad, clamp, cut, faint, good, indent, paragraph, plural, safe, strong, warn
from grader.verdict import Cause, Outcome, Status, TestResult, Verdict

WORDS = {
    Status.PASSED: "passed",
    Status.FAILED: "failed",
    Status.PARTIAL: "partly done",
    Status.NOT_STARTED: "not started",
    Status.RULE_BROKEN: "rule broken",
    Status.ERROR: "does not load",
    Status.TIMEOUT: "timed out",
    Status.OUT_OF_MEMORY: "out of memory",
    Status.CRASHED: "crashed",
}
PLAINEST = ("examples", "values", "gradients", "edge_cases", "stability", "properties", "performance")
EXAMPLES = "examples"  # what belongs to no part: the statement's worked examples
OUTPUT_LINES, VERBOSE_LINES = 12, 200
ALSO = 8  # other failing tests shown when not verbose

Tests = Sequence[TestResult]


def slug(verdict: Verdict) -> str:
    return safe(verdict.exercise.rsplit("/", 1)[-1])


def render(
    verdict: Verdict, *, width: int = 80, verbose: bool = False, follow_ups: Sequence[str] = (), file: str = ""
) -> str:
    """The whole verdict, ending in a newline.

    follow_ups  questions shown after a pass
    file        how to name the learner's file; by default as the verdict does
    """
    width = clamp(width)
    blocks = [
        status_line(verdict, width),
        indent(verdict.message, 2, width) if verdict.message.strip() else "",
        _parts(verdict.tests, width),
        _rules(verdict, width),
        *_failures(verdict, width, verbose),
        _diagnosis(verdict, width),
        _idle(verdict.tests, width),
        _passes(verdict.tests, width) if verbose else "",
        _output(verdict.output, width, VERBOSE_LINES if verbose else OUTPUT_LINES),
        _questions(follow_ups, width) if verdict.passed else "",
        _next(verdict, file or verdict.file, width),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def outcome(verdict: Verdict) -> str:
    """How it went and the points, in a few words."""
    points = f", {verdict.points} of {plural(verdict.max_points, 'point')}" if verdict.max_points else ""
    return WORDS[verdict.status] + points


def status_line(verdict: Verdict, width: int = 80) -> str:
    """One line: how it went, the points, and under which circumstances."""
    colour = good if verdict.passed else warn if verdict.status in (Status.PARTIAL, Status.NOT_STARTED) else bad
    word = WORDS[verdict.status]
    points = f", {verdict.points} of {plural(verdict.max_points, 'point')}" if verdict.max_points else ""
    line = f"{safe(verdict.exercise)}{points}"
    how = f"({verdict.seconds:.2f} s, seed {verdict.seed}, {safe(verdict.device)}, {safe(verdict.isolation)})"
    gap = " " if len(f"{word}: {line} {how}") <= width else "\n  "
    return colour(strong(f"{word}:")) + f" {line}" + gap + faint(how)


def _parts(tests: Tests, width: int) -> str:
    parts = list(dict.fromkeys(test.part for test in tests))
    if not parts:
        return ""
    names = {part: safe(part) or EXAMPLES for part in parts}
    name_width = max(map(len, names.values()))
    rows = []
    for part in parts:
        own = [test for test in tests if test.part == part]
        points, most = sum(t.points for t in own), sum(t.max_points for t in own)
        row, state = f"  {names[part]:<{name_width}}  {points:>3} of {most:<3}  ", _state(own)
        rows.append(row + state if len(row + click.unstyle(state)) <= width else f"{row.rstrip()}\n    {state}")
    return "\n".join(rows)


def _state(own: Tests) -> str:
    if all(test.outcome is Outcome.PASSED for test in own):
        return good("passed")
    if all(test.cause is Cause.WAITING for test in own):
        return warn("not started")
    wrong = [test for test in own if test.wrong]
    idle = [test for test in own if test.outcome is not Outcome.PASSED and test not in wrong]
    passed = sum(test.outcome is Outcome.PASSED for test in own)
    counts: list[tuple[int, str, Callable[[str], str]]] = [
        (len(wrong), "failed", bad),
        (len(idle), "not run", warn),
        (passed, "passed", str),
    ]
    return ", ".join(colour(f"{count} {word}") for count, word, colour in counts if count)


def _rules(verdict: Verdict, width: int) -> str:
    blocks = []
    for rule in verdict.rules:
        head = paragraph("rule broken: ", f"{rule.rule}", width)
        blocks.append(f"{bad(head)}\n    line {rule.line}: {cut(rule.source.strip(), width - 16)}")
    return "\n".join(blocks)


def _function(test: TestResult) -> str:
    return test.name.split("[", 1)[0]


def _parameters(test: TestResult) -> str:
    return test.name[len(_function(test)) :]


def _title(test: TestResult) -> str:
    """The title without the case's name, which some titles end in."""
    return (test.title or _function(test)).removesuffix(_parameters(test)).rstrip()


def about(test: TestResult) -> str:
    """The title, and which case of it."""
    return f"{_title(test)} {_parameters(test)}".rstrip()


def plainest_first(tests: Tests) -> list[TestResult]:
    """The failing tests: the worked examples, which the learner can read, then by category, in the suite's order.

    Where several parts fail, those of the first of them come before: others may fail for it alone.
    """
    wrong = [test for test in tests if test.wrong]
    failing = {test.part for test in wrong if test.category != EXAMPLES}
    root = next((test.part for test in tests if test.part in failing), None) if len(failing) > 1 else None

    def rank(test: TestResult) -> tuple[bool, int]:
        return test.part != root, PLAINEST.index(test.category) if test.category in PLAINEST else len(PLAINEST)

    return sorted(wrong, key=rank)


def _failures(verdict: Verdict, width: int, verbose: bool) -> list[str]:
    """The plainest failing test in full with its siblings folded, then the other failing tests by title."""
    wrong = plainest_first(verdict.tests)
    functions = list(dict.fromkeys(_function(test) for test in wrong))
    if not functions:
        return []
    if verbose:
        return [_in_full(test, width) for test in wrong]
    first = [test for test in wrong if _function(test) == functions[0]]
    rest = [[test for test in wrong if _function(test) == name] for name in functions[1:]]
    return [
        _in_full(first[0], width),
        _siblings(first[1:], _passing(first[0], verdict.tests), width),
        _also(rest, width),
    ]


def _in_full(test: TestResult, width: int) -> str:
    where = ", ".join(filter(None, [test.part, plural(test.max_points, "point")]))
    head = paragraph("failed: ", f"{about(test)} ({where})", width)
    message = indent(test.message, 4, width) if test.message.strip() else ""
    return "\n".join(filter(None, [bad(head), message]))


def _passing(first: TestResult, tests: Tests) -> list[TestResult]:
    return [t for t in tests if _function(t) == _function(first) and t.outcome is Outcome.PASSED and _parameters(t)]


def _siblings(failing: Tests, passing: Tests, width: int) -> str:
    lines = [cut(f"  failed too {_parameters(test)}: {test.message.strip()}".rstrip(": "), width) for test in failing]
    if passing:
        names = ", ".join(_parameters(test) for test in passing)
        lines.append(paragraph("passes for ", names, width, by=2))
    return "\n".join(lines)


def _also(groups: Sequence[Tests], width: int) -> str:
    lines = []
    for group in groups[:ALSO]:
        count = f" ({plural(len(group), 'case')})" if len(group) > 1 else ""
        title = _title(group[0]) if count else about(group[0])
        lines.append(cut(f"{group[0].part or EXAMPLES}: {title}{count}", width - 2))
    if not lines:
        return ""
    if len(groups) > ALSO:
        lines.append(f"and {len(groups) - ALSO} more")
    return "failed too (`-v` shows them in full):\n" + "\n".join(f"  {line}" for line in lines)


def _diagnosis(verdict: Verdict, width: int) -> str:
    """The mistakes that are named: one, some that it may be, or several at once."""
    if not (found := verdict.diagnosis):
        return ""
    first = found[0]
    explained = first.together or first.explains
    share = f"{explained} of {plural(first.of, 'failing call')}"
    more = "; there may be more" if explained < first.of else ""
    if len(found) == 1:
        return strong(paragraph("looks like: ", f"{first.says} (explains {share}{more})", width))
    if first.together:
        title = f"{len(found)} mistakes at once, which explain {share}{more}"
    else:
        title = f"one of these, each of which explains {share}{more}"
    lines = [paragraph("looks like: ", title, width)]
    lines += [paragraph(f"  {number}. ", one.says, width) for number, one in enumerate(found, 1)]
    return "\n".join(map(strong, lines))


def _idle(tests: Tests, width: int) -> str:
    """What says nothing about the answer, a line for each reason."""
    lines = []
    waiting = [test for test in tests if test.cause is Cause.WAITING]
    if waiting:
        names = ", ".join(dict.fromkeys(test.part or EXAMPLES for test in waiting))
        points = plural(sum(test.max_points for test in waiting), "point")
        lines.append(paragraph("waiting: ", f"{names} ({plural(len(waiting), 'test')}, {points})", width))
    no_gpu = [test for test in tests if test.cause is Cause.NO_GPU]
    if no_gpu:
        lines.append(f"skipped: {plural(len(no_gpu), 'test')} for want of a GPU, at no cost in points")
    not_run = [t for t in tests if t.cause is Cause.NOT_RUN or (t.outcome is Outcome.SKIPPED and t.cause is None)]
    if not_run:
        reason = cut(not_run[0].message, width - 24)
        lines.append(f"not run: {plural(len(not_run), 'test')}" + (f": {reason}" if reason else ""))
    return "\n".join(lines)


def _passes(tests: Tests, width: int) -> str:
    passed = [test for test in tests if test.outcome is Outcome.PASSED]
    lines = [cut(f"  {t.part or EXAMPLES}: {about(t)}", width) for t in passed]
    return "\n".join(["passed:", *lines]) if lines else ""


def _output(output: str, width: int, most: int) -> str:
    lines = [line for line in safe(output).rstrip().split("\n") if line.strip()]
    if not lines:
        return ""
    shown = ["  | " + cut(line.rstrip(), width - 4) for line in lines[:most]]
    if len(lines) > most:
        shown.append(f"  and {plural(len(lines) - most, 'line')} more")
    return "printed by your code:\n" + "\n".join(shown)


def _questions(follow_ups: Sequence[str], width: int) -> str:
    lines = [paragraph("- ", question, width, by=2) for question in follow_ups]
    return "\n".join(["an interviewer may go on:", *lines]) if lines else ""


def _next(verdict: Verdict, file: str, width: int) -> str:
    name = slug(verdict)
    say: dict[Status, Callable[[], str]] = {
        Status.PASSED: lambda: (
            f"`grade solution {name} --diff` compares with the kit's answer, `grade next` names the next exercise"
        ),
        Status.PARTIAL: lambda: f"every part you started passes; go on in `{file}`",
        Status.NOT_STARTED: lambda: f"`grade show {name}` is the statement; write your answer into `{file}`",
        Status.RULE_BROKEN: lambda: f"`grade show {name}` lists the rules",
        Status.ERROR: lambda: f"correct `{file}` and grade again",
        Status.TIMEOUT: lambda: (
            f"look for a loop that does not end; `grade {name} --repro` writes the call as a script"
        ),
        Status.OUT_OF_MEMORY: lambda: "`--memory MIB` raises the limit, should the answer really need more",
    }
    default = f"`grade hint {name}` gives a nudge, `grade {name} --repro` writes the failing call as a script"
    return paragraph("hint: ", say.get(verdict.status, lambda: default)(), width)
