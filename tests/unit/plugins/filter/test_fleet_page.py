# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter that fills the page's template."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.ollama.plugins.filter.fleet_page import FilterModule

fleet_page = FilterModule().filters()["fleet_page"]


def test_every_value_is_escaped() -> None:
    page = fleet_page(
        {"name": "<b>\"'&"}, "<a title='{{ report.name }}'>{{ report.name ~ title }}</a>", "<i>"
    )
    escaped = "&lt;b&gt;&#34;&#39;&amp;"
    assert page == f"<a title='{escaped}'>{escaped}&lt;i&gt;</a>"


def test_what_stands_in_a_value_is_not_a_template() -> None:
    assert fleet_page({"name": "{{ 7 * 7 }}"}, "{{ report.name }}") == "{{ 7 * 7 }}"


def test_a_page_beside_it_can_be_linked_to() -> None:
    template = "{% if link %}<a href='{{ link }}'>{% endif %}"
    assert fleet_page({}, template) == ""
    assert fleet_page({}, template, "title", "benchmark.html") == "<a href='benchmark.html'>"


@pytest.mark.parametrize("template", ["{{ report.nothing }}", "{% if %}"])
def test_a_value_that_is_not_there_is_an_error(template: str) -> None:
    with pytest.raises(AnsibleFilterError, match="the page cannot be made from this report"):
        fleet_page({}, template)
