"""The run-time half of the written rules: what the syntax tree cannot see.

A name reached by getattr, an alias or importlib is replaced by one that raises; an operator
reached through torch.ops, or a C method such as list.sort, is caught when it runs.
"""

from __future__ import annotations

import builtins
import importlib.abc
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from . import forbidden


class RuleBroken(BaseException):
    """Not an Exception: `except Exception` in the learner's code does not swallow it."""


class Guard:
    """Installed once in a child, before the learner's code is loaded."""

    def __init__(self, rules: list[str]) -> None:
        excluded = forbidden.expand(rules)
        self.rules = excluded
        self.broken: list[str] = []  # what was broken, also when the learner's code caught the exception
        self.armed = False
        self.operators = {name: rule for name, rule in excluded.items() if "::" in name}
        self.methods = {name[1:]: rule for name, rule in excluded.items() if name.startswith(".")}
        for name, rule in excluded.items():
            if "::" not in name and not name.startswith("."):
                self._replace(name, rule)
        self._replace_tensor_methods()
        self.profiled = any(hasattr(list, name) for name in self.methods)

    def breach(self, name: str, rule: str) -> RuleBroken:
        self.broken.append(rule)
        return RuleBroken(f"`{name}` is excluded by the rules")

    def _replace(self, name: str, rule: str) -> None:
        parent, _, last = name.rpartition(".")
        if not parent and hasattr(builtins, name):
            setattr(builtins, name, self._stand_in(name, rule, getattr(builtins, name)))
            return
        module = sys.modules.get(parent) if parent else None
        target = getattr(module, last, None)
        if isinstance(target, types.ModuleType) or name in sys.modules or not parent:
            for loaded in [key for key in sys.modules if key == name or key.startswith(name + ".")]:
                del sys.modules[loaded]
            sys.meta_path.insert(0, _Finder(name, rule, self))
            if module is not None:
                setattr(module, last, _Module(name, rule, self))
        elif target is not None:
            setattr(module, last, self._stand_in(name, rule, target))

    def _stand_in(self, name: str, rule: str, real: Any) -> Any:
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            if self.armed:
                raise self.breach(name, rule)
            return real(*args, **kwargs)

        stand_in.__name__ = name.rpartition(".")[2]
        return stand_in

    def _replace_tensor_methods(self) -> None:
        torch = sys.modules.get("torch")
        for name, rule in self.methods.items():
            if torch is not None and hasattr(torch.Tensor, name):
                setattr(torch.Tensor, name, self._stand_in(f"Tensor.{name}", rule, getattr(torch.Tensor, name)))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The learner's code runs inside."""
        before = sys.getprofile()
        self.armed = True
        try:
            if self.profiled:
                sys.setprofile(self._profile)
            with self._operator_mode():
                yield
        finally:
            self.armed = False
            if self.profiled:
                sys.setprofile(before)

    def _profile(self, frame: Any, event: str, argument: Any) -> None:
        if event == "c_call":
            name = getattr(argument, "__name__", "")
            if name in self.methods and isinstance(getattr(argument, "__self__", None), list):
                raise self.breach(f"list.{name}", self.methods[name])

    def _operator_mode(self) -> Any:
        if not self.operators:
            return _Nothing()
        from torch.utils._python_dispatch import TorchDispatchMode

        guard = self
        known: dict[str, tuple[str, str] | None] = {}

        class Operators(TorchDispatchMode):
            @classmethod
            def _should_skip_dynamo(cls) -> bool:
                return False  # or the first operator imports the compiler, over a second

            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                name = func._schema.name
                if name not in known:
                    rule = next((r for pattern, r in guard.operators.items() if fnmatchcase(name, pattern)), None)
                    known[name] = (name, rule) if rule else None
                if found := known[name]:
                    raise guard.breach(*found)
                return func(*args, **(kwargs or {}))

        return Operators()


class _Nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *exc: object) -> None: ...


class _Module(types.ModuleType):
    """What stands in place of an excluded module: touching it breaks the rule."""

    def __init__(self, name: str, rule: str, guard: Guard) -> None:
        super().__init__(name)
        self.__dict__["_breach"] = lambda: guard.breach(name, rule)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise self._breach()


class _Finder(importlib.abc.MetaPathFinder):
    """Importing an excluded module breaks the rule."""

    def __init__(self, name: str, rule: str, guard: Guard) -> None:
        self.name, self.rule, self.guard = name, rule, guard

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if self.guard.armed and (fullname == self.name or fullname.startswith(self.name + ".")):
            raise self.guard.breach(fullname, self.rule)
