"""What a verdict looks like at width 80, as plain text."""

from __future__ import annotations

import click
import fake_kit
import pytest
from rich.console import Console

from grader import catalog
from grader.render import overview
from grader.render.statement import Statement, for_terminal, formula
from grader.render.terminal import WORDS, plainest_first, render, status_line
from grader.render.text import cut, indent, safe
from grader.store import DAY, Standing
from grader.verdict import BrokenRule, Cause, Diagnosis, Outcome, Status

FAILED = Outcome.FAILED


def plain(verdict, **options):
    return click.unstyle(render(verdict, **{"width": 80, **options}))


def wrong(name, message="expected  1\ngot       2", cause=Cause.WRONG, **rest):
    return fake_kit.result(name, FAILED, cause=cause, message=message, **rest)


def failed(*tests, **rest):
    return fake_kit.verdict(Status.FAILED, **{"tests": list(tests), "diagnosis": [], **rest})


def test_a_failing_verdict_whole():
    tests = [
        fake_kit.result("TestValues::test_double[zero]"),
        wrong("TestValues::test_double[one]", title="doubles a number"),
        wrong("TestValues::test_double[two]", "expected  4\ngot       3", title="doubles a number"),
        wrong("TestStability::test_huge", "", category="stability", title="huge numbers", part="Doubler"),
        fake_kit.result("TestValues::test_rest", Outcome.SKIPPED, cause=Cause.WAITING, part="rest", points=0),
    ]
    found = [Diagnosis("adds", "adds where it should double", 2, 3)]
    verdict = failed(*tests, diagnosis=found, points=2, max_points=10, output="debug\n", file="ws/adamw.py")
    assert plain(verdict) == (
        "failed: optimizers/adamw, 2 of 10 points (0.08 s, seed 7, cpu, sandbox)\n"
        "\n"
        "  double     2 of 6    2 failed, 1 passed\n"
        "  Doubler    0 of 2    1 failed\n"
        "  rest       0 of 2    not started\n"
        "\n"
        "failed: doubles a number [one] (double, 2 points)\n"
        "    expected  1\n"
        "    got       2\n"
        "\n"
        "  failed too [two]: expected  4\n"
        "  passes for [zero]\n"
        "\n"
        "failed too (`-v` shows them in full):\n"
        "  Doubler: huge numbers\n"
        "\n"
        "looks like: adds where it should double (explains 2 of 3 failing calls; there\n"
        "            may be more)\n"
        "\n"
        "waiting: rest (1 test, 2 points)\n"
        "\n"
        "printed by your code:\n"
        "  | debug\n"
        "\n"
        "hint: `grade hint adamw` gives a nudge, `grade adamw --repro` writes the failing\n"
        "      call as a script\n"
    )


def test_several_mistakes_are_alternatives_or_made_at_once():
    says = "\n  1. adds where it should double\n  2. doubles twice\n"
    for explains, of, together, title in (
        (
            2,
            5,
            0,
            "looks like: one of these, each of which explains 2 of 5 failing calls; there may\n            be more",
        ),
        (3, 3, 0, "looks like: one of these, each of which explains 3 of 3 failing calls"),
        (1, 5, 4, "looks like: 2 mistakes at once, which explain 4 of 5 failing calls; there may be\n            more"),
        (1, 4, 4, "looks like: 2 mistakes at once, which explain 4 of 4 failing calls"),
    ):
        found = [
            Diagnosis(name, text, explains, of, together)
            for name, text in (("adds", "adds where it should double"), ("twice", "doubles twice"))
        ]
        assert title + says in plain(failed(wrong("TestValues::test_double[one]"), diagnosis=found))


def test_a_passed_verdict_goes_on_with_an_interviewers_question():
    text = plain(fake_kit.verdict(), follow_ups=["Why not triple?"])
    assert text.startswith("passed: optimizers/adamw, 4 of 4 points (0.08 s, seed 7, cpu, sandbox)\n")
    assert "an interviewer may go on:\n  - Why not triple?\n" in text
    assert text.endswith(
        "hint: `grade solution adamw --diff` compares with the kit's answer, `grade next`\n"
        "      names the next exercise\n"
    )


