"""`grade doctor`: what this machine offers, and how to get more."""

from __future__ import annotations

import shutil
from typing import Any

import click

from grader.cli.boundary import versions
from grader.cli.device import gpu
from grader.cli.session import Session, json_option
from grader.render.text import good, paragraph, strong, warn
from grader.sandbox.tier import Tier
from grader.store import StoreUnavailable


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say which isolation, versions, GPU and workspace there are, with a remedy for what is missing."""
    session = Session.anywhere()
    with session.screen.status("looking at this machine") as notify:
        facts = gather(session, notify)
    if as_json:
        session.screen.json(facts)
    else:
        session.screen.result(page(facts, session.screen.width))


def gather(session: Session, notify: Any) -> dict[str, Any]:
    from grader.sandbox.layers import best_tier, probe_layers

    notify("probing the sandbox")
    layers = probe_layers()
    notify("looking for a GPU")
    found = gpu()
    return {
        "tier": best_tier(layers),
        "layers": [
            {"name": name, "available": bool(layer.available), "why": layer.why, "remedy": layer.remedy}
            for name, layer in layers.items()
        ],
        "bubblewrap": shutil.which("bwrap"),
        "gpu": found.name,
        "gpu_why": found.why,
        "versions": versions(),
        "workspace": str(session.workspace.root) if session.workspace else None,
        "progress": _progress(session),
    }


def _progress(session: Session) -> str:
    if session.store is None:
        return "no workspace"
    try:
        attempts = sum(standing.attempts for standing in session.store.standings().values())
    except StoreUnavailable as error:
        return str(error)
    return f"{attempts} attempts in {session.store.path}"


def page(facts: dict[str, Any], width: int) -> str:
    tier = Tier(facts["tier"])
    lines = [strong(f"isolation: {tier}"), paragraph("", tier.promise, width, by=2), ""]
    name_width = max((len(layer["name"]) for layer in facts["layers"]), default=0)
    for layer in facts["layers"]:
        # padded first: the escapes of a colour would count as columns
        mark = good("yes  ") if layer["available"] else warn("no   ")
        why = layer["why"] if not layer["available"] or width > 100 else ""
        lines.append(f"  {layer['name']:<{name_width}}  {mark}".rstrip() + (f" {why}" if why else ""))
        if not layer["available"] and layer["remedy"]:
            lines.append(paragraph("hint: ", layer["remedy"], width, by=name_width + 9))
    lines += ["", *_rows(facts, width)]
    return "\n".join(lines) + "\n"


def _rows(facts: dict[str, Any], width: int) -> list[str]:
    rows = {
        "bubblewrap": facts["bubblewrap"] or "not installed",
        "gpu": facts["gpu"] or f"none: {facts['gpu_why']}",
        "workspace": facts["workspace"] or "none here; `grade init DIR` makes one",
        "progress": facts["progress"],
        **facts["versions"],
    }
    return [paragraph(f"{name:<12}", str(value).replace("\n\n", "; "), width) for name, value in rows.items()]
