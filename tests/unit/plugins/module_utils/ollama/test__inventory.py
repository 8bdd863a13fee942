# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All models of a host, from one source, checked against the other."""

from __future__ import annotations

import json

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _inventory
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._gguf import read_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._inventory import InventoryError, gather
from store import add_model, blob_path, load_header, manifest_path

LLAMA = load_header("llama3.2:1b", tokens=1100)
NO_SERVER = Api("http://127.0.0.1:1", 0.5)


@pytest.fixture
def models_path(tmp_path):
    for name in ("llama3.2:1b", "chat:8k", "other"):
        add_model(tmp_path, name, LLAMA, params={"num_ctx": 8192} if name == "chat:8k" else None)
    return str(tmp_path)


def names(inventory):
    return [shape.name for shape in inventory.models]


class TestSource:
    def test_the_disk_is_read_while_the_server_is_down(self, models_path):
        inventory = gather(models_path, NO_SERVER, "auto", [])
        assert inventory.source == "disk"
        assert names(inventory) == ["chat:8k", "llama3.2:1b", "other:latest"]
        assert inventory.version is None
        assert inventory.loaded is None
        assert [(report.name, report.ok) for report in inventory.sources] == [("disk", True), ("api", False)]
        assert inventory.sources[0].message == f"{models_path} holds 3 models"
        assert "Connection refused" in inventory.sources[1].message

    def test_the_server_is_asked_where_the_disk_cannot_be_read(self, ollama, tmp_path):
        inventory = gather(str(tmp_path / "absent"), Api(ollama.url), "auto", [])
        assert inventory.source == "api"
        assert names(inventory) == ["g-ctx8k:latest", "gemma3-270m:latest"]
        assert inventory.sources[1].message == f"{ollama.url} lists 2 models"
        assert len(inventory.problems) == 2

    def test_the_server_can_be_asked_for(self, ollama, models_path):
        inventory = gather(models_path, Api(ollama.url), "api", ["gemma3-270m"])
        assert (inventory.source, names(inventory)) == ("api", ["gemma3-270m:latest"])

    def test_version_and_loaded_models_come_from_the_server(self, ollama, models_path):
        inventory = gather(models_path, Api(ollama.url), "disk", [])
        assert inventory.version == "0.33.0-rc2"
        assert inventory.loaded == [
            {
                "name": "gemma3-270m:latest",
                "size_bytes": 287246908,
                "size_vram_bytes": 0,
                "context_length": 4096,
                "expires_at": "2026-11-23T05:52:42.629533452Z",
            }
        ]

    @pytest.mark.parametrize(("names", "first"), [(["GEMMA3-270m"], ()), ((), ["gemma3-270m:latest", "absent"])])
    def test_the_ids_are_those_of_the_models_that_were_asked_for(self, ollama, models_path, names, first):
        ids = {tag["name"]: tag["digest"] for tag in Api(ollama.url).tags()}
        assert len(ids) > 1
        inventory = gather(models_path, Api(ollama.url), "disk", names, first)
        assert inventory.ids == {"gemma3-270m:latest": ids["gemma3-270m:latest"]}
        assert gather(models_path, NO_SERVER, "disk", names, first).ids == {}

    def test_a_server_that_stops_answering_is_a_problem_only(self, ollama, models_path):
        ollama.replies["/api/ps"] = (500, b'{"error": "gone"}')
        inventory = gather(models_path, Api(ollama.url), "disk", ["chat:8k"])
        assert inventory.version == "0.33.0-rc2"
        assert inventory.loaded is None
        assert any("answers 500: gone" in problem for problem in inventory.problems)

    @pytest.mark.parametrize(
        ("source", "told"),
        [("disk", ["is no model store"]), ("api", ["refused"]), ("auto", ["is no model store", "refused"])],
    )
    def test_without_any_source_each_says_why(self, source, told, tmp_path):
        with pytest.raises(InventoryError) as raised:
            gather(str(tmp_path / "absent"), NO_SERVER, source, [])
        assert all(text in str(raised.value) for text in told)
        assert len(str(raised.value).split("; ")) >= len(told)

    def test_a_server_with_another_store_is_noticed(self, ollama, models_path):
        inventory = gather(models_path, Api(ollama.url), "auto", [])
        assert inventory.problems == [
            f"the server at {ollama.url} lists models that are not in {models_path} "
            "(g-ctx8k:latest, gemma3-270m:latest): it may use another store; set models_path or api_url"
        ]

    def test_many_such_models_are_not_all_named(self, server, models_path):
        tags = [{"name": f"model:{number}"} for number in range(9)]
        server.replies["/api/tags"] = (200, json.dumps({"models": tags}).encode())
        inventory = gather(models_path, Api(server.url), "disk", ["other"])
        assert "(model:0, model:1, model:2, model:3, model:4, ...)" in inventory.problems[0]

    def test_a_server_with_the_same_models_is_no_problem(self, server, models_path):
        server.replies["/api/tags"] = (200, b'{"models": [{"name": "Chat:8k"}]}')
        inventory = gather(models_path, Api(server.url), "disk", ["other"])
        assert not any("another store" in problem for problem in inventory.problems)


