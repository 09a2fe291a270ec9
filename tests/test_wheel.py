"""The wheel carries everything: unpacked beside nothing of the clone, it writes a workspace and grades."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile

import pytest

from grader import source
from grader.catalog import content, find

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds the unpacked wheel alone."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(build, cwd=content(), check=True, capture_output=True)
    (wheel,) = (folder / "dist").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder


def grade(installed, *words, cwd):
    code = f"import sys; sys.path.insert(0, {str(installed / 'site')!r}); from grader.cli import main; main()"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *words], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_a_workspace_from_the_wheel(installed, tmp_path):
    said = grade(installed, "init", "work", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    workspace = tmp_path / "work"
    exercise = find("maximum_gap")
    stub = workspace / exercise.stub_path
    assert stub.read_text() == exercise.stub_text
    not_started = json.loads(grade(installed, "maximum_gap", "--json", cwd=workspace).stdout)
    assert not_started["status"] == "not_started"
    stub.write_text(exercise.text)
    passed = grade(installed, "maximum_gap", "--json", "--no-performance", cwd=workspace)
    assert (passed.returncode, json.loads(passed.stdout)["status"]) == (0, "passed")
    style = grade(installed, "solution", "maximum_gap", "--anyway", "--style", "radix", cwd=workspace).stdout
    assert style.startswith(source.answer(exercise.styles["radix"].read_text())[:200])


def test_the_wheel_holds_no_more_than_it_needs(installed):
    (wheel,) = (installed / "dist").iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert "grader" in tops and len(tops) == 2  # and its dist-info
    assert not [name for name in names if "/tests/" in name or "__pycache__" in name or ".grade/" in name]
