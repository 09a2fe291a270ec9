"""A failing call as a small script that runs under any debugger. Layer 3."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from grader.remote.calls import Call

TEMPLATE = '''"""Repeats a failing call of {name} on {file}. Set a breakpoint in your code and run this file."""

from __future__ import annotations

import base64
import importlib.util
import json
import random

# The call as the grader made it: a tree of values, and the bytes of its arrays.
ARGUMENTS = json.loads({arguments!r})
BLOB = base64.b64decode({blob!r})
SEED = {seed}


def value(tree):
    if isinstance(tree, list):
        return [value(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, inner),) = tree.items()
    if kind == "tensor":
        import torch

        dtype, shape, offset, length, layout = inner
        stride = layout.get("stride", [1] * len(shape))
        stored = [1 if step == 0 and size > 1 else size for size, step in zip(shape, stride)]
        data = bytearray(BLOB[offset : offset + length])
        if not data:
            return torch.empty(shape, dtype=getattr(torch, dtype))
        tensor = torch.frombuffer(data, dtype=getattr(torch, dtype)).reshape(stored).expand(shape)
        return tensor.requires_grad_(True) if layout.get("grad") else tensor
    if kind == "array":
        import numpy

        dtype, shape, offset, length = inner
        return numpy.frombuffer(BLOB[offset : offset + length], dtype=dtype).reshape(shape)
    if kind == "dict":
        return {{value(key): value(item) for key, item in inner}}
    if kind == "bytes":
        return base64.b64decode(inner)
    if kind == "complex":
        return complex(*inner)
    if kind == "dtype":
        import torch

        return getattr(torch, inner)
    return {{"tuple": tuple, "set": set, "frozenset": frozenset}}[kind](value(inner))


spec = importlib.util.spec_from_file_location("submission", {path!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
args, kwargs = value(ARGUMENTS[0]), value(ARGUMENTS[1])
random.seed(SEED)
{seeding}{probe}
print({target}(*args, **kwargs))
'''


def script(path: Path, call: Call) -> str:
    """The script's text. `path` is the learner's file."""
    probe = ""
    target = f"module.{call.name}"
    if call.probe is not None:
        imports = "\n".join(f"import {module} as {alias}" for alias, module in call.probe["modules"].items())
        meter = "import contextlib\nmeter = contextlib.nullcontext()\n" if call.probe["meter"] else ""
        probe = f"\n{imports}\n{meter}\n\ndef probe(function):\n    return function\n\n\n{call.probe['source']}\n"
        target = f"(lambda *a, **k: {call.name}(module, {'meter, ' if call.probe['meter'] else ''}*a, **k))"
    uses_torch = '"tensor"' in json.dumps(call.args) + json.dumps(call.kwargs) or "torch" in str(call.probe)
    return TEMPLATE.format(
        name=call.name,
        file=path.name,
        arguments=json.dumps([call.args, call.kwargs]),
        blob=base64.b64encode(call.blob).decode(),
        seed=call.seed,
        path=str(path.resolve()),
        seeding="import torch\n\ntorch.manual_seed(SEED)\n" if uses_torch else "",
        probe=probe,
        target=target,
    )