def test_follow_ups_wait_for_the_pass():
    assert "Why" not in plain(fake_kit.verdict(Status.FAILED), follow_ups=["Why not triple?"])


@pytest.mark.parametrize("status", list(Status))
def test_every_status_has_a_word_and_a_hint(status):
    text = plain(fake_kit.verdict(status, message="because"))
    assert text.startswith(f"{WORDS[status]}: optimizers/adamw")
    assert "\n  because\n" in text
    assert text.rstrip().splitlines()[-1].startswith(("hint: ", "      "))


def test_no_points_are_shown_where_nothing_ran():
    assert plain(fake_kit.verdict(Status.ERROR)).startswith("does not load: optimizers/adamw (0.08 s")


@pytest.mark.parametrize("status", list(Status))
def test_colour_carries_no_meaning_alone(status):
    coloured = render(fake_kit.verdict(status), width=80)
    assert "\x1b[" in coloured
    assert click.unstyle(coloured).split(":")[0] == WORDS[status]


def test_broken_rules_name_the_line():
    verdict = fake_kit.verdict(
        Status.RULE_BROKEN, rules=[BrokenRule("torch.optim", 12, "    from torch.optim import AdamW\n")]
    )
    assert "rule broken: torch.optim\n    line 12: from torch.optim import AdamW\n" in plain(verdict)
    assert "hint: `grade show adamw` lists the rules" in plain(verdict)


def test_the_plainest_test_comes_first():
    tests = [
        wrong("TestPerformance::test_cost", category="performance"),
        wrong("TestStability::test_huge", category="stability"),
        wrong("TestValues::test_second"),
        wrong("TestValues::test_third"),
        wrong("TestExamples::test_examples[statement]", category="examples", part="statement"),
    ]
    order = [test.name.split("::")[1] for test in plainest_first(tests)]
    assert order == ["test_examples[statement]", "test_second", "test_third", "test_huge", "test_cost"]


def test_where_several_parts_fail_the_first_of_them_comes_first():
    tests = [
        wrong("TestExamples::test_examples[statement]", category="examples", part="statement"),
        fake_kit.result("TestValues::test_begin", part="begin"),
        fake_kit.result("TestValues::test_middle", part="middle"),
        wrong("TestValues::test_end", part="end"),
        wrong("TestStability::test_huge", category="stability", part="middle"),
        wrong("TestEdgeCases::test_empty", category="edge_cases", part="middle"),
    ]
    order = [test.name.split("::")[1] for test in plainest_first(tests)]
    assert order == ["test_empty", "test_huge", "test_examples[statement]", "test_end"]


def test_titles_that_end_in_their_case_do_not_say_it_twice():
    text = plain(failed(wrong("TestValues::test_double[one]", title="doubles a number [one]")))
    assert "failed: doubles a number [one] (double, 2 points)" in text


def test_verbose_shows_every_failing_test_and_the_passing_ones():
    tests = [wrong("TestValues::test_a", "first"), wrong("TestValues::test_b", "second"), fake_kit.result("T::test_c")]
    text = plain(failed(*tests), verbose=True)
    assert "    first\n" in text
    assert "    second\n" in text
    assert "passed:\n  double: doubles\n" in text
    assert "first" in plain(failed(*tests))
    assert "second" not in plain(failed(*tests))


def test_many_other_failures_are_counted():
    tests = [wrong(f"TestValues::test_{i:02}", title=f"title {i}") for i in range(20)]
    text = plain(failed(*tests))
    assert "  and 11 more\n" in text
    assert "title 8" in text
    assert "title 9\n" not in text


def test_what_was_not_run_is_no_failure():
    tests = [
        fake_kit.result("T::test_gpu", Outcome.SKIPPED, cause=Cause.NO_GPU, points=0),
        fake_kit.result("T::test_late", FAILED, cause=Cause.NOT_RUN, message="the time ran out", points=0),
    ]
    text = plain(failed(*tests))
    assert "skipped: 1 test for want of a GPU, at no cost in points\n" in text
    assert "not run: 1 test: the time ran out\n" in text
    assert "failed: doubles" not in text
    assert "2 not run" in text


