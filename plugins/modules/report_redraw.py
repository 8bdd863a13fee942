# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of `report_redraw`; its work is done on the control node by the action of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report_redraw
short_description: Draw the pages of a fleet anew from what earlier runs have kept
version_added: 1.0.0
description:
  - Draws C(report.html) and C(report.csv) from C(report.json), with the last placement where C(placement.json) lies beside it,
    and C(benchmark.html) from C(benchmark.json). What there are no data for is not drawn.
  - Contacts no host. The page goes on saying when its data were made.
author:
  - The gpufleet.ollama developers (@gpufleet)
extends_documentation_fragment:
  - gpufleet.ollama._attributes
  - gpufleet.ollama._attributes.control_node
attributes:
  check_mode:
    support: full
    details:
      - It changes no host.
  diff_mode:
    support: none
options:
  dir:
    description: The folder of the report. A relative path counts from the working directory.
    type: path
    required: true
  template:
    description: The Jinja2 template of the fleet's page on the control node.
    type: path
    required: true
  title:
    description: The title of the fleet's page.
    type: str
    default: Ollama GPU fleet
  benchmark_template:
    description: The Jinja2 template of the page of the benchmarks; without it that page is not drawn.
    type: path
  benchmark_title:
    description: The title of the page of the benchmarks.
    type: str
    default: Ollama benchmarks
"""

EXAMPLES = r"""
- name: Draw the page anew
  gpufleet.ollama.report_redraw:
    dir: ./gpufleet-report
    template: templates/report.html.j2
  run_once: true
"""

RETURN = r"""
dir:
  description: The folder, as an absolute path.
  returned: success
  type: str
  sample: /home/operator/gpufleet-report
files:
  description: The names of the files that were written.
  returned: success
  type: list
  elements: str
  sample: [report.html, report.csv]
"""
