# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of `ollama_benchmark_setting`, whose action executes other modules of this collection on the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_benchmark_setting
short_description: Have a service run with other settings while it is measured, or without them again
version_added: 1.0.0
description:
  - Puts a drop-in below C(/run) that sorts after all others, restarts the service and waits until it is healthy, in one task. A
    timer on the host takes all of it back if the run does not, and so does the next boot.
  - With no O(environment) it takes it back.
  - Refuses what P(gpufleet.ollama.ollama_override#role) refuses, and restarts as its variables say. These are
    C(ollama_override_drain_timeout), C(ollama_override_restart_timeout), C(ollama_override_health_timeout),
    C(ollama_override_stable_seconds), C(ollama_override_start_stopped) and C(ollama_override_also_known).
author:
  - The gpufleet.ollama developers (@gpufleet)
extends_documentation_fragment:
  - gpufleet.ollama._attributes
  - gpufleet.ollama._attributes.systemd
  - gpufleet.ollama._service
attributes:
  check_mode:
    support: none
  diff_mode:
    support: none
options:
  environment:
    description:
      - The settings by name, beside what other files set; without it the drop-in is removed.
      - It is not shown or logged, because it may hold secrets.
    type: dict
  version:
    description: The version of Ollama whose settings are known; by default the newest.
    type: str
    default: ""
  dropin_name:
    description: File name of the drop-in.
    type: str
    required: true
  guard_seconds:
    description: After how many seconds the host takes it back by itself.
    type: int
    default: 3600
  may_disturb:
    description: Whether a server that others are connected to may be restarted.
    type: bool
    default: false
seealso:
  - module: gpufleet.ollama.ollama_benchmark
"""

EXAMPLES = r"""
- name: Serve two requests at once for a while
  gpufleet.ollama.ollama_benchmark_setting:
    environment:
      OLLAMA_NUM_PARALLEL: "2"
    dropin_name: zzz-experiment.conf

- name: Serve as before
  gpufleet.ollama.ollama_benchmark_setting:
    dropin_name: zzz-experiment.conf
"""

RETURN = r"""
"""
