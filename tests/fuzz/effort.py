"""How hard the fuzzing tries: a little in the gate and always the same, long and anew by `make fuzz`.

Also the mutations of texts and bytes that several of these tests share.
"""

from __future__ import annotations

import os
import random
import re

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
settings.register_profile("gate", derandomize=True, deadline=None, database=None, suppress_health_check=SLOW)
settings.register_profile("long", deadline=None, print_blob=True, suppress_health_check=SLOW)
PROFILE = "long" if os.environ.get("FUZZ") == "long" else "gate"
LONGER = 30  # times as many examples


def effort(examples: int) -> settings:
    """The settings of a test that runs this many examples in the gate."""
    times = LONGER if PROFILE == "long" else 1
    return settings(settings.get_profile(PROFILE), max_examples=examples * times)


WORDS = re.compile(r"\w+|\s+|.", re.DOTALL)
NOISE = [
    "(", ")", "[", "]", "{", "}", ":", ",", ".", "=", "\n", "\n    ", "\t", "\f", "\\", "'", '"""', "#", "@", "*", "-",
    "not ", "lambda: ", "if 1: ", "yield ", "await ", "return ", "async ", "del ", "class C:\n", "import x\n", "f'{", "9" * 5000,
    "é", "\u2028", "\ufeff", "\x00", "\x1b[2J", "\ud800", "(" * 250, "a" + ".b" * 1500, "-" * 1200, "[" * 150, "x" * 70000,
]  # fmt: skip


@st.composite
def mutated_text(draw, texts: list[str]) -> str:
    """One of the texts with lines and tokens deleted, doubled, swapped, or strange ones put between."""
    text = draw(st.sampled_from(texts))
    chosen, times = random.Random(draw(st.integers(0, 1 << 32))), draw(st.integers(1, 4))
    for _ in range(times):
        pieces = text.splitlines(keepends=True) if chosen.random() < 0.3 else WORDS.findall(text)
        if len(pieces) < 2:
            break
        here, there = chosen.randrange(len(pieces)), chosen.randrange(len(pieces))
        match chosen.randrange(5):
            case 0:
                del pieces[here : here + chosen.randrange(1, 5)]
            case 1:
                pieces.insert(here, chosen.choice(NOISE))
            case 2:
                pieces.insert(here, pieces[there])
            case 3:
                pieces[here], pieces[there] = pieces[there], pieces[here]
            case 4:
                pieces[here] = chosen.choice(NOISE)
        text = "".join(pieces)
    return text


def mutated_bytes(data: bytes) -> st.SearchStrategy[bytes]:
    return st.integers(0, 1 << 40).map(lambda seed: damaged(data, seed))


def damaged(data: bytes, seed: int) -> bytes:
    """The data with bytes changed, cut out, doubled or cut off."""
    mutated, chosen = bytearray(data), random.Random(seed)
    for _ in range(chosen.randrange(1, 7)):
        if not mutated:
            break
        here, length = chosen.randrange(len(mutated)), chosen.randrange(1, 9)
        match chosen.randrange(5):
            case 0:
                mutated[here] = chosen.randrange(256)
            case 1:
                mutated[here] ^= 1 << chosen.randrange(8)
            case 2:
                del mutated[here : here + length]
            case 3:
                mutated[here:here] = mutated[here : here + length]
            case 4:
                del mutated[here:]
    return bytes(mutated)
