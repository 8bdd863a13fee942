# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remembers on a host which GPUs the plan of a service was applied for."""

from __future__ import annotations

DOCUMENTATION = r"""
module: planned_gpus
short_description: Remember on a host what its plan was applied for
version_added: 1.0.0
description:
  - Writes the UUIDs and names of the GPUs into the state folder of the service. M(gpufleet.ollama.ollama_host_info) reads
    them, so that a GPU which is gone is told from one that was never there. A plan without it would pass for the right one.
  - Beside them the version of Ollama, so that an upgrade since is told, and the loads that took more memory than foretold,
    which the journal forgets with the next start of the service.
  - Changes nothing of the service.
author:
  - The gpufleet.ollama developers (@gpufleet)
extends_documentation_fragment:
  - gpufleet.ollama._attributes
  - gpufleet.ollama._attributes.linux
  - gpufleet.ollama._service
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  gpus:
    description: The GPUs, each a mapping with C(uuid) and C(name).
    type: list
    elements: dict
    required: true
    suboptions:
      uuid:
        description: The UUID, by which the GPU is known again.
        type: str
        required: true
      name:
        description: The name, for a reader.
        type: str
        required: true
  version:
    description: The version of Ollama.
    type: str
    default: ""
  engine_build:
    description: The number of the llama.cpp build that it runs.
    type: int
  observed:
    description: Loads that took more than foretold, as a plan tells them as C(observed).
    type: list
    elements: dict
    default: []
seealso:
  - module: gpufleet.ollama.ollama_host_info
  - module: gpufleet.ollama.ollama_plan
"""

EXAMPLES = r"""
- name: Remember which GPUs the plan was applied for
  gpufleet.ollama.planned_gpus:
    gpus:
      - uuid: GPU-2a3b9d0e-8c4d-4c33-8a55-0d2b6ff2a0f1
        name: NVIDIA GeForce RTX 3060
"""

RETURN = r"""
path:
  description: The file.
  returned: always
  type: str
  sample: /var/lib/gpufleet/ollama.service/planned_gpus.json
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._archive import compile_once

# Before all else of ours is imported.
compile_once()

from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._planned import (
    RecordError,
    path_in,
    record_of,
    remember,
    remembered,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._arguments import SERVICE_ARGUMENTS
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    UnitNameError,
    state_directory,
)


def main() -> None:
    gpu = {"uuid": {"type": "str", "required": True}, "name": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            **SERVICE_ARGUMENTS,
            "gpus": {"type": "list", "elements": "dict", "required": True, "options": gpu},
            "version": {"type": "str", "default": ""},
            "engine_build": {"type": "int"},
            "observed": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    wanted = record_of(*(module.params[name] for name in ("gpus", "version", "engine_build", "observed")))
    try:
        path = path_in(state_directory(module.params["scope"], module.params["unit"]))
        changed = _known(path) != wanted
        if changed and not module.check_mode:
            remember(path, wanted)
    except (RecordError, UnitNameError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, path=path)


def _known(path: str) -> object:
    try:
        return remembered(path)
    except RecordError:
        return None  # what cannot be read is written anew


if __name__ == "__main__":
    main()
