# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: a template filled with a report, everything in it escaped for HTML."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_page
short_description: Fill an HTML template with a fleet's report, everything escaped
version_added: 1.0.0
author:
  - The gpufleet.ollama developers (@gpufleet)
description:
  - Renders a Jinja2 template with the report as its variable C(report), and escapes every value for HTML, which
    templates of Ansible do not.
  - Values that are not there are errors.
positional: _input, template
options:
  _input:
    description: The report, for example what M(gpufleet.ollama.fleet_report) has written as C(report.json).
    type: dict
    required: true
  template:
    description: The text of the template.
    type: str
    required: true
  title:
    description: The title of the page, the template's variable C(title).
    type: str
    default: Ollama GPU fleet
  link:
    description: File name of a page in the same folder to link to, the template's variable C(link); empty for none.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Write the page
  ansible.builtin.copy:
    content: "{{ lookup('ansible.builtin.file', 'report.json') | from_json | gpufleet.ollama.fleet_page(template) }}"
    dest: report.html
    mode: "0644"
  vars:
    template: "{{ lookup('ansible.builtin.file', 'report.html.j2') }}"
"""

RETURN = r"""
_value:
  description: The page.
  type: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._html_page import fill_page


def fleet_page(
    report: Mapping[str, Any], template: str, title: str = "Ollama GPU fleet", link: str = ""
) -> str:
    """The filled template."""
    try:
        return "".join(fill_page(report, template, title, link))
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fleet_page": fleet_page}