def test_output_is_capped():
    text = plain(fake_kit.verdict(Status.FAILED, output="\n".join(f"line {i} " + "x" * 200 for i in range(50))))
    assert "  | line 11 x" in text
    assert "line 12" not in text
    assert "  and 38 lines more\n" in text


def test_nothing_is_wider_than_the_terminal():
    long = "a message that goes on and on, " * 20
    verdict = failed(
        wrong("TestValues::test_double[one]", long, title=long),
        wrong("TestValues::test_double[two]", long, title=long),
        wrong("TestValues::test_other", "x" * 500, title=long),
        diagnosis=[Diagnosis("adds", long, 1, 2)],
        output=long,
        message=long,
        rules=[BrokenRule(long, 3, long)],
        file="x" * 30,
    )
    for width in (40, 80, 120):
        for verbose in (False, True):
            widest = max(len(line) for line in plain(verdict, width=width, verbose=verbose).splitlines())
            assert widest <= width


def test_rows_that_are_too_long_go_on_under_their_value():
    text = indent("expected  " + "1234567 " * 12, 4, 80)
    assert text.splitlines()[1].startswith(" " * 14 + "1234567")


EVIL = (
    "[red]boom[/red] \x1b[31mred\x1b[0m \x1b]0;title\x07bell\x07 \x1b]8;;http://x\x1b\\link "
    "\u202eflip \x9b2Jc1 \ud800half\ttab"
)


def test_learners_text_is_not_markup_and_holds_no_controls():
    verdict = failed(
        wrong("TestValues::test_double[\x1b[1m]", EVIL, title=EVIL, part=EVIL),
        output=EVIL,
        message=EVIL,
        rules=[BrokenRule(EVIL, 1, EVIL)],
        diagnosis=[Diagnosis("adds", EVIL, 1, 1)],
        device=EVIL,
        file=EVIL,
    )
    for verbose in (False, True):
        text = plain(verdict, verbose=verbose)
        assert "[red]boom[/red] red" in text
        for forbidden in "\x1b\x07\x9b\u202e\ud800\t\r":
            assert forbidden not in text
        text.encode()


def test_safe():
    assert safe("a\r\nb\rc") == "a\nb\nc"
    assert safe("\x1b[38;5;9mx\x1b[K\x1b(B") == "x"
    assert safe("\x1b]0;never closed") == ""
    assert safe("θ ≤ 1, 漢字, é") == "θ ≤ 1, 漢字, é"
    assert cut("one\ntwo", 10) == "one"
    assert cut("0123456789", 8) == "01234..."


def test_status_line_breaks_where_it_is_too_long():
    line = click.unstyle(status_line(fake_kit.verdict(exercise="transformers/mixture_of_experts"), 60))
    assert line == "passed: transformers/mixture_of_experts, 4 of 4 points\n  (0.08 s, seed 7, cpu, sandbox)"


# the overview


@pytest.fixture
def exercises(tmp_path, monkeypatch):
    fake_kit.use(tmp_path, monkeypatch)
    yield catalog.exercises()
    catalog.exercises.cache_clear()


STANDINGS = {
    "optimizers/adamw": Standing(3, 6, 6, Status.PASSED, 0.0, 0.0, 1),
    "leetcode/two_sum": Standing(1, 2, 6, Status.FAILED, 4 * DAY - 7200, None, 0),
}


def test_dashboard(exercises):
    page = overview.dashboard(
        exercises, STANDINGS, [catalog.find("adamw")], catalog.find("rope"), now=4 * DAY, width=80
    )
    assert click.unstyle(page) == (
        "1 of 4 exercises passed\n"
        "\n"
        "  attention   ................  0 of 1\n"
        "  leetcode    ................  0 of 1\n"
        "  optimizers  ########........  1 of 2\n"
        "\n"
        "due again\n"
        "  adamw  passed 4 days ago\n"
        "\n"
        "begun\n"
        "  two_sum  2 of 6 points, tried 2 hours ago\n"
        "\n"
        "next  rope  Rope (core, 15 min)\n"
        "      `grade show rope`, write your answer into `exercises/attention/rope.py`,\n"
        "      then `grade rope`\n"
    )


