"""Any words on the command line of what only reads: a message and an exit code, never 3."""

from __future__ import annotations

import os
import subprocess
import sys

import fake_kit
import pytest
from click.testing import CliRunner
from effort import effort
from hypothesis import example, given
from hypothesis import strategies as st

from grader import catalog, workspace
from grader.catalog import PACKAGE
from grader.cli import cli
from grader.verdict import Status


@pytest.fixture
def place(tmp_path, monkeypatch):
    fake_kit.use(tmp_path / "kit", monkeypatch)
    fake_kit.use_engine(monkeypatch)
    made = workspace.init(tmp_path / "ws").workspace
    monkeypatch.chdir(made.root)
    yield made
    catalog.exercises.cache_clear()


COMMANDS = ["list", "show", "hint", "history", "next", "solution", "grade", "-h", "--version", "list", "show"]
PLACES = ["", ".", "..", "/", "//", "./", "~", "exercises", "exercises/optimizers/adamw.py", "exercises/optimizers/", "leetcode", ".grade", ".py",
          "a" * 300, "a" * 300 + ".py", "x/" * 3000, "/dev/null", "/proc/self/mem", "adamw.ipynb", "adamw.py.py"]  # fmt: skip
WORDS = st.one_of(
    st.sampled_from([*COMMANDS, *PLACES, "adamw", "optimizers", "all", "two_sum", "ADAMW", "optimizers/adamw"]),
    st.sampled_from(
        [
            "--json",
            "-n",
            "--limit",
            "--all",
            "--anyway",
            "--diff",
            "--file",
            "--part",
            "--seed",
            "--device",
            "-v",
            "--",
            "-",
            "--repro",
        ]
    ),
    st.sampled_from(["0", "1", "-1", "9" * 30, "9" * 5000, "1e3", "0x1", "nan", "random", "1_0", "٣", "cpu", "double"]),
    st.text(max_size=8).map(lambda text: text.replace("\0", "")),
    st.binary(max_size=6).map(lambda data: os.fsdecode(data.replace(b"\0", b""))),  # as the shell may hand over
)


@effort(400)
@given(st.sampled_from(COMMANDS), st.lists(WORDS, max_size=4))
@example("show", [""])
@example("show", ["."])
@example("show", ["/"])
@example("show", ["a" * 300 + ".py"])
@example("show", ["x/" * 3000])
@example("grade", ["adamw", "--file", "a" * 5000])
@example("grade", ["--file", "."])
@example("history", ["-n", "9" * 30])
@example("hint", ["adamw", "9" * 5000])
def test_any_words(place, command, words):
    done = CliRunner().invoke(cli, [command, *words])
    assert done.exit_code in (0, 1, 2), done.stderr
    assert "Traceback" not in done.output
    if done.exit_code == 2:
        assert done.stderr.startswith("error: ")


@effort(60)
@given(st.lists(WORDS, min_size=1, max_size=3))
def test_any_words_at_all_in_place_of_a_slug(place, words):
    """The first is no command, so all are names of exercises; nothing is graded, as the engine is not the real one."""
    done = CliRunner().invoke(cli, ["grade", *words])
    assert done.exit_code in (0, 1, 2), done.stderr


@effort(40)
@given(
    st.dictionaries(
        st.sampled_from(["COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TERM", "LANG"]), st.text(max_size=5)
    )
)
def test_any_environment(place, environment):
    clean = {name: value.replace("\0", "").encode("ascii", "replace").decode() for name, value in environment.items()}
    for arguments in (["list"], ["show", "adamw"], ["history"]):
        assert CliRunner(env=clean).invoke(cli, arguments).exit_code == 0


def test_statuses_do_not_matter_to_names(place):
    place.file(catalog.find("adamw")).write_text(f"# {Status.PASSED}\n")
    assert CliRunner().invoke(cli, ["exercises/optimizers/adamw.py"]).exit_code == 0


@pytest.mark.parametrize("words", [[""], ["."], ["a" * 300 + ".py"], ["\udcff\udcfe.py"], ["show", "\udcff"]], ids=repr)
def test_in_a_process_of_its_own(words, tmp_path):
    """What CliRunner cannot show: the real streams and the real arguments."""
    code = "from grader.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: ")
    assert b"Traceback" not in done.stderr
