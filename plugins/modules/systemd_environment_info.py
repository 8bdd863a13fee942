# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a systemd unit's environment: who sets each variable, what systemd holds, what the process has."""

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_environment_info
short_description: Read the environment of a systemd service, where it comes from and what its process has
version_added: 1.0.0
description:
  - For every variable of a service it tells the value, the file and line that set it, and the places that are
    overridden, among the fragment, the drop-ins in systemd's order and the files named by C(EnvironmentFile=).
  - It shows beside each other what lies on disk now, what systemd holds for the unit, and the environment of the
    running main process.
  - Given the drop-in that should be there, it also tells how each of these layers differs from it, and which file
    would decide a variable instead of the drop-in.
  - It reads only, for any service of the system or of a user.
  - It ends with a failure when it takes longer than 120 seconds, and by itself when nobody waits for it any more.
author:
  - The gpufleet.ollama developers (@gpufleet)
extends_documentation_fragment:
  - gpufleet.ollama._attributes
  - gpufleet.ollama._attributes.reads_only
  - gpufleet.ollama._attributes.systemd
  - gpufleet.ollama._service
options:
  dropin_name:
    description: File name of the drop-in that O(dropin_content) is compared with.
    type: str
    default: zz-gpufleet.conf
  dropin_content:
    description:
      - The drop-in as it should be, as text of a unit file. Its C(Environment=) settings are what is wanted.
      - Empty text means that there should be no drop-in. Where it is not given, nothing is compared.
      - It is not shown or logged, because it may hold secrets.
    type: str
  runtime:
    description:
      - Whether the drop-in lies below C(/run) (of a user, below C(XDG_RUNTIME_DIR)), where the next boot removes it, as with
        C(systemctl edit --runtime). Drop-ins are read in the order of their names, wherever they lie.
    type: bool
    default: false
  expect_active:
    description:
      - Whether the service is to be active. Where it is not, that is a difference, too, of the layer V(process) and
        without a variable.
    type: bool
    default: false
  server_config:
    description:
      - Also read from the journal how Ollama itself parsed its environment (its C(server config) line), and compare
        it with what is wanted.
    type: bool
    default: false
  gpus:
    description:
      - GPUs that the server is to compute on, each with C(uuid), C(name) and C(pci_bus_id), as they stand in a plan. One that
        the server, by the journal, could see and did not take is a difference, of the layer V(server) and without a variable.
    type: list
    elements: dict
    default: []
  details:
    description:
      - Whether all that was found is returned, or with V(false) only what a comparison comes to. Ansible keeps of each host
        what a task returns, which adds up in a run over many.
    type: bool
    default: true
  show_secrets:
    description:
      - Return the values of variables whose names look like secrets (KEY, TOKEN, SECRET, PASSWORD, CREDENTIAL) and
        the credentials in URLs, instead of V(********).
    type: bool
    default: false
seealso:
  - module: gpufleet.ollama.systemd_dropin
"""

EXAMPLES = r"""
- name: Read the environment of Ollama and where it comes from
  gpufleet.ollama.systemd_environment_info:
  register: ollama

- name: Show who sets OLLAMA_HOST
  ansible.builtin.debug:
    msg: "{{ ollama.variables.OLLAMA_HOST.file }}:{{ ollama.variables.OLLAMA_HOST.line }}"
  when: "'OLLAMA_HOST' in ollama.variables"

- name: Tell whether the running process lacks what is wanted
  gpufleet.ollama.systemd_environment_info:
    unit: ollama@gpu0.service
    dropin_content: |
      [Service]
      Environment="OLLAMA_NUM_PARALLEL=3"
  register: wanted_of_gpu0
"""

RETURN = r"""
unit:
  description: The service.
  returned: when O(details=true)
  type: str
  sample: ollama.service
scope:
  description: Whether it is a service of the system or of a user.
  returned: when O(details=true)
  type: str
service_id:
  description:
    - Names the service on its machine, and is the same for two inventory names of one service, until the machine is started
      again. Empty where the machine has no id.
  returned: always
  type: str
  sample: 8c7dd922ad47494fc02c388e12c00eac
systemd_version:
  description: systemd's major version.
  returned: when O(details=true)
  type: int
  sample: 252
exists:
  description: Whether systemd finds the unit.
  returned: always
  type: bool
