# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each model is routed to exactly the hosts that hold it, with the slots of their plans; nothing odd reaches a router's file."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._routes import (
    RoutedHost,
    backend,
    full_address,
    mark,
    upstreams,
)
from hypothesis import given
from hypothesis import strategies as st


def plan(**models):
    return {
        "safe": True,
        "max_loaded_models": len(models),
        "models": [
            {"name": name.replace("_", ":"), "planned": True, "num_parallel": slots, "context_length": 4096}
            for name, slots in models.items()
        ],
    }


def test_a_host_gets_what_its_plan_holds() -> None:
    planned = plan(a_1=4, b_1=1)
    planned["models"].append({"name": "c:1", "planned": False, "num_parallel": 0, "context_length": 0})
    found = backend("h", "h:11434", planned)
    assert found == RoutedHost("h", "h:11434", {"a:1": 4, "b:1": 1}, {"a:1": 4096, "b:1": 4096})


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"safe": False}, "h is left out, because its plan is not safe"),
        (
            {"max_loaded_models": 1},
            "has 2 models and keeps 1 of them loaded: name those .* ollama_plan_wanted",
        ),
        ({"models": None}, "h has no plan: run"),
    ],
)
def test_a_host_that_holds_nothing_for_certain_is_left_out(changed, says) -> None:
    with pytest.raises(ValueError, match=says):
        backend("h", "h:1", {**plan(a_1=4, b_1=1), **changed})


def test_a_model_has_exactly_the_hosts_that_hold_it() -> None:
    hosts = [
        RoutedHost("h2", "h2:1", {"a:1": 2}, {"a:1": 8192}),
        RoutedHost("h1", "h1:1", {"a:1": 4, "x/b:latest": 1}, {"a:1": 4096, "x/b:latest": 512}),
    ]
    found, notes = upstreams(hosts)
    assert notes == []
    assert found == [
        {
            "model": "a:1",
            "names": ["a:1"],
            "id": "a:1",
            "upstream": "ollama_a_1",
            "slots": 6,
            "context_length": 4096,
            "servers": [
                {"host": "h1", "address": "h1:1", "slots": 4, "id": "h1"},
                {"host": "h2", "address": "h2:1", "slots": 2, "id": "h2"},
            ],
        },
        {
            "model": "x/b:latest",
            "names": ["x/b:latest", "x/b"],
            "id": "x--b:latest",
            "upstream": "ollama_x--b_latest",
            "slots": 1,
            "context_length": 512,
            "servers": [{"host": "h1", "address": "h1:1", "slots": 1, "id": "h1"}],
        },
    ]


def test_names_that_would_be_one_stay_apart() -> None:
    names = ["a_b:1", "a/b:1", "a--b:1", "A_B:2", "a/b:2", "a/b:1_"]
    found, _notes = upstreams([RoutedHost("h", "h:1", dict.fromkeys(names, 1), {})])
    for key in ("upstream", "id"):
        assert len({one[key].lower() for one in found}) == len(names)


def test_a_model_keeps_its_path_whatever_others_come() -> None:
    def paths(*names):
        found, _notes = upstreams([RoutedHost("h", "h:1", dict.fromkeys(names, 1), {})])
        return {one["model"]: (one["id"], one["upstream"]) for one in found}

    assert paths("a/b:1")["a/b:1"] == paths("a--b:1", "a/b:1", "A_B:2")["a/b:1"] == ("a--b:1", "ollama_a--b_1")


def test_hosts_that_differ_in_odd_characters_alone_stay_apart() -> None:
    hosts = [RoutedHost(name, "h:1", {"a:1": 1}, {}) for name in ("gpu 1", "gpu\t1", "gpu/1", "gpu_1")]
    ((one,), _notes) = upstreams(hosts)
    assert len({server["id"] for server in one["servers"]}) == len(hosts)
    assert one["servers"][-1]["id"] == "gpu_1"


def test_names_of_one_model_in_another_case_are_one() -> None:
    hosts = [
        RoutedHost("h1", "h1:1", {"LLAMA3:8b": 1, "llama3:8b": 1}, {"LLAMA3:8b": 4096}),
        RoutedHost("h2", "h2:1", {"llama3:8B": 2}, {"llama3:8B": 2048}),
    ]
    ((one,), notes) = upstreams(hosts)
    assert notes == []
    assert one["names"] == ["LLAMA3:8b"]
    assert one["servers"] == [
        {"host": "h1", "address": "h1:1", "slots": 1, "id": "h1"},
        {"host": "h2", "address": "h2:1", "slots": 2, "id": "h2"},
    ]
    assert (one["slots"], one["context_length"]) == (3, 2048)


def test_a_name_with_the_usual_tag_is_known_without_it_too() -> None:
    ((one,), _notes) = upstreams([RoutedHost("h", "h:1", {"a:LATEST": 1}, {})])
    assert one["names"] == ["a:LATEST", "a"]


@pytest.mark.parametrize(
    "name",
    [
        'a"; } server { listen 1; }',
        "a b",
        "a\nb",
        "{{ 1/0 }}",
        "",
        "-a",
        "a" * 256,
        "a{b",
        "a;b",
        "os.environ/KEY",
        "OS.environ/KEY:1",
        "library/-a",
        "library/",
    ],
)
def test_a_name_that_is_none_is_left_out(name) -> None:
    found, notes = upstreams([RoutedHost("h", "h:1", {name: 1, "good:1": 1}, {})])
    assert [one["model"] for one in found] == ["good:1"]
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("gpu1", "gpu1:11434"),
        ("10.0.0.1", "10.0.0.1:11434"),
        ("gpu1.example.org:80", "gpu1.example.org:80"),
        ("fd00::1", "[fd00::1]:11434"),
        ("[fd00::1]:80", "[fd00::1]:80"),
        ("[fd00::1]", "[fd00::1]:11434"),
    ],
)
def test_an_address_has_a_port(given, address) -> None:
    assert full_address(given, 11434) == address


@pytest.mark.parametrize(
    "given", ["", "a b", "a;b", "a:0", "a:65536", "a:port", "http://a", "a/b", "-a", "a\n"]
)
def test_what_is_no_address_is_refused(given) -> None:
    with pytest.raises(ValueError, match="is no address of a host: set ollama_router_address"):
        full_address(given + ("b;" if given.endswith("\n") else ""), 11434)


@given(st.text(max_size=20), st.integers(1, 65535))
def test_no_address_brings_anything_else_into_the_file(given, port) -> None:
    try:
        address = full_address(given, port)
    except ValueError:
        address = "none"
    assert not set(address) & set(" \t\n;{}\"'\\#$%")


def test_the_mark_tells_one_configuration_from_another() -> None:
    found, _notes = upstreams([RoutedHost("h", "h:1", {"a:1": 1}, {})])
    more, _notes = upstreams([RoutedHost("h", "h:1", {"a:1": 2}, {})])
    assert mark(found, {"kind": "nginx"}) == mark(found, {"kind": "nginx"})
    assert (
        len({mark(found, {"kind": "nginx"}), mark(found, {"kind": "haproxy"}), mark(more, {"kind": "nginx"})})
        == 3
    )
