# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of `report_files`; its work is done on the control node by the action of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report_files
short_description: Write the files of a report on the control node
version_added: 0.1.0
description:
  - Writes texts into files of one folder on the control node, each replaced at once, so that a reader finds the old one
    or the new one.
  - A report describes what was found and is no part of the fleet's state. It is written in check mode too and counts as
    no change.
author:
  - The gpufleet.ollama developers (@gpufleet)
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details:
      - It changes no host.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: none
  platform:
    description: Target OS/families that can be operated against.
    support: N/A
    platforms: posix
    details:
      - It is done on the control node.
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

from ansible.module_utils.basic import AnsibleModule

ARGUMENT_SPEC = {
    "dir": {"type": "path", "required": True},
    "files": {"type": "dict", "required": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="gpufleet.ollama.report_files works on the control node by its action plugin, which was not found; "
        "call it by its full name gpufleet.ollama.report_files and install the whole collection"
    )


if __name__ == "__main__":
    main()
