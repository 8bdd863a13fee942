# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has systemd remove a drop-in of a service later, unless it is told otherwise before."""

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_dropin_timer
short_description: Have systemd remove a drop-in of a service later
version_added: 1.0.0
description:
  - Starts a transient timer (C(systemd-run)) that removes a drop-in, has systemd read its unit files and restarts the service,
    for a run that may be killed before it does so itself.
  - The timer runs C(rm) and C(systemctl) without a shell. It does not outlive a boot.
author:
  - The gpufleet.ollama developers (@gpufleet)
extends_documentation_fragment:
  - gpufleet.ollama._attributes
  - gpufleet.ollama._attributes.systemd
  - gpufleet.ollama._service
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  dropin_name:
    description: File name of the drop-in.
    type: str
    required: true
  runtime:
    description: Whether the drop-in lies below C(/run) (of a user, below C(XDG_RUNTIME_DIR)).
    type: bool
    default: false
  state:
    description:
      - V(present) starts the timer; one that was started before begins anew.
      - V(absent) stops it.
    type: str
    choices: [present, absent]
    default: present
  seconds:
    description: After how many seconds the drop-in is removed, required for O(state=present).
    type: int
seealso:
  - module: gpufleet.ollama.systemd_dropin
"""

EXAMPLES = r"""
- name: Have the drop-in of an experiment removed within the hour, whatever becomes of this run
  gpufleet.ollama.systemd_dropin_timer:
    dropin_name: zzz-experiment.conf
    runtime: true
    seconds: 3600
"""

RETURN = r"""
timer:
  description: The timer.
  returned: success
  type: str
  sample: gpufleet-ollama_2e_service-zzz-experiment.timer
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._archive import compile_once

# Before all else of ours is imported.
compile_once()

from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._arguments import SERVICE_ARGUMENTS
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._command import runner
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._place import DropinError, Place, place
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    Run,
    SystemdError,
    dropin_base_directory,
    manager,
    state_directory,
    systemctl,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._timer import timer_command, timer_name

# systemctl(1): there is no such unit.
_NOT_LOADED = 5


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **SERVICE_ARGUMENTS,
            "dropin_name": {"type": "str", "required": True},
            "runtime": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "seconds": {"type": "int"},
        },
        required_if=[("state", "present", ["seconds"])],
        supports_check_mode=True,
    )
    options = module.params
    unit, scope = options["unit"], options["scope"]
    present = options["state"] == "present"
    if present and options["seconds"] < 1:
        module.fail_json(msg=f"seconds is {options['seconds']}, expected at least 1")
    run = runner(module)
    try:
        base = dropin_base_directory(scope, options["runtime"])
        where = place(unit, scope, options["dropin_name"], base, state_directory(scope, unit))
        manager(run, scope)
        changed = present
        if not module.check_mode:
            changed = _stop(run, where) or present
            if present:
                programs = (module.get_bin_path(name, required=True) for name in ("rm", "systemctl"))
                _told(run, timer_command(where, options["seconds"], *programs))
    except (DropinError, SystemdError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, timer=f"{timer_name(where)}.timer")


def _stop(run: Run, where: Place) -> bool:
    command = [*systemctl(where.scope), "stop", "--", f"{timer_name(where)}.timer"]
    return _told(run, command, _NOT_LOADED) == 0


def _told(run: Run, command: list[str], *also_fine: int) -> int:
    answer = run(command)
    if answer.return_code not in (0, *also_fine):
        said = answer.stderr.strip() or f"exit status {answer.return_code}"
        raise SystemdError(f"{command[0]} cannot set the timer that puts the former state back: {said}")
    return answer.return_code


if __name__ == "__main__":
    main()
