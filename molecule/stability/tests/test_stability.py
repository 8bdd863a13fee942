# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first run planned for idle GPUs; a run while Ollama holds models on them must come to the same plan."""

from __future__ import annotations

import json
from typing import Any

from conftest import run_playbook

API = "http://127.0.0.1:11434/api"
LOAD = f"""
import json, urllib.request
def call(path, data=None):
    body = None if data is None else json.dumps(data).encode()
    with urllib.request.urlopen("{API}/" + path, body) as reply:
        return json.load(reply)
for model in call("tags")["models"]:
    try:
        call("generate", dict(model=model["name"], keep_alive=-1))
    except urllib.error.HTTPError:  # an embedding model
        call("embed", dict(model=model["name"], input="", keep_alive=-1))
print(json.dumps(call("ps")["models"]))
"""


def load_all_models(service: Any) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads(service.sh(f"python3 - <<'END'\n{LOAD}\nEND"))
    return loaded


def test_a_run_with_models_loaded_changes_nothing(services: list[Any]) -> None:
    before = [(service.drop_in_text, service.main_pid) for service in services]
    for service in services:
        assert load_all_models(service)

    run = run_playbook("site")

    assert run.returncode == 0, run
    assert run.changed == {service.name: 0 for service in services}, run
    assert [(service.drop_in_text, service.main_pid) for service in services] == before


def test_as_many_models_as_planned_are_loaded_at_once_wholly_on_the_gpu(service: Any) -> None:
    loaded = load_all_models(service)
    installed = int(service.sh("find /usr/share/ollama/.ollama/models/manifests -type f | wc -l"))
    assert len(loaded) == min(installed, int(service.process_environment["OLLAMA_MAX_LOADED_MODELS"]))
    if service.name != "no-card":
        assert [model["name"] for model in loaded if model["size_vram"] < model["size"]] == []
