# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module `ollama_benchmark_result`: the benchmark that is kept on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_benchmark_result
short_description: Read, keep or remove the result of a benchmark on a host
version_added: 1.0.0
description:
  - The result lies in the collection's state folder of the service, C(/var/lib/gpufleet/<unit>/benchmark.json), for a
    user's service C(~/.local/state/gpufleet/<unit>/benchmark.json).
  - Without O(result) it is read.
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
  result:
    description: The result to keep in place of the one that is kept, if any.
    type: dict
  state:
    description: V(absent) removes what is kept.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Read the benchmark of this host
  gpufleet.ollama.ollama_benchmark_result:
  register: kept

- name: Forget the benchmark of this host
  gpufleet.ollama.ollama_benchmark_result:
    state: absent
"""

RETURN = r"""
result:
  description: The result that is kept now; empty where there is none.
  returned: always
  type: dict
path:
  description: The file.
  returned: always
  type: str
  sample: /var/lib/gpufleet/ollama.service/benchmark.json
problem:
  description: Why a file that is there cannot be used; empty where it can.
  returned: always
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._archive import compile_once

# Before all else of ours is imported.
compile_once()

from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._stored import (
    StoredError,
    path_in,
    read,
    remove,
    write,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._arguments import SERVICE_ARGUMENTS
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._place import DropinError, check_names
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import state_directory


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **SERVICE_ARGUMENTS,
            "result": {"type": "dict"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    options = module.params
    try:
        check_names(options["unit"], "benchmark.conf")
    except DropinError as error:
        module.fail_json(msg=str(error))
    path = path_in(state_directory(options["scope"], options["unit"]))
    problem = ""
    try:
        kept = read(path)
    except StoredError as error:
        kept, problem = None, str(error)
    wanted = kept if options["result"] is None else options["result"]
    if options["state"] == "absent":
        wanted = None
    changed = wanted != kept or bool(problem and (options["result"] or options["state"] == "absent"))
    try:
        if changed and not module.check_mode:
            if wanted is None:
                remove(path)
            else:
                write(path, wanted)
    except StoredError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, result=wanted or {}, path=path, problem="" if changed else problem)


if __name__ == "__main__":
    main()
