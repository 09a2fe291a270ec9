"""What the kit relies on in pytest's inside, one test for each: an upgrade that breaks one of them says so here."""

from __future__ import annotations

import importlib.util
import os

import pytest

from grader.plugin import lean

FILE = """
import pytest

made = []

@pytest.fixture
def fresh():
    made.append(1)
    yield len(made)

class TestCases:
    @pytest.mark.parametrize("x", [1, 2])
    def test_case(self, fresh, x):
        "a title"
        print("printed")
        assert x == 1, "x is not 1"
"""


class Seen:
    """Keeps what it is told."""

    def __init__(self):
        self.phases = []

    def setup(self, item):
        self.phases.append((item.name, "before"))

    def report(self, item, call):
        self.phases.append((item.name, call.when, str(call.excinfo.value) if call.excinfo else ""))


@pytest.fixture
def file(tmp_path):
    """With a name of its own: pytest keeps the module of one that it has seen."""
    return tmp_path / f"{tmp_path.name}.py"


@pytest.fixture
def collected(tmp_path, file):
    file.write_text(FILE)
    plugin = lean.Items()
    plugin.observer = Seen()
    assert lean.collect([file], tmp_path, plugin) == ""
    return plugin


def test_items_are_kept_and_not_run(collected, file):
    assert [item.name for item in collected.items] == ["test_case[1]", "test_case[2]"]
    assert collected.observer.phases == []
    assert collected.items[0].nodeid == f"{file.name}::TestCases::test_case[1]"


def test_an_item_runs_alone_and_again_with_fixtures_of_its_own(collected):
    first, second = collected.items
    for item in (second, first, second):
        lean.run(item)
    phases = ("before", "setup", "call", "teardown")
    told = [(item.name, phase) for item in (second, first, second) for phase in phases]
    assert [phase[:2] for phase in collected.observer.phases] == told
    errors = [phase[2] for phase in collected.observer.phases if phase[1] == "call"]
    assert ["x is not 1" in error for error in errors] == [True, False, True]
    assert first.module.made == [1, 1, 1]


def test_nothing_is_printed(collected, capsys):
    for item in collected.items:
        lean.run(item)
    assert capsys.readouterr().out == "printed\nprinted\n"  # the tests' own words, and none of pytest's


def test_every_plugin_that_is_left_out_exists():
    """A name that pytest no longer knows is left out silently; two of them are of versions before and after."""
    of_one_version = {"nose", "subtests", "terminalprogress", "pytester_assertions"}
    known = {name for name in lean.LEAN if importlib.util.find_spec(f"_pytest.{name}")}
    assert set(lean.LEAN) - known <= of_one_version


def test_only_what_is_needed_is_loaded(tmp_path, file):
    class Names(lean.Items):
        def pytest_configure(self, config):
            self.names = {name for name, plugin in config.pluginmanager.list_name_plugin() if plugin}

    plugin = Names()
    file.write_text("def test(): pass\n")
    assert lean.collect([file], tmp_path, plugin) == ""
    assert {"python", "fixtures", "runner", "skipping"} <= plugin.names
    assert plugin.names.isdisjoint(lean.LEAN)


def test_what_the_environment_says_to_pytest_is_not_heard(tmp_path, file, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    file.write_text("import os\nseen = os.environ.get('PYTEST_ADDOPTS')\ndef test(): pass\n")
    plugin = lean.Items()
    assert lean.collect([file], tmp_path, plugin) == ""
    assert plugin.items[0].module.seen is None
    assert os.environ["PYTEST_ADDOPTS"] == "--no-such-option"


@pytest.mark.parametrize(
    ("text", "said"),
    [("def test(:\n", "SyntaxError"), ("raise ValueError('no')\n", "ValueError: no")],
    ids=["syntax", "import"],
)
def test_a_file_that_cannot_be_collected_says_why(tmp_path, file, text, said):
    file.write_text(text)
    assert said in lean.collect([file], tmp_path, lean.Items())


def test_a_file_without_tests_is_none(tmp_path, file):
    plugin = lean.Items()
    file.write_text("")
    assert (lean.collect([file], tmp_path, plugin), plugin.items) == ("", [])