load_state:
  description: systemd's LoadState.
  returned: when O(details=true)
  type: str
  sample: loaded
load_error:
  description: systemd's LoadError; empty when there is none.
  returned: when O(details=true)
  type: str
active_state:
  description: systemd's ActiveState.
  returned: when O(details=true)
  type: str
  sample: active
sub_state:
  description: systemd's SubState.
  returned: when O(details=true)
  type: str
  sample: running
result:
  description: systemd's Result of the last run.
  returned: when O(details=true)
  type: str
  sample: success
unit_file_state:
  description: systemd's UnitFileState.
  returned: when O(details=true)
  type: str
  sample: enabled
need_daemon_reload:
  description: Whether systemd says that files of the unit changed since it read them.
  returned: when O(details=true)
  type: bool
main_pid:
  description: The main process; null when none runs.
  returned: when O(details=true)
  type: int
started_at:
  description: When the main process was started, ISO 8601 in UTC; null when none ever ran.
  returned: when O(details=true)
  type: str
  sample: "2026-08-30T10:00:00+00:00"
restarts:
  description: How often systemd restarted the service by itself (NRestarts).
  returned: when O(details=true)
  type: int
user:
  description: The user that the unit's C(User=) names; empty when it names none.
  returned: when O(details=true)
  type: str
dropin_path:
  description: Where the drop-in O(dropin_name) lies or would lie.
  returned: when O(details=true)
  type: str
  sample: /etc/systemd/system/ollama.service.d/zz-gpufleet.conf
fragment_path:
  description: The unit's own file.
  returned: when O(details=true)
  type: str
files:
  description: The fragment and the drop-ins on disk, in the order systemd reads them.
  returned: when O(details=true)
  type: list
  elements: dict
  contains:
    path:
      description: The file.
      type: str
    kind:
      description: V(fragment) or V(drop-in).
      type: str
environment_files:
  description: The files named by C(EnvironmentFile=) that exist, in the order systemd reads them.
  returned: when O(details=true)
  type: list
  elements: str
variables:
  description: For each variable that the files on disk set, its value and the place that wins.
  returned: when O(details=true)
  type: dict
  contains:
    value:
      description: The value, masked when the name looks like a secret.
      type: str
    file:
      description: The file that wins.
      type: str
    line:
      description: The line in that file, from 1.
      type: int
    kind:
      description: V(fragment), V(drop-in) or V(environment file).
      type: str
    overridden:
      description: The places that set it too and do not win, in the order systemd reads them.
      type: list
      elements: dict
environment:
  description: The Environment property as systemd holds it for the unit.
  returned: when O(details=true)
  type: dict
process_environment:
  description: The environment with which the main process was started; null when none runs or it may not be read.
  returned: when O(details=true)
  type: dict
process_differs:
  description: Names of the variables in RV(environment) that the process has otherwise or not at all.
  returned: when O(details=true)
  type: list
  elements: str
children:
  description: The other processes of the unit. An Ollama runner shows its context and slots as C(-c N -np P).
  returned: when O(details=true)
  type: list
  elements: dict
  contains:
    pid:
      description: The process.
      type: int
    command:
      description: Its command line, argument by argument.
      type: list
      elements: str
listening:
  description: The TCP ports on which the unit's processes listen.
  returned: when O(details=true)
  type: list
  elements: dict
  contains:
    address:
      description: The address.
      type: str
    port:
      description: The port.
      type: int
    pid:
      description: The process.
      type: int
wanted:
  description: The variables that O(dropin_content) sets; null where it is not given.
  returned: when O(details=true)
  type: dict
conflicts:
  description: The wanted variables that another file would decide, with what to remove.
  returned: always
  type: list
  elements: dict
  contains:
    variable:
      description: The variable.
      type: str
    file:
      description: The file that decides it.
      type: str
    line:
      description: The line in that file, from 1.
      type: int
    message:
      description: One sentence that says why, and what to remove.
      type: str
overrides:
  description: One sentence for each variable of another drop-in that ours overrides.
  returned: always
  type: list
  elements: str
in_sync:
  description: Whether RV(differences) and RV(unseen) are empty.
  returned: always
  type: bool
as_planned:
  description:
    - Whether there is nothing to apply. It is RV(in_sync), and RV(conflicts) and RV(refusals) are empty.
  returned: always
  type: bool
