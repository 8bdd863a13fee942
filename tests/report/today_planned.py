# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the first picture of the README: two models on one card, by Ollama itself and as planned. Needs no browser.

python tests/report/today_planned.py      # writes docs/images/today_planned.svg
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

CHECKOUT = Path(__file__).resolve().parents[2]
PICTURE = CHECKOUT / "docs" / "images" / "today_planned.svg"
MODELS = CHECKOUT / "roles" / "ollama_plan" / "files" / "models.jsonl"
CARD, FIRST, SECOND, REQUESTS = "RTX A6000", "qwen2.5:32b", "llama3.1:8b", 4

WIDTH, HEIGHT, COLUMN, BAR, LETTER = 960, 330, 430, 450, 7.5
COLOURS = {FIRST: "#3b6fb5", SECOND: "#c2762a"}


class Load(NamedTuple):
    """One of the loads today: what was asked for, what it takes, and what was thrown out for it."""

    model: str
    gpu_bytes: int
    thrown_out: str


class Picture(NamedTuple):
    """What is shown. Sizes in bytes, contexts in tokens for each request."""

    card_bytes: int
    today: tuple[Load, ...]
    planned_bytes: dict[str, int]
    context_length: int


def found() -> Picture:
    """What the scheduler and the planner say. Exits where it is not what the picture tells."""
    card = module("gpu._cards").card_of(CARD)
    rows = map(json.loads, MODELS.read_text(encoding="utf-8").splitlines())
    shapes = {row["name"]: row["shape"] for row in rows if row["name"] in (FIRST, SECOND)}
    plan = (
        module("planning._what_if")
        .what_if(cards=[card], models=list(shapes.values()), requests=REQUESTS)
        .plan
    )
    if (
        not plan
        or plan["num_parallel"] != REQUESTS
        or plan["order_matters"]
        or plan["max_loaded_models"] != len(shapes)
    ):
        sys.exit(f"the picture would not be true any more: {plan}")
    today = loads_today(card, shapes)
    if [load.thrown_out for load in today] != ["", FIRST, SECOND]:
        sys.exit(f"the picture would not be true any more: {today}")
    planned = {model["name"]: model["gpus"][0]["total_bytes"] for model in plan["models"]}
    return Picture(card.usable_bytes, today, planned, plan["context_length"])


def loads_today(card: Any, shapes: dict[str, Any]) -> tuple[Load, ...]:
    """What a server without any setting does where one model is asked for, the other, and the first again."""
    inputs = module("planning._inputs").read_inputs(
        gpu={"system_memory_total_bytes": 4 * card.usable_bytes, "devices": [card.as_device()]},
        models=list(shapes.values()),
        wanted=(),
        policy=module("planning._policy").Policy(),
        version=None,
        service=module("planning._service_environment").Service(),
        unplannable={},
    )
    server = module("scheduler._server").start_server(
        str(inputs.rules.version),
        {"OLLAMA_CONTEXT_LENGTH": str(inputs.automatic_context_length)},
        module("planning._judge").judge_for(inputs).simulation.gpus,
        inputs.host.system_memory_available_bytes,
    )
    models = {demand.model.name: demand.model for demand in inputs.demands}
    loads = []
    for name in (FIRST, SECOND, FIRST):
        server, outcome = server.load(models[name])
        loads.append(Load(name, outcome.memory.gpu_bytes, ", ".join(outcome.evicted)))
    return tuple(loads)


def module(name: str) -> Any:
    return importlib.import_module(f"ansible_collections.gpufleet.ollama.plugins.module_utils.{name}")


def svg(shown: Picture) -> str:
    """The picture, with fonts of the reader's machine."""
    left, right = 20, 20 + COLUMN + 40
    parts = [
        _text(left, 34, "Today: Ollama by itself", size=19, weight="bold"),
        _text(right, 34, "Planned", size=19, weight="bold"),
        _text(left, 58, "1 request at once, the others wait in line"),
        _text(right, 58, f"{REQUESTS} requests at once for each model, of {shown.context_length} tokens"),
    ]
    for row, load in enumerate(shown.today):
        top = 84 + 70 * row
        note = f"{load.thrown_out} is thrown out" if load.thrown_out else "it is loaded"
        again = " again" if load.model in [one.model for one in shown.today[:row]] else ""
        parts += [_text(left, top, f"{load.model} is asked for{again}: {note}", size=13)]
        parts += _bar(left, top + 10, shown.card_bytes, [(load.model, load.gpu_bytes)])
    parts += [_text(right, 84, "Both stay loaded, whichever is asked for", size=13)]
    parts += _bar(right, 94, shown.card_bytes, list(shown.planned_bytes.items()))
    facts = (
        f"OLLAMA_NUM_PARALLEL={REQUESTS}",
        "OLLAMA_MAX_LOADED_MODELS=2",
        f"OLLAMA_CONTEXT_LENGTH={shown.context_length}",
        "set by a drop-in, proven in the running process",
    )
    parts += [_text(right, 166 + 22 * row, line, size=13) for row, line in enumerate(facts)]
    caption = (
        f"One NVIDIA {CARD}, {_gib(shown.card_bytes)} GiB usable; GPU memory as foretold for Ollama's engine"
    )
    parts += [_text(left, HEIGHT - 18, caption, size=12, fill="#555")]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{FIRST} and {SECOND} on one {CARD}: today they throw one another out, planned both stay loaded">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#fff" stroke="#ccc"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _bar(left: int, top: int, card_bytes: int, held: Sequence[tuple[str, int]]) -> list[str]:
    parts = [f'<rect x="{left}" y="{top}" width="{BAR}" height="30" fill="#eee" stroke="#bbb"/>']
    start = float(left)
    for name, size in held:
        width = BAR * size / card_bytes
        label = f"{name}  {_gib(size)} GiB"
        fits = len(label) * LETTER < width
        parts += [
            f'<rect x="{start:.1f}" y="{top}" width="{width:.1f}" height="30" fill="{COLOURS[name]}"/>',
            _text(start + 8, top + 20, label, size=12, fill="#fff")
            if fits
            else _text(start, top + 46, label, size=12),
        ]
        start += width
    return parts


def _text(x: float, y: float, text: str, size: int = 14, weight: str = "normal", fill: str = "#222") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-family="system-ui, sans-serif" font-size="{size}" font-weight="{weight}" '
        f'fill="{fill}">{text}</text>'
    )


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f}"


def main() -> Any:
    sys.path.insert(0, str(CHECKOUT / "tests" / "bench"))
    importlib.import_module("_collection")
    PICTURE.write_text(svg(found()), encoding="utf-8")
    print(PICTURE)


if __name__ == "__main__":
    main()
