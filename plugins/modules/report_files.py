# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of `report_files`; its work is done on the control node by the action of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report_files
short_description: Write the files of a report on the control node
version_added: 1.0.0
description:
  - Writes texts into files of one folder on the control node, each replaced at once, so that a reader finds the old one
    or the new one.
  - A report describes what was found and is no part of the fleet's state. It is written in check mode too and counts as
    no change.
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
    description: The folder, made where it is missing. A relative path counts from the working directory.
    type: path
    required: true
  files:
    description: File names and texts.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Write the data of the report
  gpufleet.ollama.report_files:
    dir: ./gpufleet-report
    files:
      report.json: "{{ ollama_report | to_json }}"
  run_once: true
"""

RETURN = r"""
dir:
  description: The folder, as an absolute path.
  returned: success
  type: str
  sample: /home/operator/gpufleet-report
"""
