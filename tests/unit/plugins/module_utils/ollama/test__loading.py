# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models are loaded one after the other, in the order given, and all looked at afterwards."""

from __future__ import annotations

import json

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _loading
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import name_key
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._residence import Planned, differences
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._process import Process
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import Completed

BLOB = "sha256-" + "b" * 64
OTHER_BLOB = "sha256-" + "d" * 64


class Server:
    """A server that loads what it is told, as /api/ps then lists it."""

    def __init__(self, server):
        self.loaded = []
        self.beside = {}
        self.other_files = ()
        self.asked = server.asked
        self.url = server.url
        server.replies = {
            "/api/ps": lambda body: self.reply(
                {"models": [{"name": name, "size": 9, "size_vram": 9} for name in self.loaded]}
            ),
            "/api/show": lambda body: self.show(body["model"]),
            "/api/generate": lambda body: self.load(body["model"]),
            "/api/embed": lambda body: self.load(body["model"]),
        }

    def reply(self, content, status=200):
        return status, json.dumps(content).encode()

    def show(self, name):
        if name in ("absent", "absent:latest"):
            return self.reply({"error": "model 'absent' not found"}, 404)
        capabilities = ["embedding"] if name.startswith("embed") else ["completion", "embedding"]
        blob = OTHER_BLOB if name_key(name) in self.other_files else BLOB
        beside = "".join(f"ADAPTER /m/blobs/{file}\n" for file in self.beside.get(name, ()))
        return self.reply({"modelfile": f"FROM /m/blobs/{blob}\n{beside}", "capabilities": capabilities})

    def load(self, name):
        # As PsHandler shows them: in the short form, in the letters of the installed model (server/routes.go).
        shown = name.lower().removeprefix("registry.ollama.ai/").removeprefix("library/")
        if (tagged := shown if ":" in shown else f"{shown}:latest") not in self.loaded:
            self.loaded.append(tagged)
        return self.reply({"done": True})


@pytest.fixture
def ollama(server, monkeypatch):
    made = Server(server)
    runner = Process(11, ("llama-server", "--model", f"/m/{BLOB}", "-c", "8192", "-np", "2"), 0)
    monkeypatch.setattr(_loading, "server_url", lambda state: made.url)
    # Who holds its port is the service's test: here it is this test.
    monkeypatch.setattr(_loading, "server_api", lambda unit, pid, url, timeout_s: Api(url, timeout_s))
    monkeypatch.setattr(_loading, "unit_processes", lambda pid: [Process(10, ("ollama", "serve"), 0), runner])
    return made


def load(names, keep_alive=None, check_mode=False, together=True):
    return _loading.load_in_order(
        lambda c: Completed(0, "", ""), "system", "o.service", names, keep_alive, 5.0, check_mode, together
    )


def test_models_are_loaded_in_order_by_the_way_that_fits_them(ollama):
    outcome = load(["b", "embed:1", "a:2"], keep_alive="-1")
    assert outcome.changed
    loading = [
        (path, body) for _method, path, body in ollama.asked if path in ("/api/generate", "/api/embed")
    ]
    assert [(path, body["model"], body["keep_alive"]) for path, body in loading] == [
        ("/api/generate", "b", -1),
        ("/api/embed", "embed:1", -1),
        ("/api/generate", "a:2", -1),
    ]
    assert [(model.name, model.loaded, model.parallel, model.pid) for model in outcome.models] == [
        ("b", True, 2, 11),
        ("embed:1", True, 2, 11),
        ("a:2", True, 2, 11),
    ]


def test_models_that_displace_each_other_are_looked_at_one_by_one(ollama, monkeypatch):
    ollama.other_files = ("b:latest",)
    keep_all = ollama.load
    monkeypatch.setattr(ollama, "load", lambda name: (ollama.loaded.clear(), keep_all(name))[1])
    assert [model.loaded for model in load(["a", "b"]).models] == [False, True]
    outcome = load(["a", "absent", "b"], together=False)
    assert [(model.name, model.loaded) for model in outcome.models] == [
        ("a", True),
        ("absent", False),
        ("b", True),
    ]


def test_what_is_loaded_already_is_no_change(ollama):
    ollama.loaded = ["a:latest"]
    assert not load(["a"], keep_alive="24h").changed
    assert ollama.asked[-2][2]["keep_alive"] == "24h"


@pytest.mark.parametrize(
    "name", ["gemma3", "library/gemma3:4b", "registry.ollama.ai/library/gemma3", "Gemma3:4B", "hf.co/A/b:Q4"]
)
def test_a_model_is_loaded_by_whatever_name_it_has(ollama, name):
    first, second = load([name]), load([name])
    assert (first.changed, second.changed) == (True, False)
    for outcome in (first, second):
        assert differences([Planned(name)], outcome.models) == []


def test_check_mode_only_looks(ollama):
    outcome = load(["a"], check_mode=True)
    assert outcome.changed
    assert not outcome.models[0].loaded
    assert ollama.loaded == []


def test_a_model_that_cannot_be_loaded_does_not_keep_the_others_from_it(ollama):
    outcome = load(["absent", "a"])
    assert outcome.models[0].error.endswith("answers 404: model 'absent' not found")
    assert (outcome.models[0].loaded, outcome.models[1].loaded) == (False, True)


class TestTagsOfOneFile:
    """Tags of one file share a runner, which keeps the name of the first, unless other files lie beside it."""

    @pytest.fixture
    def shared(self, ollama, monkeypatch):
        def load(name):
            if not ollama.loaded:
                ollama.loaded.append("first:latest")
            return ollama.reply({"done": True})

        monkeypatch.setattr(ollama, "load", load)
        ollama.loaded = ["first:latest"]
        return ollama

    def test_a_tag_is_loaded_where_the_first_one_is_listed(self, shared):
        outcome = load(["second"])
        assert not outcome.changed
        assert [(model.name, model.loaded, model.parallel) for model in outcome.models] == [("second", True, 2)]
        assert differences([Planned("second")], outcome.models) == []

    def test_one_with_another_adapter_is_not(self, shared):
        shared.beside = {"second": ["sha256-" + "c" * 64]}
        outcome = load(["second"])
        assert outcome.changed
        assert [model.loaded for model in outcome.models] == [False]

    def test_a_loaded_model_that_the_server_does_not_tell_is_no_tag_of_it(self, shared):
        shared.loaded = ["absent"]
        assert not load(["second"]).models[0].loaded
