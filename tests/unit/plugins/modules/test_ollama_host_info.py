# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as the role ollama_plan uses it: one run reads what four modules read."""

from __future__ import annotations

import json

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._stored import StoredError
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._json import MAX_FACTS_BYTES
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._inventory import InventoryError
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._options import PARTS
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import Completed, SystemdError
from ansible_collections.gpufleet.ollama.plugins.modules import (
    gpu_facts,
    ollama_host_info,
    ollama_model_info,
    ollama_wait,
    systemd_restart,
)

MODELS = {"models": [{"name": "gemma3:4b"}], "version": "0.33.0", "source": "disk", "loaded": []}
DONE = Completed(0, "", "")
COMPARED = {"in_sync": True, "wanted": {"OLLAMA_NUM_PARALLEL": "4"}}


class Service:
    """Stands in for an inspected service."""

    def to_dict(self):
        return {"unit": "ollama.service", "variables": {}}


@pytest.fixture
def host(monkeypatch):
    """A host on which everything can be read; `host(name, error)` makes one reading fail."""

    def replace(name, answer):
        def reader(*_arguments, **_options):
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(ollama_host_info, name, reader)

    for name, answer in {
        "gpu_facts": {"gpus": []},
        "read_models": (MODELS, []),
        "manager": None,
        "look": "what was seen",
        "inspection": Service(),
        "comparison_with_own": COMPARED,
        "read": {"parallel": 4},
        "server_said": {"problem": "", "version": "0.33.0"},
    }.items():
        replace(name, answer)
    return replace


def test_all_parts_are_read_unless_fewer_are_asked_for(run_module, host):
    result = run_module(ollama_host_info)
    assert result["ansible_facts"] == {"gpufleet_gpu": {"gpus": []}}
    assert result["models"] == MODELS
    assert result["service"] == {"unit": "ollama.service", "variables": {}}
    assert (result["measured"], result["measured_problem"]) == ({"parallel": 4}, "")
    assert result["server"] == {"problem": "", "version": "0.33.0"}
    assert result["failures"] == []
    fewer = run_module(ollama_host_info, gather=["models"])
    assert set(fewer) - {"invocation"} == {"changed", "failures", "models"}


@pytest.mark.parametrize(
    ("part", "error", "empty"),
    [
        ("read_models", InventoryError("no store and no server"), "models"),
        ("look", SystemdError("no systemd here"), "service"),
        ("look", SystemdError("no systemd here"), "compared"),
    ],
)
def test_what_cannot_be_read_is_a_sentence_and_hides_nothing_else(run_module, host, part, error, empty):
    host(part, error)
    result = run_module(ollama_host_info)
    assert result["failures"] == [str(error)]
    assert result[empty] == {}
    assert "gpufleet_gpu" in result["ansible_facts"]
    assert result["measured"] == {"parallel": 4}


@pytest.mark.parametrize(
    ("source", "loaded", "failures"),
    [
        ("disk", [], []),
        ("disk", None, []),
        ("api", [], []),
        ("api", None, ["llama3.2:3b: no answer"]),
    ],
)
def test_a_damaged_model_fails_the_host_only_where_its_server_is_gone(
    run_module, host, source, loaded, failures
):
    known = {**MODELS, "source": source, "loaded": loaded}
    host("read_models", (known, ["llama3.2:3b: no answer"]))
    result = run_module(ollama_host_info)
    assert result["failures"] == failures
    assert result["models"] == known


def test_a_benchmark_that_cannot_be_read_is_no_failure_of_the_host(run_module, host):
    host("read", StoredError("it holds no JSON"))
    result = run_module(ollama_host_info)
    assert result["failures"] == []
    assert (result["measured"], result["measured_problem"]) == ({}, "it holds no JSON")


def test_a_journal_that_cannot_be_read_is_no_failure_of_the_host(run_module, host):
    host("server_said", SystemdError("systemctl show failed"))
    result = run_module(ollama_host_info)
    assert (result["failures"], result["server"]) == ([], {"problem": "systemctl show failed"})


@pytest.mark.parametrize(
    ("options", "compared"),
    [
        ({}, {}),
        ({"secrets": {}}, COMPARED),
        ({"secrets": {"HF_TOKEN": "hunter2", "A_PIN": "4"}}, COMPARED),
        ({"secrets": {"HF_TOKEN": "hunter2"}, "gather": ["models"]}, None),
    ],
)
def test_the_service_is_compared_where_its_secrets_are_told(run_module, host, options, compared):
    result = run_module(ollama_host_info, **options)
    assert result.get("compared") == compared
    # They are not returned, and hide nothing that looks like them.
    assert "hunter2" not in json.dumps(result)
    assert compared is None or result["measured"] == {"parallel": 4}


