# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of nginx and HAProxy lead each name of a model to the hosts that hold it, whatever its length, case and words."""

from __future__ import annotations

import re

import jinja2
import pytest
import yaml
from ansible.plugins.filter.core import FilterModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._routes import RoutedHost, upstreams
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT

ROLE = CHECKOUT / "roles" / "ollama_router"
MODELS = (
    "hf.co/unsloth/Qwen3-30B-A3B-Instruct-2507-GGUF:Q4_K_M",
    "default",
    "include",
    "hostnames",
    "volatile",
    "llama3.1:8b",
    "llama3x1:8b",
    "a/b",
    "a--b",
    "a_b",
    "A.B",
    "n" * 240 + ":1",
)
# Of nginx, in the block of a map. Source: its ngx_http_map_module.
WORDS = {"default", "include", "hostnames", "volatile"}


def rendered(kind: str, *models: str) -> str:
    environment = jinja2.Environment(
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=jinja2.select_autoescape(default_for_string=False),
    )
    environment.filters.update(FilterModule().filters())
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))
    found, _notes = upstreams([RoutedHost("h", "10.0.0.1:11434", dict.fromkeys(models, 2), {})])
    text = (ROLE / "templates" / f"{kind}.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(
        **defaults, ollama_router_routed={"upstreams": found, "mark": "m"}, __ollama_router_header="Made"
    )


def in_map(text: str) -> list[tuple[str, str]]:
    block = re.search(r"^map [^{]*\{\n(.*?)^\}", text, re.DOTALL | re.MULTILINE)
    assert block
    lines = [re.fullmatch(r' +("?)(.*?)\1 (\S*);', line) for line in block[1].splitlines()]
    return [(line[2], line[3]) for line in lines if line]


@pytest.mark.parametrize("model", MODELS)
def test_nginx_leads_a_name_to_its_own_upstream_alone(model: str) -> None:
    (default, *keys) = in_map(rendered("nginx", *MODELS))
    assert default == ("default", '""')
    for name in (model, model.upper()):
        matching = [
            upstream for key, upstream in keys if re.search(key.removeprefix("~*"), name, re.IGNORECASE)
        ]
        assert len(matching) == 1
    assert f"upstream {matching[0]} {{" in rendered("nginx", *MODELS)


def test_nginx_has_no_key_that_it_keeps_in_a_table_or_for_itself() -> None:
    (_default, *keys) = in_map(rendered("nginx", *MODELS))
    assert len(keys) > len(MODELS)
    assert all(key.startswith("~*^") for key, _upstream in keys)
    assert not {key for key, _upstream in keys} & WORDS


def test_no_two_blocks_of_nginx_are_one() -> None:
    text = rendered("nginx", *MODELS)
    for pattern in (r"^upstream (\S+)", r"^ +location (/models/\S+)"):
        names = [name.lower() for name in re.findall(pattern, text, re.MULTILINE)]
        assert len(set(names)) == len(names) == len(MODELS)


def test_haproxy_takes_a_name_in_any_case() -> None:
    assert "{ var(txn.model) -m str -i llama3.1:8b }" in rendered("haproxy", "llama3.1:8b")
