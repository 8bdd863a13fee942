# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts take part in a placement, which of them are alike, and what of a demand they cannot be asked."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_log import read_server_log
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._cover import Held
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._demand import demands_from_list
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._fleet import read_fleet

from .test__place import benchmark

LLAMA, TINY, EMBED = "llama3.1:8b", "llama3.2:1b", "mxbai-embed-large"
GIB = 1 << 30


def read(hosts, *demand, left_out=None, may_pull=True):
    entries = [one if isinstance(one, dict) else {"name": one, "requests": 2} for one in demand or (TINY,)]
    return read_fleet(demands_from_list(entries), hosts, left_out or {}, may_pull=may_pull)


def test_hosts_that_are_alike_are_one_group(host) -> None:
    fleet = read({name: host(24, models=[TINY]) for name in "abc"} | {"d": host(12, models=[TINY])})
    assert [group.hosts for group in fleet.groups] == [("a", "b", "c"), ("d",)]
    assert len(fleet.kinds) == 2
    assert fleet.hosts["a"].label == "GPU of 24 GiB"


def test_hosts_of_a_kind_that_hold_something_else_are_another_group(host) -> None:
    fleet = read(
        {
            "a": host(24, models=[TINY]),
            "b": host(24, models=[TINY], has=[TINY]),
            "c": host(24, models=[TINY], has=[TINY], loaded=[TINY], parallel=4, context=4096),
            "d": host(24, models=[TINY], may_hold=[]),
            "e": host(24, models=[TINY], values={"rack": "1"}),
        }
    )
    assert len(fleet.groups) == 5
    assert fleet.hosts["c"].held == Held(frozenset([TINY]), frozenset([TINY]), 4, 4096)


@pytest.mark.parametrize(
    ("policy", "kinds"),
    [({}, 1), ({"max_parallel": 3}, 2), ({"headroom_bytes": GIB}, 2), ({"spread": "never"}, 2)],
)
def test_another_policy_is_another_kind(host, policy, kinds) -> None:
    assert len(read({"a": host(24, models=[TINY]), "b": host(24, models=[TINY], **policy)}).kinds) == kinds


def test_hosts_of_which_another_number_was_measured_are_another_kind(host) -> None:
    measured = {name: host(80, models=[TINY], measured=benchmark(count, TINY)) for name, count in (("a", 2), ("b", 3), ("c", 2))}
    fleet = read(measured)
    assert [group.hosts for group in fleet.groups] == [("a", "c"), ("b",)]
    assert [dict(kind.useful) for kind in fleet.kinds] == [{TINY: 2}, {TINY: 3}]


def test_a_gpu_that_the_running_server_does_not_take_is_not_placed_on(host) -> None:
    no_gpu = 'source=types.go:50 msg="inference compute" id=cpu library=cpu compute="" name=cpu pci_id=""'
    told = {**read_server_log([no_gpu]).to_dict(), "version": "0.33.0"}
    hosts = {name: host(24, models=[TINY], server=told if name == "b" else {}) for name in "ab"}
    for one in hosts.values():
        one.inputs["gpu"]["devices"][0]["uuid"] = "GPU-aaaa"
    fleet = read(hosts)
    assert list(fleet.hosts) == ["a"]
    assert fleet.left_out == {"b": "it has no GPU that Ollama uses"}


@pytest.mark.parametrize(("less_mib", "kinds"), [(10, 1), (100, 1), (200, 2)])
def test_readings_that_differ_a_little_are_one_kind(host, less_mib, kinds) -> None:
    free = 20 + 0.25
    hosts = {
        "a": host(24, models=[TINY], free_gib=free, is_read=True, has=[TINY]),
        "b": host(24, models=[TINY], free_gib=free - less_mib / 1024, is_read=True, has=[TINY]),
    }
    # The first is a step of 128 MiB below what was read, and a step ends just below the reading of the first.
    hosts["a"].inputs["gpu"]["devices"][0]["memory_free_bytes"] += 127 << 20
    hosts["b"].inputs["gpu"]["devices"][0]["memory_free_bytes"] += 127 << 20
    assert len(read(hosts).kinds) == kinds


def test_a_read_host_is_judged_with_128_to_256_mib_less(host) -> None:
    for more in (0, 1, 127, 128):
        one = host(24, models=[TINY], has=[TINY], free_gib=20 + more / 1024, is_read=True)
        fleet = read({"a": one})
        less = (
            fleet.hosts["a"].exact.host.gpus[0].memory_free_bytes
            - fleet.hosts["a"].judged.host.gpus[0].memory_free_bytes
        )
        assert 128 << 20 <= less < 256 << 20


