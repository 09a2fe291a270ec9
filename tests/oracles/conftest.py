"""The solution that a module of tests is named after, loaded as a learner's file would be: by its path."""

from __future__ import annotations

import importlib.util

import pytest

from grader import catalog


@pytest.fixture(scope="module")
def mine(request):
    """The solution of SLUG, for `test_SLUG.py`."""
    exercise = catalog.find(request.module.__name__.rpartition(".")[2].removeprefix("test_"))
    spec = importlib.util.spec_from_file_location(f"{exercise.slug}_solution", exercise.solution)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
