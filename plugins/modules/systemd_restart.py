# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has systemd read its unit files and restarts a service, without showing the service's environment."""

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_restart
short_description: Have systemd read its unit files, and restart a service
version_added: 0.1.0
description:
  - Runs C(systemctl daemon-reload), forgets failed starts, which would keep systemd from starting the service, and
    restarts it.
  - M(ansible.builtin.systemd_service) does much more, but returns all properties of the unit. Its environment is among
    them, with the secrets in it, and they would show in the output of a run.
author:
  - The gpufleet.ollama developers (@gpufleet)
extends_documentation_fragment:
  - gpufleet.ollama._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    support: full
    platforms: linux
    details:
      - Needs a host that was booted with systemd.
options:
  unit:
    description: The service, with its suffix.
    type: str
    default: ollama.service
  scope:
    description: Whether it is a service of the system or of the user who runs the module.
    type: str
    choices: [system, user]
    default: system
  restart:
    description: Whether to restart the service; if not, systemd only reads its unit files, which is no change.
    type: bool
    default: true
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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._command import runner
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    SystemdError,
    manager,
    systemctl,
    unit_state,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "default": "ollama.service"},
            "scope": {"type": "str", "choices": ["system", "user"], "default": "system"},
            "restart": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    unit, scope, restart = module.params["unit"], module.params["scope"], module.params["restart"]
    run = runner(module)
    try:
        manager(run, scope)
        before = unit_state(run, scope, unit).main_pid or None
        if not module.check_mode:
            _systemctl(module, "daemon-reload")
            if restart:
                # A unit that never failed has nothing to forget: whatever it answers is fine.
                run([*systemctl(scope), "reset-failed", "--", unit])
                _systemctl(module, "restart", "--", unit)
        after = unit_state(run, scope, unit).main_pid or None
    except SystemdError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=restart, main_pid_before=before, main_pid=after)


def _systemctl(module: AnsibleModule, *arguments: str) -> None:
    answer = runner(module)([*systemctl(module.params["scope"]), *arguments])
    if answer.return_code != 0:
        said = answer.stderr.strip() or f"exit status {answer.return_code}"
        module.fail_json(msg=f"systemctl {' '.join(arguments)} failed: {said}")


if __name__ == "__main__":
    main()