def test_a_host_without_the_model_may_be_given_it_where_that_is_allowed(host) -> None:
    hosts = {
        "a": host(24, models=[TINY], has=[TINY], is_read=True),
        "b": host(24, models=[TINY], has=[], is_read=True),
    }
    assert read(hosts).hosts["b"].may_hold == {TINY}
    assert read(hosts, may_pull=False).hosts["b"].may_hold == frozenset()


def test_an_embedding_model_gets_the_context_it_was_trained_for(host) -> None:
    fleet = read({"a": host(24, models=[EMBED, TINY])}, EMBED, TINY)
    assert [demand.context_length for demand in fleet.demands] == [4096, 512]


def test_a_host_that_cannot_be_planned_is_left_out_with_its_reason(host) -> None:
    broken = host(24, models=[TINY])
    broken.inputs["gpu"]["devices"][0]["problems"] = ["it has fallen off the bus."]
    fleet = read(
        {"a": host(24, models=[TINY]), "b": broken, "c": host(models=[TINY])},
        left_out={"d": "it cannot be reached"},
    )
    assert list(fleet.hosts) == ["a"]
    assert "fallen off the bus" in fleet.left_out["b"]
    assert fleet.left_out["c"] == "it has no GPU that Ollama uses"
    assert fleet.left_out["d"] == "it cannot be reached"


@pytest.mark.parametrize(
    ("demand", "says"),
    [
        (
            {"name": "gemma9", "requests": 1},
            "model 'gemma9:latest' is demanded, but no host has it and so none may pull it",
        ),
        ({"name": "llama3.2:1", "requests": 1}, "did you mean 'llama3.2:1b'"),
        (
            {"name": TINY, "requests": 1, "context_length": 131073},
            "context_length is 131073, and the model was trained for 131072 on a, which no host exceeds: ask for at "
            "most 131072",
        ),
        (
            {"name": TINY, "requests": 1, "spread": "rack"},
            "spread is 'rack', and no host that may hold it has such a variable",
        ),
    ],
)
def test_what_the_fleet_cannot_be_asked_is_said_in_one_sentence(host, demand, says) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        read({"a": host(24, models=[TINY], has=[TINY])}, demand)
    assert "\n" not in str(refused.value)


def test_a_model_that_sets_its_own_context_cannot_have_more(host) -> None:
    one = host(24, models=[TINY])
    one.inputs["models"][0]["num_ctx"] = 2048
    with pytest.raises(ValueError, match="the model's own num_ctx sets it to 2048"):
        read({"a": one}, {"name": TINY, "requests": 1, "context_length": 4096})


def test_a_model_that_cannot_be_planned_is_named_with_the_reason(host) -> None:
    one = host(24, models=[TINY])
    one.inputs["unplannable"] = [{"name": "gemma9:latest", "reason": "its file is cut off"}]
    with pytest.raises(
        ValueError, match="'gemma9:latest' is demanded but cannot be planned: its file is cut off"
    ):
        read({"a": one}, TINY, "gemma9")


def test_a_model_that_no_host_may_hold_is_named_and_who_is_left_out(host) -> None:
    with pytest.raises(ValueError, match="no host that can be placed on may hold it; left out are b"):
        read({"a": host(24, models=[TINY], may_hold=[])}, TINY, left_out={"b": "unreachable"})


def test_where_no_host_is_left_the_reasons_are_told(host) -> None:
    with pytest.raises(ValueError, match="no host can be placed on: a: it has no GPU that Ollama uses"):
        read({"a": host(models=[TINY])})


def changed(found, **changes):
    """The host with other numbers of its first model."""
    inputs = copy.deepcopy(found.inputs)
    inputs["models"][0].update(changes)
    return replace(found, inputs=inputs)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"file_bytes": -1}, "file_bytes"),
        ({"block_count": None}, "block_count"),
        ({"layers": None}, "is damaged"),
        ({"layers": [1]}, "is damaged"),
        ({"num_ctx": "many"}, "num_ctx"),
        ({"digest": 7}, "digest"),
    ],
)
def test_a_host_that_tells_nonsense_of_a_model_is_left_out_alone(host, changes, says) -> None:
    good = host(24, models=[TINY])
    fleet = read({"a": changed(good, **changes), "b": good})
    assert list(fleet.hosts) == ["b"]
    assert says in fleet.left_out["a"]
    with pytest.raises(ValueError, match=f"cannot be planned: a: .*{says}"):
        read({"a": changed(good, **changes)})


