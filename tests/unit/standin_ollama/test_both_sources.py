# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection reads the same of the recorded store from the disk and by the API, cloud models among it."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._inventory import Inventory, gather

from ..conftest import CAPTURES, Start
from .recorded_store import WEIGHTS, lay_out


def test_disk_and_api_tell_the_same(executable: Path, tmp_path: Path) -> None:
    store = tmp_path / "models"
    lay_out(store, CAPTURES)
    start = Start(executable, store, tmp_path / "server")
    try:
        server = start()
        for name, source, more in (
            ("gpt-oss:120b-cloud", "gpt-oss:120b", {"remote_host": "https://ollama.com:443"}),
            ("remote-oss", "gpt-oss:120b", {"remote_host": "https://ollama.com:443"}),
            ("tuned", "tiny-llama", {"system": "Be brief.", "parameters": {"num_gpu": 0, "stop": ["a", "b"]}}),
        ):
            body = {"model": name, "from": source, **more}
            assert server.ask("POST", "/api/create", body).lines()[-1] == {"status": "success"}
        api = Api(f"http://127.0.0.1:{server.port}")
        disk, asked = (gather(str(store), api, source, []) for source in ("disk", "api"))
    finally:
        start.stop()
    assert told(disk) == told(asked)
    assert len(disk.models) == len(WEIGHTS) + 1
    assert (disk.damaged, disk.problems, asked.damaged, asked.problems) == ([], [], [], [])
    assert set(disk.unplannable) == {"gpt-oss:120b-cloud", "remote-oss:latest"}


def told(inventory: Inventory) -> tuple[object, object]:
    return {shape.name: shape.to_dict() for shape in inventory.models}, inventory.unplannable