def test_listing(exercises):
    assert click.unstyle(overview.listing(exercises, STANDINGS, 80)) == (
        "attention  0 of 1 passed\n"
        "  rope       core     15 min  -           Rope\n"
        "\n"
        "leetcode  0 of 1 passed\n"
        "  two_sum    core     20 min  2 of 6      Two sum\n"
        "\n"
        "optimizers  1 of 2 passed\n"
        "  adamw      warm-up  40 min  passed      Adamw\n"
        "  schedules  stretch  10 min  -           Schedules\n"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "just now"), (59, "just now"), (60, "1 minute ago"), (7200, "2 hours ago"), (3 * DAY, "3 days ago")],
)
def test_ago(seconds, words):
    assert overview.ago(0.0, seconds) == words


# statements


@pytest.mark.parametrize(
    ("tex", "text"),
    [
        (r"\theta_t = \theta_{t-1} - \eta\, b_t", "θ_t = θ_{t-1} - η b_t"),
        (r"\frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}", "m̂_t / (√(v̂_t) + ε)"),
        (r"Q K^T / \sqrt D", "Q K^T / √D"),
        (r"\frac{x}{\sqrt{\frac{1}{d} \sum_i x_i^2 + \epsilon}}", "x / (√((1 / d) Σ_i x_i^2 + ε))"),
        (r"a \bullet \mathrm{x\_proj}(u)", "a • x_proj(u)"),
        (r"t = 1, 2, \dots", "t = 1, 2, ..."),
        (r"\Lambda \leq \lambda", "Λ ≤ λ"),
        (r"v^{\max}_t", "v^(max)_t"),
        (r"e^{sA}\,\mathrm{Re}\sum x^{2}", "e^(sA) Re Σ x^2"),
        (r"\log\frac{k+1}{k}", "log ((k+1) / k)"),
        (r"I - \tfrac\Delta2 A", "I - (Δ / 2) A"),
        (r"Q \in \mathbb R^{T_q \times D}", "Q ∈ R^(T_q × D)"),
        (r"p_{ij} = \frac{e^{S_{ij}}}{\sum_l e^{S_{il}}}", "p_ij = e^(S_ij) / (Σ_l e^(S_il))"),
        (r"A \mathbf 1 + K^T \mathbf 1", "A 1 + K^T 1"),
        (r"\frac1T \sum_t p_{ti}", "(1 / T) Σ_t p_ti"),
        (r"\unknown x", r"\unknown x"),
    ],
)
def test_formulas_become_symbols(tex, text):
    assert formula(tex) == text


def test_formulas_side_by_side_stand_one_below_the_other():
    text = for_terminal("$$i = a_i \\quad\nf = a_f \\qquad g_t = 3 \\quad (t \\in S)$$\n")
    assert "i = a_i\nf = a_f\ng_t = 3   (t ∈ S)\n" in text


def test_long_lines_of_examples_are_not_broken():
    example = f">>> {' + '.join(['number'] * 12)}"
    console = Console(width=40)
    with console.capture() as capture:
        console.print(Statement(f"Words that go on for longer than the width of forty.\n\n{example}\n12\n"), crop=False)
    assert f"\n{example}\n12\n" in capture.get()
    assert max(map(len, capture.get().replace(example, "").splitlines())) <= 40


def test_examples_and_formulas_survive_markdown():
    text = for_terminal("# T\n\nGiven $\\mu$ at $5:\n\n$$a = b$$\n\n>>> f(1)\n2\n>>> f(2)\n4\n\nThen\n\n>>> f(3)\n6\n")
    assert "Given `μ` at $5:" in text
    assert "```text\na = b\n```" in text
    assert "```python\n>>> f(1)\n2\n>>> f(2)\n4\n```\n\nThen\n\n```python\n>>> f(3)\n6\n```" in text
