# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: a template filled with a report, everything in it escaped for HTML."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_page
short_description: Fill an HTML template with a fleet's report, everything escaped
version_added: 0.1.0
author:
  - The gpufleet.ollama developers (@gpufleet)
description:
  - Renders a Jinja2 template with the report as its variable C(report), and escapes every value for HTML, which
    templates of Ansible do not.
  - Values that are not there are errors.
positional: _input, template
options:
  _input:
    description: The report that the filter P(gpufleet.ollama.fleet_report#filter) makes.
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
    content: "{{ ollama_report | gpufleet.ollama.fleet_page(lookup('ansible.builtin.file', 'report.html.j2')) }}"
    dest: report.html
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The page.
  type: str
"""

from typing import Any, Callable, Mapping

from ansible.errors import AnsibleFilterError
from jinja2 import Environment, StrictUndefined, TemplateError


def fleet_page(
    report: Mapping[str, Any], template: str, title: str = "Ollama GPU fleet", link: str = ""
) -> str:
    """The filled template."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    try:
        return environment.from_string(template).render(report=report, title=title, link=link)
    except TemplateError as error:
        raise AnsibleFilterError(f"the page cannot be made from this report: {error}") from error


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fleet_page": fleet_page}
