"""The isolation tiers, strongest first: what each is made of, and what it promises."""

from __future__ import annotations

from enum import StrEnum


class Tier(StrEnum):
    SANDBOX = "sandbox"
    RESTRICTED = "restricted"
    PROCESS = "process"

    @property
    def layers(self) -> frozenset[str]:
        """What a child of this tier applies to itself."""
        return LAYERS[self]

    @property
    def promise(self) -> str:
        return PROMISES[self]


LAYERS = {
    Tier.SANDBOX: frozenset({"namespaces", "landlock", "seccomp", "limits"}),
    Tier.RESTRICTED: frozenset({"landlock", "seccomp", "limits"}),
    Tier.PROCESS: frozenset({"limits"}),
}
PROMISES = {
    Tier.SANDBOX: "submissions run without network, in namespaces of their own",
    Tier.RESTRICTED: "submissions run with limits and filters, but without namespaces",
    Tier.PROCESS: (
        "submissions run in a process of their own: fine for your own code, no protection from other people's"
    ),
}