class TestModels:
    def test_only_the_models_asked_for_are_read(self, models_path, tmp_path):
        for blob in (tmp_path / "blobs").iterdir():
            if blob.stat().st_size > 100000:
                blob.unlink()
        inventory = gather(models_path, NO_SERVER, "disk", ["absent:1b"])
        assert (inventory.missing, inventory.damaged) == (["absent:1b"], [])

    def test_a_name_may_be_written_in_any_form(self, models_path):
        wanted = ["other", "registry.ollama.ai/library/chat:8K"]
        inventory = gather(models_path, NO_SERVER, "disk", wanted)
        assert names(inventory) == ["chat:8k", "other:latest"]
        assert inventory.missing == []

    def test_damaged_models_are_named_and_the_others_read(self, models_path, tmp_path):
        (tmp_path / "manifests" / "registry.ollama.ai" / "library" / "other" / "latest").write_text("{")
        inventory = gather(models_path, NO_SERVER, "disk", [])
        assert names(inventory) == ["chat:8k", "llama3.2:1b"]
        (damage,) = inventory.damaged
        assert "library/other/latest is no JSON" in damage
        assert inventory.unplannable == {"other:latest": damage}

    def test_models_that_run_elsewhere_are_told_apart(self, models_path, tmp_path):
        path = add_model(tmp_path, "big:cloud", LLAMA, family="cloud")
        config = blob_path(tmp_path, json.loads(path.read_text())["config"]["digest"])
        config.write_text('{"remote_host": "https://ollama.com:443"}')
        inventory = gather(models_path, NO_SERVER, "disk", [])
        assert inventory.unplannable == {
            "big:cloud": "it runs at https://ollama.com:443 and takes no memory here"
        }
        assert "big:cloud" not in names(inventory)

    def test_a_model_that_the_server_does_not_find_is_damaged(self, ollama, tmp_path, recording):
        ollama.replies["/api/show"] = recording("err_show_notfound")
        inventory = gather(str(tmp_path / "absent"), Api(ollama.url), "api", ["gemma3-270m"])
        assert inventory.models == []
        assert "answers 404: model 'nope:latest' not found" in inventory.damaged[0]


class TestMany:
    """More models than are planned: those that matter most are told, and how many are not."""

    @pytest.fixture
    def many(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_inventory, "MAX_MODELS", 3)
        for name in ("a", "b", "c", "d", "wanted:2b", "loaded"):
            add_model(tmp_path, name, LLAMA)
        return str(tmp_path)

    def test_the_rest_is_counted(self, many):
        inventory = gather(many, NO_SERVER, "auto", [])
        assert names(inventory) == ["a:latest", "b:latest", "c:latest"]
        assert inventory.unseen[0].startswith("3 of 6 installed models are left out: at most 3 are planned")

    def test_wanted_and_loaded_models_are_kept(self, many, ollama):
        ollama.replies["/api/tags"] = (200, b'{"models": []}')
        ollama.replies["/api/ps"] = (200, b'{"models": [{"name": "LOADED:latest"}]}')
        inventory = gather(many, Api(ollama.url), "auto", [], first=["wanted:2B", "absent"])
        assert names(inventory) == ["a:latest", "loaded:latest", "wanted:2b"]

    def test_models_that_are_not_planned_take_no_place(self, many, tmp_path):
        config = json.loads(manifest_path(tmp_path, "a").read_text())["config"]["digest"]
        blob_path(tmp_path, config).write_text(json.dumps({"remote_host": "https://ollama.com:443"}))
        inventory = gather(many, NO_SERVER, "auto", [])
        assert (len(inventory.unplannable), inventory.unseen) == (6, [])

    def test_what_all_models_are_told_in_is_bounded(self, many, monkeypatch):
        monkeypatch.setattr(_inventory, "MAX_MODELS_BYTES", 4000)
        inventory = gather(many, NO_SERVER, "auto", [])
        assert (len(inventory.models), inventory.unseen[0][:6]) == (2, "4 of 6")

    def test_a_model_that_says_too_much_is_damaged(self, tmp_path):
        tensors = [["y" * 240 + str(number), "F32", [1]] for number in range(300)]
        add_model(tmp_path, "big", {**LLAMA, "tensors": [*LLAMA["tensors"], *tensors]})
        inventory = gather(str(tmp_path), NO_SERVER, "auto", [])
        assert inventory.models == []
        assert "bytes, at most 65536 are taken and no published model comes near" in inventory.damaged[0]

    def test_damaged_models_are_not_all_named(self, many, tmp_path, monkeypatch):
        monkeypatch.setattr(_inventory, "_MAX_DAMAGED", 2)
        for name in ("a", "b", "c", "d"):
            manifest_path(tmp_path, name).write_text("")
        inventory = gather(many, NO_SERVER, "auto", [])
        assert len(inventory.damaged) == 3
        assert inventory.damaged[2] == "2 more models cannot be read"

    def test_one_file_is_read_once(self, many):
        read = []
        gather(many, NO_SERVER, "auto", [], header_of=lambda path: read.append(path) or read_header(path))
        assert len(read) == 1
