"""A copy of the kit with no exercise but a scaffold, for the tests of the author's side."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

from grader.catalog import PACKAGE

VARIANTS = ("return pow(x, 2)", "return sum([x * x])", "y = x\n    return y * x")


class Kit:
    """Where the files of its exercise `maths/square` lie, and its command line."""

    def __init__(self, folder):
        self.folder = folder
        self.solution = folder / "solutions" / "maths" / "square.py"
        self.stub = folder / "exercises" / "maths" / "square.py"
        home = folder / "grader" / "suites" / "maths" / "square"
        self.card, self.suite, self.mistakes = (home / name for name in ("card.toml", "suite.py", "mistakes.diff"))
        self.equivalent, self.accepted = home / "equivalent.diff", home / "accepted"
        self.measured = folder / "tests" / "measured" / "maths" / "square.json"

    @classmethod
    def scaffold(cls, folder):
        """A new one, the accepted styles filled in and nothing else."""
        skip = shutil.ignore_patterns("suites", "__pycache__", "content")
        shutil.copytree(PACKAGE, folder / "grader", ignore=skip)
        (folder / "grader" / "suites").mkdir()
        (folder / "solutions").mkdir()
        kit = cls(folder)
        assert kit.dev("new", "maths/square").returncode == 0
        assert kit.dev("sync").returncode == 0
        for number, body in enumerate(VARIANTS):
            (kit.accepted / f"style_{number}.py").write_text(f"def square(x):\n    {body}\n")
        return kit

    def copy(self, folder):
        shutil.copytree(self.folder, folder)
        return Kit(folder)

    def git(self, *words):
        """Run git, and return what it says."""
        who = ["-c", "user.name=author", "-c", "user.email=author@example.org", "-c", "init.defaultBranch=main"]
        said = subprocess.run(["git", *who, *words], cwd=self.folder, capture_output=True, text=True)
        assert said.returncode == 0, said.stdout + said.stderr
        return said.stdout

    def commit(self):
        """Commit everything, in a repository that is made where there is none."""
        if not (self.folder / ".git").exists():
            self.git("init", "--quiet")
            (self.folder / ".gitignore").write_text("__pycache__/\n.grade/\n")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "what is there")

    def dev(self, *words):
        code = "from grader.cli import main; main()"
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        command = [sys.executable, "-c", code, "dev", *words]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)

    def problems(self):
        said = self.dev("check", "--json", "--jobs", "1")
        found = [problem["what"] for problem in json.loads(said.stdout)["problems"]]
        assert said.returncode == (1 if found else 0), said.stderr
        return found

    def edit(self, file, old, new):
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
