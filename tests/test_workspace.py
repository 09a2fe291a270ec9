"""The workspace: found from below, filled without overwriting, reset without losing anything."""

from __future__ import annotations

import os

import fake_kit
import pytest

from grader import catalog, workspace
from grader.errors import UsageError
from grader.workspace import Workspace


@pytest.fixture(autouse=True)
def kit(tmp_path_factory, monkeypatch):
    root = tmp_path_factory.mktemp("kit")
    fake_kit.use(root, monkeypatch)
    yield root
    catalog.exercises.cache_clear()


@pytest.fixture
def made(tmp_path):
    return workspace.init(tmp_path / "ws").workspace


def test_find_goes_upward(made):
    deep = made.root / "exercises" / "optimizers"
    assert workspace.find(deep) == made
    assert workspace.find(made.root) == made


def test_a_clone_is_a_workspace_before_anything_was_graded(tmp_path):
    (tmp_path / "exercises").mkdir()
    (tmp_path / "leetcode").mkdir()
    assert workspace.find(tmp_path / "leetcode").root == tmp_path


def test_exercises_alone_are_no_workspace(tmp_path):
    (tmp_path / "exercises").mkdir()
    with pytest.raises(UsageError) as error:
        workspace.find(tmp_path / "exercises")
    assert str(error.value).startswith(f"no workspace in `{tmp_path / 'exercises'}` or above it")
    assert "hint: `grade init DIR`" in str(error.value)


def test_init_writes_every_stub(tmp_path):
    done = workspace.init(tmp_path / "new" / "ws")
    names = [str(path.relative_to(done.workspace.root)) for path in done.written]
    assert names == [
        "exercises/attention/rope.py",
        "leetcode/two_sum.py",
        "exercises/optimizers/adamw.py",
        "exercises/optimizers/schedules.py",
    ]
    assert not done.kept
    text = done.written[2].read_text()
    assert fake_kit.STUB in text
    assert "BEGIN SOLUTION" not in text
    assert (done.workspace.state / ".gitignore").read_text() == "*\n"


def test_init_overwrites_nothing(made):
    mine = made.file(catalog.find("adamw"))
    mine.write_text("mine\n")
    made.file(catalog.find("rope")).unlink()
    done = workspace.init(made.root)
    assert [path.name for path in done.written] == ["rope.py"]
    assert mine in done.kept
    assert mine.read_text() == "mine\n"


def test_init_hands_out_stubs_although_the_clone_holds_answers(kit, tmp_path):
    """In a clone the committed stub is the learner's own file."""
    exercise = catalog.find("adamw")
    exercise.stub.parent.mkdir(parents=True)
    exercise.stub.write_text("my answer\n")
    assert fake_kit.STUB in workspace.init(tmp_path / "ws").workspace.file(exercise).read_text()


def test_init_onto_a_file_is_a_usage_error(tmp_path):
    (tmp_path / "ws").write_text("")
    with pytest.raises(UsageError, match=r"`.*ws` cannot be written: File exists"):
        workspace.init(tmp_path / "ws")


def test_reset_keeps_every_old_file(made):
    exercise = catalog.find("adamw")
    path = made.file(exercise)
    backups = []
    for text in ("first\n", "second\n", "third\n"):
        path.write_text(text)
        done = workspace.reset(made, exercise)
        assert done.changed
        assert fake_kit.STUB in path.read_text()
        backups.append(done.backup)
    assert [backup.name for backup in backups] == ["adamw.py.bak", "adamw.py.bak1", "adamw.py.bak2"]
    assert [backup.read_text() for backup in backups] == ["first\n", "second\n", "third\n"]


def test_reset_of_a_stub_changes_nothing(made):
    done = workspace.reset(made, catalog.find("adamw"))
    assert not done.changed
    assert done.backup is None
    assert not done.path.with_name("adamw.py.bak").exists()


def test_reset_writes_a_stub_that_is_missing(made):
    exercise = catalog.find("two_sum")
    made.file(exercise).unlink()
    done = workspace.reset(made, exercise)
    assert done.backup is None
    assert made.file(exercise).is_file()


def test_reset_in_a_clone_brings_the_stub_back(kit):
    """The workspace and the kit's own content are one folder there."""
    exercise, clone = catalog.find("adamw"), Workspace(kit)
    clone.file(exercise).parent.mkdir(parents=True)
    clone.file(exercise).write_text("my answer\n")
    done = workspace.reset(clone, exercise)
    assert done.backup.read_text() == "my answer\n"
    assert fake_kit.STUB in done.path.read_text()


def test_reset_keeps_a_dangling_link(made):
    exercise = catalog.find("adamw")
    made.file(exercise).unlink()
    made.file(exercise).symlink_to("nowhere")
    done = workspace.reset(made, exercise)
    assert done.backup.is_symlink()
    assert done.path.is_file()


def test_reset_of_a_folder_is_a_usage_error(made):
    exercise = catalog.find("adamw")
    made.file(exercise).unlink()
    made.file(exercise).mkdir()
    with pytest.raises(UsageError, match="is a folder; move it away first"):
        workspace.reset(made, exercise)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_a_usage_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="cannot be written: Permission denied"):
        workspace.init(tmp_path / "ws")
    tmp_path.chmod(0o700)


def test_paths_are_shown_short(made, monkeypatch):
    monkeypatch.chdir(made.root)
    assert workspace.shown(made.file(catalog.find("two_sum"))) == os.path.join("leetcode", "two_sum.py")
