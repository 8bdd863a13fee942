# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits until an Ollama service is healthy, or until it has no request in flight."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_wait
short_description: Wait until an Ollama service is healthy, or idle
version_added: 1.0.0
description:
  - Waits on the host itself. Until the service is healthy that is one execution, so that a lost connection to the host costs
    nothing; until it is idle, the module is executed anew every 15 seconds, to say what is still in flight.
  - A service is healthy when the process that answers at its address is its own, and has been the same one,
    without a restart, for O(stable_seconds). The address is read from the environment of the running process.
  - A service is idle when nobody but the host's own runners is connected to its API and no runner computes.
  - Nothing is changed.
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
      - It changes nothing; in check mode it looks once and does not wait.
  diff_mode:
    support: N/A
    details:
      - It changes nothing.
options:
  condition:
    description:
      - V(healthy) fails when the service is not healthy in time, with the last lines of its journal.
      - V(idle) does not fail; RV(idle) tells.
    type: str
    choices: [healthy, idle]
    default: healthy
  timeout_seconds:
    description: How long to wait at most.
    type: int
    default: 60
  stable_seconds:
    description: How long a healthy service must have stayed the same process.
    type: float
    default: 2
seealso:
  - module: gpufleet.ollama.systemd_environment_info
"""

EXAMPLES = r"""
- name: Wait until Ollama answers and stays up
  gpufleet.ollama.ollama_wait:
    timeout_seconds: 120

- name: Wait up to ten minutes for the requests in flight
  gpufleet.ollama.ollama_wait:
    condition: idle
    timeout_seconds: 600
  register: drained
"""

RETURN = r"""
healthy:
  description: Whether the service is healthy.
  returned: when O(condition=healthy)
  type: bool
idle:
  description: Whether the service is idle.
  returned: when O(condition=idle)
  type: bool
reason:
  description: What was seen last, in one sentence.
  returned: always
  type: str
loaded_models:
  description: The models that are loaded.
  returned: when O(condition=idle)
  type: list
  elements: str
url:
  description: Where the API of the running process listens, as its own host reaches it.
  returned: always
  type: str
  sample: http://127.0.0.1:11434
version:
  description: The version that the API answers; null when it does not.
  returned: when O(condition=healthy)
  type: str
journal:
  description: The lines that tell why the service ended, such as those of a panic, else the last that it wrote since it was
    started last; credentials masked.
  returned: when it is not healthy
  type: list
  elements: str
waited_seconds:
  description: How long it took.
  returned: always
  type: float
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._archive import compile_once

# Before all else of ours is imported.
compile_once()

from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._watch import MARGIN_SECONDS, watched
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _service
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._health import busy, judge, told
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._arguments import SERVICE_ARGUMENTS
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._command import runner
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import Run, SystemdError, manager

POLL_SECONDS = 0.5


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **SERVICE_ARGUMENTS,
            "condition": {"type": "str", "choices": ["healthy", "idle"], "default": "healthy"},
            "timeout_seconds": {"type": "int", "default": 60},
            "stable_seconds": {"type": "float", "default": 2.0},
        },
        supports_check_mode=True,
    )
    run = runner(module)
    wait = _wait_until_healthy if module.params["condition"] == "healthy" else _wait_until_idle
    limit = module.params["timeout_seconds"] + module.params["stable_seconds"] + MARGIN_SECONDS
    try:
        with watched(module.fail_json, limit, "ollama_wait"):
            manager(run, module.params["scope"])
            wait(module, run)
    except SystemdError as error:
        module.fail_json(msg=str(error))


def _wait_until_healthy(module: AnsibleModule, run: Run) -> None:
    unit, scope = module.params["unit"], module.params["scope"]
    began, since_s = time.monotonic(), time.time()
    sights = []
    while True:
        sights.append(_service.look(run, scope, unit))
        verdict = judge(unit, sights, module.params["stable_seconds"])
        waited = time.monotonic() - began
        over = module.check_mode or verdict.hopeless or waited >= module.params["timeout_seconds"]
        if verdict.healthy or over:
            break
        time.sleep(POLL_SECONDS)
    result: dict[str, Any] = {
        "healthy": verdict.healthy,
        "reason": verdict.reason,
        "url": sights[-1].url,
        "version": sights[-1].answer,
        "waited_seconds": round(waited, 1),
    }
    if not verdict.healthy:
        result["journal"] = _service.last_words(run, scope, unit, since_s)
        if not module.check_mode:
            module.fail_json(msg=f"{verdict.reason}. {told(result['journal'])}", **result)
    module.exit_json(changed=False, **result)


def _wait_until_idle(module: AnsibleModule, run: Run) -> None:
    unit, scope = module.params["unit"], module.params["scope"]
    began = time.monotonic()
    loads = []
    while True:
        load, url = _service.activity(run, scope, unit)
        loads.append(load)
        reason = busy(loads)
        waited = time.monotonic() - began
        if reason is None or waited >= module.params["timeout_seconds"]:
            break
        time.sleep(POLL_SECONDS)
    module.exit_json(
        changed=False,
        idle=reason is None,
        reason=reason or f"{unit} has no request in flight",
        url=url,
        loaded_models=_service.loaded_models(run, scope, unit),
        waited_seconds=round(waited, 1),
    )


if __name__ == "__main__":
    main()
