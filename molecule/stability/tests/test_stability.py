# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first run planned for idle GPUs; a run while Ollama holds models on them must come to the same plan.

The stand-in's models take what they take, by a law of its own: where that is more than was foretold, plans count with it
from the first load on.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import run_playbook

API = "http://127.0.0.1:11434/api"
KEEP = f"""
import json, sys, time, urllib.request
keep_alive = int(sys.argv[1])
def call(path, data=None):
    body = None if data is None else json.dumps(data).encode()
    with urllib.request.urlopen("{API}/" + path, body) as reply:
        return json.load(reply)
for model in call("ps" if keep_alive == 0 else "tags")["models"]:
    try:
        call("generate", dict(model=model["name"], keep_alive=keep_alive))
    except urllib.error.HTTPError:  # an embedding model
        call("embed", dict(model=model["name"], input="", keep_alive=keep_alive))
while keep_alive == 0 and call("ps")["models"]:
    time.sleep(0.1)
print(json.dumps(call("ps")["models"]))
"""


def load_all_models(service: Any) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads(service.sh(f"python3 - -1 <<'END'\n{KEEP}\nEND"))
    return loaded


def unload_all_models(service: Any) -> None:
    assert service.sh(f"timeout 60 python3 - 0 <<'END'\n{KEEP}\nEND").strip() == "[]"


def plans(folder: Path) -> dict[str, Any]:
    """Every host's plan as the report shows it: settings, each model's and each GPU's bytes, limits and reasons."""
    run = run_playbook("plan", gpufleet_report_dir=str(folder))
    assert run.returncode == 0, run
    report = json.loads((folder / "report.json").read_text())
    return {host["name"]: host for host in report["hosts"]}


@pytest.fixture(scope="session")
def seen(services: list[Any]) -> list[Any]:
    """The services, of which a run has seen what their models take."""
    for service in services:
        assert load_all_models(service)
    run = run_playbook("site")
    assert run.returncode == 0, run
    return services


def plan_alone(host: dict[str, Any]) -> dict[str, Any]:
    """Whenever it was looked at, and whatever has happened to its models since."""
    plan = {name: value for name, value in host.items() if name not in ("history", "warnings")}
    timeless: dict[str, Any] = json.loads(re.sub(r"[0-9-]{10}T[0-9:.]+Z", "then", json.dumps(plan)))
    return timeless


def test_a_plan_is_the_same_to_the_byte_whether_models_are_loaded_or_not(seen: list[Any], tmp_path: Path) -> None:
    for service in seen:
        unload_all_models(service)
    idle = plans(tmp_path / "idle")
    for service in seen:
        assert load_all_models(service)
    full = plans(tmp_path / "full")
    assert set(idle) == {service.name for service in seen}
    for name, plan in idle.items():
        assert plan_alone(full[name]) == plan_alone(plan)


def test_a_run_with_models_loaded_changes_nothing(seen: list[Any]) -> None:
    before = [(service.drop_in_text, service.main_pid) for service in seen]
    for service in seen:
        assert load_all_models(service)

    run = run_playbook("site")

    assert run.returncode == 0, run
    assert run.changed == {service.name: 0 for service in seen}, run
    assert [(service.drop_in_text, service.main_pid) for service in seen] == before


def test_as_many_models_as_planned_are_loaded_at_once_wholly_on_the_gpu(service: Any) -> None:
    loaded = load_all_models(service)
    installed = int(service.sh("find /usr/share/ollama/.ollama/models/manifests -type f | wc -l"))
    assert len(loaded) == min(installed, int(service.process_environment["OLLAMA_MAX_LOADED_MODELS"]))
    if service.name != "no-card":
        assert [model["name"] for model in loaded if model["size_vram"] < model["size"]] == []
