# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module says what would come and whether it fits, does it, and shows the difference."""

from __future__ import annotations

import time

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _upkeep
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api
from ansible_collections.gpufleet.ollama.plugins.modules import ollama_model
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import checked, documented
from ansible_collections.gpufleet.ollama.tests.registry.front import Front
from ansible_collections.gpufleet.ollama.tests.registry.models import publish, small_model

from ...conftest import Start


@pytest.fixture
def front():
    front = Front(0).start()
    yield front
    front.stop()


@pytest.fixture
def name(front, tmp_path):
    """A model that the registry has."""
    publish(front, "team/model", "v1", small_model(tmp_path))
    return f"localhost:{front.port}/team/model:v1"


@pytest.fixture
def run(run_module, monkeypatch, executable, tmp_path):
    """`run(models, option=value)` is the module's result, on a host with a server and an empty store."""
    models = tmp_path / "models"
    (models / "blobs").mkdir(parents=True)
    start = Start(executable, models, tmp_path / "server")
    api = Api(f"http://127.0.0.1:{start().port}", 20)
    monkeypatch.setattr(ollama_model, "manager", lambda run, scope: None)
    monkeypatch.setattr(ollama_model, "upkeep_of", lambda run, scope, unit: _upkeep.upkeep_at(api, str(models)))

    def module(models, **options):
        result = run_module(ollama_model, models=models, **{"keep_free_bytes": 0, **options})
        checked(result, documented("ollama_model"))
        return result

    yield module
    start.stop()


def test_check_mode_then_the_change_then_nothing(run, name, front):
    asked = [{"name": name, "insecure": True}]
    foretold = run(asked, _ansible_check_mode=True, describe=True)
    (model,) = foretold["models"]
    assert (foretold["changed"], foretold["done"], model["action"]) == (True, False, "pull")
    assert model["missing_bytes"] == model["size_bytes"] == foretold["needed_bytes"] > 0
    assert [one["name"] for one in foretold["descriptions"]] == [name]
    assert foretold["diff"] == {"before": "", "after": f"{name} {model['digest'][:12]}\n"}
    result = run(asked)
    assert (result["changed"], result["done"], result["waiting"]) == (True, True, "")
    assert result["diff"] == foretold["diff"]
    again = run(asked, describe=True)
    assert (again["changed"], again["done"], again["needed_bytes"], again["descriptions"]) == (False, True, 0, [])
    assert again["diff"]["before"] == again["diff"]["after"] == foretold["diff"]["after"]
    gone = run([{"name": name, "state": "absent"}], _ansible_check_mode=True)
    assert (gone["changed"], gone["diff"]["after"]) == (True, "")
    assert run([{"name": name, "state": "absent"}])["models"][0]["action"] == "remove"


def test_without_room_nothing_is_pulled(run, name, front):
    asked = [{"name": name, "insecure": True}]
    foretold = run(asked, keep_free_bytes=1 << 60, _ansible_check_mode=True)
    assert "would not make enough room: take a larger disk" in foretold["no_room"]
    result = run(asked, keep_free_bytes=1 << 60)
    assert (result["failed"], result["msg"]) == (True, foretold["no_room"])
    assert not any("/direct" in path for _method, path, _range in front.asked)


def test_a_slice_that_does_not_suffice_is_gone_on_with(run, name, front):
    front.given = {"rate": 100_000}
    result = run([{"name": name, "insecure": True}], slice_seconds=1)
    (model,) = result["models"]
    assert (result["changed"], result["done"], model["done"], model["action"]) == (True, False, False, "pull")
    assert 0 < model["layer_completed_bytes"] <= model["completed_bytes"] < model["size_bytes"]
    assert model["status"].startswith("pulling ")
    front.given = {}
    assert run([{"name": name, "insecure": True}])["done"]


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        ([{"name": "localhost:1/team/model"}], "Ollama says: pull model manifest"),
        ([{"name": "a b"}], "is no model's name"),
        ([{"name": "x", "file": "/nope.gguf"}], "/nope.gguf cannot be read"),
        ([{"name": "x", "digest": "zz"}], "expected the 12 to 64 hex digits"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(run, models, sentence):
    result = run(models)
    assert sentence in result.get("msg", "") + result.get("waiting", "")


def test_a_server_that_does_not_answer_may_come_back(run_module, monkeypatch, tmp_path):
    monkeypatch.setattr(ollama_model, "manager", lambda run, scope: None)
    gone = Api("http://127.0.0.1:1", 5)
    monkeypatch.setattr(ollama_model, "upkeep_of", lambda run, scope, unit: _upkeep.upkeep_at(gone, str(tmp_path)))
    result = run_module(ollama_model, models=[{"name": "m"}])
    checked(result, documented("ollama_model"))
    assert (result["done"], result["models"], result["changed"]) == (False, [], False)
    assert "Connection refused" in result["waiting"]
    for options in ({"look": True}, {"_ansible_check_mode": True}):
        assert "Connection refused" in run_module(ollama_model, models=[{"name": "m"}], **options)["msg"]


def test_what_cannot_be_described_is_said(run, name, front):
    front.given = {"blob_status": 403}
    result = run([{"name": name, "insecure": True}], describe=True, _ansible_check_mode=True)
    assert (result["descriptions"], result["models"][0]["note"][-48:]) == (
        [],
        "answers 403: it lets only those in who log in, as Ollama may"[-48:],
    )


def test_a_registry_that_tells_for_ever_is_not_listened_to_for_ever(run, name, monkeypatch):
    monkeypatch.setattr(ollama_model, "LOOK_SECONDS", 0.5)
    monkeypatch.setattr(ollama_model, "described", lambda _host, _step: time.sleep(20))
    result = run([{"name": name, "insecure": True}], describe=True, _ansible_check_mode=True)
    assert "ollama_model took longer than 0.5 s and was ended" in result["msg"]
