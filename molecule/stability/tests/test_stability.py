# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first run planned for idle GPUs; a run while Ollama holds models on them must come to the same plan."""

from __future__ import annotations

import json
from typing import Any

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


def test_a_run_with_every_model_loaded_changes_nothing(service: Any) -> None:
    planned, pid = service.drop_in_text, service.main_pid
    assert load_all_models(service)

    run = service.run("site")

    assert run.returncode == 0, run
    assert run.changed == {service.name: 0}, run
    assert (service.drop_in_text, service.main_pid) == (planned, pid)


def test_every_planned_model_is_loaded_at_once_and_lies_on_the_gpu(service: Any) -> None:
    loaded = load_all_models(service)
    if service.name != "no-card":
        assert [model["name"] for model in loaded if model["size_vram"] < model["size"]] == []
    installed = service.sh("find /usr/share/ollama/.ollama/models/manifests -type f | wc -l")
    assert len(loaded) == int(installed)
