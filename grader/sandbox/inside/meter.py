"""Counts what a call costs, exactly and alike on any machine.

With torch: operators dispatched, FLOPs of matrix products and convolutions, bytes alive at
the peak, the largest tensor, bytes saved for backward, bytes alive at the end. Without: lines of the learner's file
executed, functions entered, bytes at the peak, and what counting lists saw.
"""

from __future__ import annotations

import sys
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

from .counting import Tally


class TorchMeter:
    """A re-enterable context manager; what runs inside is added up."""

    def __init__(self) -> None:
        self.counts = _Counts()
        self.mode = _dispatch_mode(self.counts)

    def __enter__(self) -> TorchMeter:
        import torch

        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.counts.save, _same)
        self.mode.__enter__()
        self.hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.hooks.__exit__(*error)
        self.mode.__exit__(*error)
        self.counts.held = self.counts.live

    def cost(self) -> dict[str, Any]:
        counts = self.counts
        return {
            "operators": sum(counts.by_name.values()),
            "flops": counts.flops,
            "peak_bytes": counts.peak,
            "largest_bytes": counts.largest,
            "saved_bytes": counts.saved_bytes,
            "held_bytes": counts.held,
            "by_name": counts.by_name,
        }


def _same(tensor: Any) -> Any:
    return tensor


def _when_freed(storage: Any, do: Callable[[int], None], key: int) -> None:
    weakref.finalize(storage, do, key).atexit = False


class _Counts:
    def __init__(self) -> None:
        self.by_name: dict[str, int] = {}
        self.alive: dict[int, int] = {}  # storage -> bytes; storages from outside count as nothing
        self.saved: set[int] = set()  # storages that still exist
        self.live = self.peak = self.largest = self.flops = self.saved_bytes = self.held = 0

    def save(self, tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if (key := storage._cdata) not in self.saved:
            self.saved_bytes += storage.nbytes()
            self.saved.add(key)
            _when_freed(storage, self.saved.discard, key)  # another may take its address
        return tensor

    def outside(self, storage: Any) -> None:
        self._track(storage, 0)

    def made(self, storage: Any) -> None:
        size = storage.nbytes()
        if self._track(storage, size):
            self.largest = max(self.largest, size)
            self.live += size
            self.peak = max(self.peak, self.live)

    def _track(self, storage: Any, size: int) -> bool:
        key = storage._cdata
        if key in self.alive:
            return False
        self.alive[key] = size
        _when_freed(storage, self._freed, key)
        return True

    def _freed(self, key: int) -> None:
        self.live -= self.alive.pop(key, 0)


def _dispatch_mode(counts: _Counts) -> Any:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    # The formulas alone: entering FlopCounterMode itself imports the compiler, over a second.
    from torch.utils.flop_counter import flop_registry

    def storages(tree: Any) -> Any:
        for leaf in tree_leaves(tree):
            if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided:
                yield leaf.untyped_storage()

    class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # or the first operator imports the compiler, over a second

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func._schema.name
            counts.by_name[name] = counts.by_name.get(name, 0) + 1
            for storage in storages((args, kwargs)):
                counts.outside(storage)
            result = func(*args, **(kwargs or {}))
            if (formula := flop_registry.get(func._overloadpacket)) is not None:
                counts.flops += int(formula(*args, **(kwargs or {}), out_val=result))
            for storage in storages(result):
                counts.made(storage)
            return result

    return Mode()  # type: ignore[no-untyped-call]


class PythonMeter:
    """Lines and calls of one file, through the interpreter's own tracing; memory through tracemalloc."""

    def __init__(self, filename: str, tally: Tally) -> None:
        self.filename = filename
        self.tally = tally
        self.lines = self.calls = self.peak = 0

    def __enter__(self) -> PythonMeter:
        self.before = sys.gettrace()
        tracemalloc.start()
        self.base = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        self.tally.counting = True
        sys.settrace(self._enter)
        return self

    def __exit__(self, *error: Any) -> None:
        sys.settrace(self.before)
        self.tally.counting = False
        self.peak = max(self.peak, tracemalloc.get_traced_memory()[1] - self.base)
        tracemalloc.stop()

    def _enter(self, frame: Any, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != self.filename:
            return None
        self.calls += 1
        return self._line

    def _line(self, frame: Any, event: str, argument: Any) -> Any:
        if event == "line":
            self.lines += 1
        return self._line

    def cost(self) -> dict[str, Any]:
        counts = {"lines": self.lines, "calls": self.calls, "peak_bytes": max(0, self.peak)}
        return counts | (self.tally.counts() if self.tally.used else {})
