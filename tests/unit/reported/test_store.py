# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model store as several reports show it: what is planned, what is left out and why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._inventory import Inventory, gather
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import WantedModel
from ansible_collections.gpufleet.ollama.tests.model_store.store import add_model
from ansible_collections.gpufleet.ollama.tests.unit.data import header

GIB = 1 << 30
LIBRARY = Path("manifests/registry.ollama.ai/library")
NOWHERE = "sha256:" + "0" * 64


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """What ollama issues 7393, 13885, 10435, 9354, 9756, 5869 and 9033 show, in one folder."""
    whole = add_model(tmp_path, "llama3.2:3b", header("llama3.2:3b"))
    text = whole.read_text()
    library = tmp_path / LIBRARY
    for folder in ("phi3", "gone", "cloudy", "weights"):
        (library / folder).mkdir(parents=True)
    (library / "phi3/latest").write_text("")
    manifest = json.loads(text)
    manifest["layers"] = [{**layer, "digest": NOWHERE} for layer in manifest["layers"]]
    (library / "gone/latest").write_text(json.dumps(manifest))
    remote = tmp_path / "blobs" / ("sha256-" + "1" * 64)
    remote.write_text(json.dumps({"remote_host": "https://ollama.com:443"}))
    (library / "cloudy/latest").write_text(
        json.dumps({"layers": None, "config": {"digest": f"sha256:{'1' * 64}", "size": 1}})
    )
    tensors = tmp_path / "blobs" / ("sha256-" + "2" * 64)
    tensors.write_text(json.dumps({"model_format": "safetensors"}))
    (library / "weights/latest").write_text(
        json.dumps({"layers": [], "config": {"digest": f"sha256:{'2' * 64}", "size": 1}})
    )
    for place in ("registry.ollama.ai/_/mymodel/latest", "localhost:5000/team/chat/latest"):
        (tmp_path / "manifests" / place).parent.mkdir(parents=True)
        (tmp_path / "manifests" / place).write_text(text)
    for name in (".DS_Store", "._3b"):
        (library / "llama3.2" / name).write_text("x")
    (tmp_path / "manifests/.DS_Store").write_text("x")
    shutil.copy(whole, library / "llama3.2/3b.bak")
    shutil.copy(whole, library / "llama3.2/3b (1)")
    return tmp_path


@pytest.fixture
def inventory(store: Path) -> Inventory:
    return gather(str(store), Api("http://127.0.0.1:9", 1), "disk", ())


def test_whole_models_are_read(inventory: Inventory) -> None:
    names = ["_/mymodel:latest", "llama3.2:3b", "llama3.2:3b.bak", "localhost:5000/team/chat:latest"]
    assert [model.name for model in inventory.models] == names


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "phi3:latest",
            (
                "model phi3:latest: ",
                "library/phi3/latest is empty",
                "pull phi3:latest again, or remove it with 'ollama rm phi3:latest'",
            ),
        ),
        (
            "gone:latest",
            ("model gone:latest: ", f"blobs/sha256-{'0' * 64} cannot be read", "pull gone:latest again"),
        ),
        ("cloudy:latest", ("it runs at https://ollama.com:443 and takes no memory here",)),
        ("weights:latest", ("it is a safetensors model", "remove it with 'ollama rm'")),
    ],
)
def test_others_are_left_out_with_model_file_and_remedy(
    inventory: Inventory, name: str, words: tuple[str, ...]
) -> None:
    assert all(word in inventory.unplannable[name] for word in words)


def test_a_name_that_ollama_refuses_is_no_model_and_is_told(inventory: Inventory) -> None:
    assert len(inventory.unplannable) == 4
    (sentence,) = inventory.unseen
    assert "library/llama3.2/3b (1)" in sentence
    assert "remove the file, or give it a name" in sentence


def test_a_plan_warns_once_of_each_and_fails_only_where_one_is_wanted(inventory: Inventory) -> None:
    gpu = {"system_memory_total_bytes": 64 * GIB, "devices": [{"memory_total_bytes": 24 * GIB}]}
    arguments = {
        "gpu": gpu,
        "models": [model.to_dict() for model in inventory.models],
        "unplannable": inventory.unplannable,
        "version": "0.33.0",
    }
    plan = plan_host(wanted=[WantedModel("llama3.2:3b")], **arguments)
    for name in inventory.unplannable:
        assert sum(warning.startswith(f"{name} is left out of the plan: ") for warning in plan.warnings) == 1
    with pytest.raises(ValueError, match=r"model 'phi3' is wanted but cannot be planned: .* is empty"):
        plan_host(wanted=[WantedModel("phi3")], **arguments)