@pytest.mark.parametrize("part", ["models", "unplannable", "loaded", "installed"])
def test_a_host_that_tells_nonsense_is_left_out_alone(host, part) -> None:
    good = host(24, models=[TINY])
    for odd in (7, [7]) if part != "installed" else (7,):
        if (part, odd) == ("models", [7]):
            continue
        fleet = read({"a": replace(good, inputs={**good.inputs, part: odd}), "b": good})
        assert list(fleet.hosts) == ["b"]
        assert "what was read of it is not what a host tells" in fleet.left_out["a"]


@pytest.mark.parametrize("key", ["file_bytes", "context_length_trained", "vocabulary_size"])
def test_a_host_that_tells_other_numbers_of_the_same_file_is_left_out(host, key) -> None:
    good = host(24, models=[TINY])
    other = changed(good, **{key: good.inputs["models"][0][key] + 1})
    fleet = read({"a": other, "b": good, "c": good})
    assert list(fleet.hosts) == ["b", "c"]
    assert fleet.left_out["a"].startswith(f"of model '{TINY}' it tells other numbers than 2 of the hosts")


def test_the_layers_of_the_same_file_are_compared_too(host) -> None:
    good = host(24, models=[LLAMA])
    assert good.inputs["models"][0]["digest"]
    layers = host(24, models=[LLAMA])
    text = json.dumps(layers.inputs["models"][0]["layers"])
    number = re.findall(r"[0-9]{6,}", text)[0]
    layers.inputs["models"][0]["layers"] = json.loads(text.replace(number, str(int(number) + 64)))
    fleet = read({"a": layers, "b": good, "c": good}, LLAMA)
    assert list(fleet.hosts) == ["b", "c"]
    assert list(fleet.left_out) == ["a"]


@pytest.mark.parametrize(
    "changes",
    [
        {"num_ctx": 8192},
        {"capabilities": ["tools"]},
        {"adapter_bytes": GIB},
        {"parameters": {"draft_bytes": GIB}},
    ],
)
def test_another_manifest_of_the_same_file_is_no_contradiction(host, changes) -> None:
    good = host(24, models=[TINY])
    fleet = read({"a": changed(good, **changes), "b": good, "c": good})
    assert list(fleet.hosts) == ["a", "b", "c"]
    assert len(fleet.kinds) == 2


@pytest.mark.parametrize(("sizes", "size"), [((1, 1, 3), 1), ((3, 1, 1), 1), ((1, 2), 2), ((2, 1), 2)])
def test_a_host_that_lacks_a_model_is_given_the_copy_that_most_have(host, sizes, size) -> None:
    good = host(24, models=[TINY])
    hosts = {
        str(number): changed(good, digest=f"sha256-{one}", file_bytes=one * 2 * GIB)
        for number, one in enumerate(sizes)
    }
    lacks = host(24, models=[TINY], has=[], is_read=True)
    fleet = read({**hosts, "lacks": lacks})
    assert fleet.hosts["lacks"].exact.demands[0].model.file_bytes == size * 2 * GIB


def test_one_copy_of_a_short_context_keeps_no_other_host_from_the_demand(host) -> None:
    good = host(24, models=[TINY])
    for changes in (
        {"digest": "sha256-x", "context_length_trained": 2048, "file_bytes": 9 * GIB},
        {"num_ctx": 2048},
    ):
        short = changed(good, **changes)
        entry = {"name": TINY, "requests": 1, "context_length": 8192}
        fleet = read({"a": short, "b": good, "c": good}, entry)
        assert [bool(one.may_hold) for one in fleet.hosts.values()] == [False, True, True]
        assert [bool(one.may_hold) for one in read({"a": short, "b": good}, entry).hosts.values()] == [
            False,
            True,
        ]
        with pytest.raises(ValueError, match="2048 on a, which no host exceeds"):
            read({"a": short}, entry)


def test_the_usual_context_is_that_of_the_copy_that_most_have(host) -> None:
    good = host(24, models=[TINY])
    short = changed(good, digest="sha256-x", context_length_trained=512, file_bytes=9 * GIB)
    fleet = read({"a": short, "b": good, "c": good})
    assert fleet.demands[0].context_length == 4096
    assert [bool(one.may_hold) for one in fleet.hosts.values()] == [False, True, True]