@pytest.mark.parametrize(
    ("options", "is_kept"),
    [({}, False), ({"keep_headers": True}, True), ({"keep_headers": True, "_ansible_check_mode": True}, False)],
)
def test_headers_are_kept_where_that_is_asked_for(run_module, host, monkeypatch, tmp_path, options, is_kept):
    def read_models(_run, _warn, _asked, header_of):
        header_of(str(blob))
        return MODELS, []

    blob = tmp_path / "sha256-0"
    blob.write_bytes(b"GGUF\x03\0\0\0" + bytes(16))
    monkeypatch.setattr(ollama_host_info, "read_models", read_models)
    monkeypatch.setattr(ollama_host_info, "state_directory", lambda scope, unit: str(tmp_path / scope / unit))
    result = run_module(ollama_host_info, gather=["models"], **options)
    assert result["changed"] is False
    assert (tmp_path / "system" / "ollama.service" / "headers.jsonl").exists() is is_kept


def test_a_plan_can_have_every_part_read():
    assert tuple(ollama_host_info.READERS) == PARTS


@pytest.mark.parametrize(
    ("reader", "answer", "part"),
    [
        ("gpu_facts", {"devices": ["x" * 600_000]}, "gpu"),
        ("read_models", ({**MODELS, "models": ["x" * 2_500_000]}, []), "models"),
        ("read_models", ({**MODELS, "unseen": ["x" * 2_500_000]}, []), "models"),
        ("read", {"x": "y" * 600_000}, "measured"),
        ("server_said", {"drops": ["x" * 300_000]}, "server"),
    ],
)
def test_a_part_that_is_too_long_is_a_sentence(run_module, host, reader, answer, part):
    host(reader, answer)
    result = run_module(ollama_host_info)
    sentence = (result["failures"] or [result["measured_problem"] or result["server"]["problem"]])[0]
    assert sentence.startswith(f"what this host tells of its {part} takes ")
    assert len(json.dumps(result)) < 10_000


def test_systemd_is_asked_once_by_all_parts(run_module, host, monkeypatch):
    def asking(answer):
        def reader(run, *_arguments, **_options):
            run(["systemctl", "show", "ollama.service"])
            return answer

        return reader

    asked = []
    monkeypatch.setattr(ollama_host_info, "runner", lambda _module: lambda command: asked.append(command) or DONE)
    parts = {"look": "seen", "gpu_facts": {}, "read_models": (MODELS, []), "server_said": {"problem": ""}}
    for name, answer in parts.items():
        monkeypatch.setattr(ollama_host_info, name, asking(answer))
    run_module(ollama_host_info)
    assert len(asked) == 1
    # The service is looked at until its process can be read.
    run_module(ollama_host_info, gather=["service"])
    assert len(asked) == 2


def test_all_parts_together_fit_into_what_a_host_may_say():
    assert sum(ollama_host_info.MOST_BYTES.values()) < MAX_FACTS_BYTES
    assert set(ollama_host_info.MOST_BYTES) == set(ollama_host_info.EMPTY) == set(PARTS)


@pytest.mark.parametrize("unit", ["../../tmp/x", "/etc/passwd", "x"])
@pytest.mark.parametrize("module", [ollama_host_info, gpu_facts, ollama_model_info, systemd_restart, ollama_wait])
def test_a_path_is_no_unit(run_module, module, unit):
    result = run_module(module, unit=unit)
    assert (result["failed"], result["msg"]) == (
        True,
        f"{unit!r} is not the name of a systemd service: write it like ollama.service",
    )


@pytest.mark.parametrize(
    ("variables", "environment", "foreseen"),
    [
        ([], {}, None),
        (["A"], {"B": 1, "C": None}, {"A": False, "B": False}),
        (["A"], {"HF_TOKEN": "********"}, {"A": False, "HF_TOKEN": True}),
        ([], {"HTTPS_PROXY": "http://********@proxy:1", "not a name": "x"}, {"HTTPS_PROXY": True}),
    ],
)
def test_what_our_dropin_will_set_is_known_with_whether_it_is_secret(variables, environment, foreseen):
    assert ollama_host_info.foreseen(variables, environment) == foreseen
