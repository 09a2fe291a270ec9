"""The run-time half of the written rules: what the syntax tree cannot see.

A name reached by getattr, an alias or importlib is replaced by one that raises; an operator
reached through torch.ops, or a C method such as list.sort, is caught when it runs.
"""

from __future__ import annotations

import builtins
import importlib
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
    """Installed in a child before the learner's code is loaded, into a module of its own.

    Only what the learner's own code reaches counts: the standard library may sort, and torch may
    import its optimizers, as they please.
    """

    def __init__(self, rules: list[str], filename: str, module: types.ModuleType) -> None:
        self.excluded = forbidden.expand(rules)
        self.filename = filename
        self.broken: list[str] = []  # what was broken, also when the learner's code caught the exception
        self.armed = False
        self.operators = {name: rule for name, rule in self.excluded.items() if "::" in name}
        self.methods = {name[1:]: rule for name, rule in self.excluded.items() if name.startswith(".")}
        self.builtins = {name: rule for name, rule in self.excluded.items() if hasattr(builtins, name)}
        self.real = {id(getattr(builtins, name)): name for name in self.builtins}
        if not self.excluded:
            return
        own = vars(builtins) | {name: self._stand_in(name, rule) for name, rule in self.builtins.items()}
        module.__dict__["__builtins__"] = own | {"__import__": self._importing(builtins.__import__)}
        importlib.import_module = self._importing(importlib.import_module)
        for name, rule in self.excluded.items():
            self._replace(name, rule)
        self._replace_tensor_methods()
        self.profiled = bool(self.builtins) or any(hasattr(list, name) for name in self.methods)

    def breach(self, name: str, rule: str) -> RuleBroken:
        self.broken.append(rule)
        return RuleBroken(f"`{name}` is excluded by the rules")

    def theirs(self, depth: int) -> bool:
        """Whether the frame that many calls up runs the learner's code, or code that it made from text."""
        return self.armed and self._own(sys._getframe(depth + 1).f_code.co_filename)

    def _own(self, filename: str) -> bool:
        return filename == self.filename or (
            filename.startswith("<") and not filename.startswith(("<frozen", "<probe"))
        )

    def _importing(self, real: Any) -> Any:
        """An import function that refuses excluded modules, and names of excluded modules."""

        def importing(name: str, *args: Any, **kwargs: Any) -> Any:
            if self.theirs(1):
                names = args[2] if len(args) > 2 and args[2] else ()
                for full in (name, *(f"{name}.{item}" for item in names)):
                    if rule := self._rule(full):
                        raise self.breach(full, rule)
            return real(name, *args, **kwargs)

        return importing

    def _rule(self, name: str) -> str | None:
        parts = name.split(".")
        found = (self.excluded.get(".".join(parts[:end])) for end in range(1, len(parts) + 1))
        return next((rule for rule in found if rule), None)

    def _replace(self, name: str, rule: str) -> None:
        """Put something that raises in the place of a module's attribute."""
        parent, _, last = name.rpartition(".")
        module = sys.modules.get(parent) if parent and "::" not in name else None
        target = getattr(module, last, None)
        if isinstance(target, types.ModuleType):
            setattr(module, last, _Module(name, rule, self, target))
        elif target is not None:
            setattr(module, last, self._stand_in(name, rule, target))

    def _stand_in(self, name: str, rule: str, real: Any = None) -> Any:
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            if self.armed or real is None:
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
        if not self.excluded:
            yield
            return
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
        """Sees every call of a C function from the learner's code, however it was reached."""
        if event != "c_call" or not self._own(frame.f_code.co_filename):
            return
        if (name := self.real.get(id(argument))) is not None:
            raise self.breach(name, self.builtins[name])
        name = getattr(argument, "__name__", "")
        if name in self.methods and isinstance(getattr(argument, "__self__", None), list):
            raise self.breach(f"list.{name}", self.methods[name])

    def _operator_mode(self) -> Any:
        if not self.operators:
            return _Nothing()
        from torch.utils._python_dispatch import TorchDispatchMode

        guard = self
        known: dict[str, tuple[str, str] | None] = {}

        class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
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

        return Operators()  # type: ignore[no-untyped-call]


class _Nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *exc: object) -> None: ...


class _Module(types.ModuleType):
    """What stands in place of an excluded module: the learner's code breaks the rule by touching it."""

    def __init__(self, name: str, rule: str, guard: Guard, real: types.ModuleType) -> None:
        super().__init__(name)
        self.__dict__.update(_breach=lambda: guard.breach(name, rule), _guard=guard, _real=real)

    def __getattr__(self, attribute: str) -> Any:
        if self._guard.theirs(1):
            raise self._breach()
        return getattr(self._real, attribute)