differences:
  description: How the layers differ from what is wanted; empty when they do not or nothing is wanted.
  returned: always
  type: list
  elements: dict
  contains:
    layer:
      description: V(file), V(unit) (what systemd holds), V(process) or V(server) (what Ollama parsed).
      type: str
    variable:
      description: The variable; empty when it is not about one.
      type: str
    found:
      description: What the layer has; null for nothing.
      type: str
    wanted:
      description: What it should have; null for nothing.
      type: str
    message:
      description: One sentence with found, wanted and the reason.
      type: str
    cause:
      description: Why it differs, in a word or two, where the layer and the values do not tell; else empty.
      type: str
server_config:
  description: The settings as Ollama parsed them; null when not asked for or not in the journal any more.
  returned: when O(details=true)
  type: dict
refusals:
  description: Why gpufleet.ollama does not manage the unit, one sentence each; empty when it does.
  returned: always
  type: list
  elements: str
stopped:
  description:
    - That somebody has stopped and disabled the service, so that it is not started without being asked for, in one sentence;
      else empty.
  returned: always
  type: str
unseen:
  description:
    - What the comparison needs and could not be read, mostly because the user may not, one sentence each. The service is
      then not RV(in_sync), whatever else was found.
  returned: always
  type: list
  elements: str
problems:
  description: RV(unseen), and what is not there to be read, such as a line that the journal no longer holds.
  returned: always
  type: list
  elements: str
notes:
  description: What is worth knowing and nothing to repair, one sentence each, as that the service will not start at boot,
    that a file sets variables outside of its [Service] section, or that the unit hides every GPU.
  returned: always
  type: list
  elements: str
file_edited:
  description: Whether our drop-in is another one than was put there; null where that is not known.
  returned: always
  type: bool
unproven:
  description:
    - Whether no run has seen the service healthy on our drop-in since it was written or brought back, as where one was killed
      before.
  returned: always
  type: bool
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._archive import compile_once

# Before all else of ours is imported.
compile_once()

from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._watch import READING_SECONDS, watched
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._taken import (
    GPU_DROPPED,
    dropped_words,
    is_taken,
    named_gpus,
    why_not,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._comparison import COMPARED, comparison
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_log import read_server_log
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._arguments import SERVICE_ARGUMENTS
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._command import runner
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._differences import SERVER, Difference
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._inspection import inspect, listening
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._place import DropinError
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    SystemdError,
    journal_of_invocation,
    manager,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **SERVICE_ARGUMENTS,
            "dropin_name": {"type": "str", "default": "zz-gpufleet.conf"},
            "dropin_content": {"type": "str", "no_log": True},
            "runtime": {"type": "bool", "default": False},
            "expect_active": {"type": "bool", "default": False},
            "server_config": {"type": "bool", "default": False},
            "gpus": {"type": "list", "elements": "dict", "default": []},
            "details": {"type": "bool", "default": True},
            "show_secrets": {"type": "bool", "default": False, "no_log": False},
        },
        supports_check_mode=True,
    )
    with watched(module.fail_json, READING_SECONDS, "systemd_environment_info"):
        _inspect(module)


def _inspect(module: AnsibleModule) -> None:
    options = module.params
    run = runner(module)
    try:
        found = inspect(
            run,
            manager(run, options["scope"]),
            options["unit"],
            options["dropin_name"],
            options["dropin_content"],
            options["runtime"],
        )
    except (DropinError, SystemdError) as error:
        module.fail_json(msg=str(error))
    result = comparison(
        found,
        expect_active=options["expect_active"],
        server_config=options["server_config"],
        dropped=_dropped(found.state.invocation_id, options["gpus"]),
        show_secrets=options["show_secrets"],
    )
    result["listening"] = listening(found)
    if not options["details"]:
        result = {name: result[name] for name in COMPARED}
    module.exit_json(changed=False, **result)


def _dropped(invocation_id: str, described: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """The GPUs that the server did not take when it was started."""
    gpus = named_gpus(described)
    log = read_server_log(journal_of_invocation(invocation_id) if gpus else ())
    return [
        Difference(SERVER, "", "not used", gpu.name, dropped_words(gpu, why_not(log, gpu)), GPU_DROPPED)
        for gpu in gpus
        if is_taken(log, gpu) is False
    ]


if __name__ == "__main__":
    main()
