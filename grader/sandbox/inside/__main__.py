"""Starts a program of this folder, loaded by its place alone, so that nothing else of the kit can be imported."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys


def load() -> None:
    spec = importlib.util.spec_from_file_location("inside", os.path.join(os.path.dirname(__file__), "__init__.py"))
    assert spec is not None and spec.loader is not None
    sys.modules["inside"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["inside"])


if __name__ == "__main__":
    load()
    importlib.import_module(f"inside.{sys.argv[1]}").main(*sys.argv[2:])
