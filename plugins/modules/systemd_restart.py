# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has systemd read its unit files and restarts a service, without showing the service's environment."""

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_restart
short_description: Have systemd read its unit files, and restart a service
version_added: 1.0.0
description:
  - Runs C(systemctl daemon-reload), forgets failed starts, which would keep systemd from starting the service, and
    restarts it.
  - Waits for the restart, but not for ever. When the time is up, systemd's job is cancelled and the module fails.
  - When the run that asked for it is gone, the module ends, and lets systemd finish what it has begun.
  - M(ansible.builtin.systemd_service) does much more, but returns all properties of the unit. Its environment is among
    them, with the secrets in it, and they would show in the output of a run.
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
  restart:
    description: Whether to restart the service; if not, systemd only reads its unit files, which is no change.
    type: bool
    default: true
  dropin_name:
    description: File name of the drop-in that O(dropin_content) is compared with.
    type: str
    default: zz-gpufleet.conf
  dropin_content:
    description:
      - The drop-in for whose sake the service is restarted; empty text where it is to run without one.
      - Where another run has changed it since, nothing is restarted, and the module fails.
      - It is not shown or logged, because it may hold secrets.
    type: str
  runtime:
    description:
      - Whether the drop-in lies below C(/run) (of a user, below C(XDG_RUNTIME_DIR)), where the next boot removes it, as with
        C(systemctl edit --runtime). Drop-ins are read in the order of their names, wherever they lie.
    type: bool
    default: false
  main_pid:
    description:
      - The main process that was seen to lack what O(dropin_content) sets. Where another one runs now, because another run
        has restarted the service, and it has everything, it is not restarted again.
    type: int
  timeout_seconds:
    description: How many seconds the service may take to stop and to start.
    type: int
    default: 180
seealso:
  - module: ansible.builtin.systemd_service
  - module: gpufleet.ollama.ollama_wait
"""

EXAMPLES = r"""
- name: Restart Ollama so that it takes a new drop-in
  gpufleet.ollama.systemd_restart:
    unit: ollama.service
"""

RETURN = r"""
main_pid_before:
  description: The main process before; null when none ran.
  returned: always
  type: int
main_pid:
  description: The main process now; null when none runs.
  returned: always
  type: int
"""

from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._archive import compile_once

# Before all else of ours is imported.
compile_once()

from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._arguments import SERVICE_ARGUMENTS
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._command import (
    Abandoned,
    finished_within,
    runner,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._differences import FILE, PROCESS
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._inspection import inspect
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._lock import LockError, locked
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._place import DropinError
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    Completed,
    Manager,
    SystemdError,
    manager,
    state_directory,
    systemctl,
    unit_state,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **SERVICE_ARGUMENTS,
            "restart": {"type": "bool", "default": True},
            "dropin_name": {"type": "str", "default": "zz-gpufleet.conf"},
            "dropin_content": {"type": "str", "no_log": True},
            "runtime": {"type": "bool", "default": False},
            "main_pid": {"type": "int"},
            "timeout_seconds": {"type": "int", "default": 180},
        },
        supports_check_mode=True,
    )
    unit, scope, restart = module.params["unit"], module.params["scope"], module.params["restart"]
    if module.params["timeout_seconds"] < 1:
        module.fail_json(msg=f"timeout_seconds is {module.params['timeout_seconds']}, expected at least 1")
    run = runner(module)
    try:
        service_manager = manager(run, scope)
        before = unit_state(run, scope, unit).main_pid or None
        restarted = restart
        if not module.check_mode:
            with locked(unit, state_directory(scope, unit)):
                restarted = _reload_and_restart(module, service_manager)
        after = unit_state(run, scope, unit).main_pid or None
    except (Abandoned, DropinError, LockError, SystemdError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=restarted, main_pid_before=before, main_pid=after)


def _reload_and_restart(module: AnsibleModule, service_manager: Manager) -> bool:
    options: dict[str, Any] = module.params
    _systemctl(module, "daemon-reload")
    if not options["restart"] or not _still_needed(module, service_manager):
        return False
    # A unit that never failed has nothing to forget: whatever it answers is fine.
    runner(module)([*systemctl(options["scope"]), "reset-failed", "--", options["unit"]])
    _restart(module)
    return True


def _still_needed(module: AnsibleModule, service_manager: Manager) -> bool:
    """Whether what was seen before still holds, now that no other run can change it."""
    options: dict[str, Any] = module.params
    content = options["dropin_content"]
    if content is None:
        return True
    found = inspect(
        runner(module),
        service_manager,
        options["unit"],
        options["dropin_name"],
        content,
        options["runtime"],
    )
    layers = {difference.layer for difference in found.differences}
    if FILE in layers:
        raise DropinError(
            f"another run has changed {found.place.path} since this one wrote it, and {options['unit']} was not "
            "restarted: let one run end before you start the other"
        )
    return found.process is None or found.state.main_pid == options["main_pid"] or PROCESS in layers


def _restart(module: AnsibleModule) -> None:
    unit, scope, seconds = (module.params[name] for name in ("unit", "scope", "timeout_seconds"))
    arguments = ["restart", "--", unit]
    answer = finished_within([*systemctl(scope), *arguments], seconds)
    if answer is not None:
        _check(module, arguments, answer)
        return
    run = runner(module)
    state = unit_state(run, scope, unit)
    # A unit has one job at a time, and systemctl was still waiting for it.
    if state.job:
        run([*systemctl(scope), "cancel", str(state.job)])
    module.fail_json(
        msg=f"{unit} was not restarted within {seconds} s: it is {state.active_state} ({state.sub_state}), and systemd's "
        f"job was cancelled; systemctl status {unit} tells what it waits for"
    )


def _systemctl(module: AnsibleModule, *arguments: str) -> None:
    _check(module, arguments, runner(module)([*systemctl(module.params["scope"]), *arguments]))


def _check(module: AnsibleModule, arguments: Sequence[str], answer: Completed) -> None:
    if answer.return_code != 0:
        said = answer.stderr.strip() or f"exit status {answer.return_code}"
        module.fail_json(msg=f"systemctl {' '.join(arguments)} failed: {said}")


if __name__ == "__main__":
    main()
