# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes, removes or restores a drop-in of a systemd service that this collection owns."""

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_dropin
short_description: Write a verified drop-in of a systemd service, and bring former ones back
version_added: 1.0.0
description:
  - Has systemd read a drop-in before it is put in place, because C(systemd-analyze verify) accepts broken drop-ins
    unless they are staged for it, and systemd starts a service without the settings it ignores.
  - Replaces the file atomically and keeps the versions that stood there before, so that they can be restored.
  - Writes the secret values of its C(Environment=) lines, those of names like C(HF_TOKEN) and the credentials of URLs, to an
    environment file beside it that its owner alone may read (C(zz-gpufleet.env)), and names that in their place. What is said
    here of the drop-in is true of both together.
  - Never touches a file that it did not write; it knows its own by a line in them.
  - Waits while another run changes the same service, for 200 seconds at most.
  - Does not reload systemd and does not restart the service.
author:
  - The gpufleet.ollama developers (@gpufleet)
extends_documentation_fragment:
  - gpufleet.ollama._attributes
  - gpufleet.ollama._attributes.systemd
  - gpufleet.ollama._service
attributes:
  check_mode:
    support: full
    details:
      - The drop-in is verified in check mode too.
  diff_mode:
    support: full
    details:
      - Secret values are masked.
options:
  name:
    description: File name of the drop-in. Drop-ins are read in the order of their names, and later ones win.
    type: str
    default: zz-gpufleet.conf
  content:
    description:
      - The drop-in's text, required for O(state=present).
      - It is not shown or logged, because it may hold secrets.
    type: str
  state:
    description:
      - V(present) puts the drop-in in place.
      - V(absent) removes it.
      - V(restored) brings back what stood there before O(change) or before O(rollout), which may be no drop-in. Where that is
        not known, or is how it stands, nothing is changed, and RV(told) says so.
      - V(proven) notes that the service was seen healthy on O(change), so that no later run takes it back for a failure of
        its own.
      - A unit has one drop-in of this collection. One that was written under another O(name) is removed together with what
        V(present) and V(absent) do, and comes back with V(restored).
    type: str
    choices: [present, absent, restored, proven]
    default: present
  change:
    description:
      - With O(state=restored), the change to take back, RV(change) of the run that made it. Where another run has changed
        the drop-in since, what that one wrote stays, and what this one wrote is not restored when that is taken back.
      - With O(state=proven), the change on which the service is healthy.
    type: str
    default: ""
  rollout:
    description:
      - Names the run over many hosts that makes the change, in letters, digits and hyphens. It is kept with what the change
        replaces. That of a benchmark, V(benchmark), leaves the unit's other drop-in alone.
      - With O(state=restored) and without O(change), all changes since the first one of this rollout are taken back; where it
        is empty, those of the rollout that has changed this unit last, once.
    type: str
    default: ""
  runtime:
    description:
      - Whether the drop-in lies below C(/run) (of a user, below C(XDG_RUNTIME_DIR)), where the next boot removes it, as with
        C(systemctl edit --runtime). Drop-ins are read in the order of their names, wherever they lie.
    type: bool
    default: false
  keep:
    description: How many former versions to keep.
    type: int
    default: 5
seealso:
  - module: gpufleet.ollama.systemd_environment_info
"""

EXAMPLES = r"""
- name: Let Ollama serve three requests at once
  gpufleet.ollama.systemd_dropin:
    content: |
      [Service]
      Environment="OLLAMA_NUM_PARALLEL=3"
  register: dropin

- name: Bring back what stood there before
  gpufleet.ollama.systemd_dropin:
    state: restored
"""

RETURN = r"""
path:
  description: The drop-in.
  returned: always
  type: str
  sample: /etc/systemd/system/ollama.service.d/zz-gpufleet.conf
existed:
  description: Whether the drop-in was there before.
  returned: always
  type: bool
exists:
  description: Whether it is there now (in check mode, would be).
  returned: always
  type: bool
formers:
  description: How many former versions can be restored.
  returned: always
  type: int
change:
  description:
    - The change to take back if the service does not run on it, made now, or by a run that ended before it had seen the
      service healthy. Empty where there is none.
  returned: always
  type: str
  sample: change-00000012+20260830T101500Z-4f2a
restored:
  description: Whether a former version was brought back (in check mode, would be).
  returned: always
  type: bool
unproven:
  description: Whether no run has seen the service healthy on the drop-in since it was brought back.
  returned: always
  type: bool
told:
  description: With O(state=restored), what the unit was returned to, or why it was left as it is, in one sentence.
  returned: always
  type: str
rollouts:
  description: The rollouts that are known to have changed the unit, oldest first; of a change without one, the change.
  returned: always
  type: list
  elements: str
superseded:
  description: Whether another run has changed the drop-in since O(change), so that nothing was restored.
  returned: always
  type: bool
complaints:
  description: What systemd says of other files of the unit while it reads them.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._arguments import SERVICE_ARGUMENTS
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._command import Abandoned, runner
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._dropin import DropinRequest, change
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._former import is_rollout
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._lock import LockError
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._place import DropinError
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import SystemdError, manager


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **SERVICE_ARGUMENTS,
            "name": {"type": "str", "default": "zz-gpufleet.conf"},
            "content": {"type": "str", "no_log": True},
            "state": {
                "type": "str",
                "choices": ["present", "absent", "restored", "proven"],
                "default": "present",
            },
            "change": {"type": "str", "default": ""},
            "runtime": {"type": "bool", "default": False},
            "rollout": {"type": "str", "default": ""},
            "keep": {"type": "int", "default": 5},
        },
        required_if=[("state", "present", ["content"])],
        supports_check_mode=True,
    )
    options = module.params
    if options["keep"] < 1:
        module.fail_json(msg=f"keep is {options['keep']}: at least one former version must be kept")
    if options["rollout"] and options["state"] != "restored" and not is_rollout(options["rollout"]):
        module.fail_json(
            msg=f"{options['rollout']!r} names no rollout: letters, digits and hyphens, at most 64 of them"
        )
    run = runner(module)
    try:
        asked = DropinRequest(
            unit=options["unit"],
            name=options["name"],
            state=options["state"],
            keep=options["keep"],
            only_foretold=module.check_mode,
            content=options["content"],
            taken_back=options["change"],
            runtime=options["runtime"],
            rollout=options["rollout"],
        )
        outcome = change(run, manager(run, options["scope"]), asked)
    except (Abandoned, DropinError, LockError, SystemdError) as error:
        module.fail_json(msg=str(error))
    result = outcome.to_dict()
    if module._diff:
        result["diff"] = {"prepared": outcome.diff}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
