# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loads models into an Ollama service in an order, and tells where each one lies then."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_load
short_description: Load models into an Ollama service in a given order, and tell where they lie
version_added: 1.0.0
description:
  - Loads the models one after the other, because the order decides what Ollama evicts, and then looks at all, or
    at each as soon as it is loaded.
  - Tells for each the context length and the sizes from C(/api/ps), and the slots from its runner's command
    line, because no API tells them.
  - Compares this with what is planned.
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
      - In check mode it loads nothing and looks at what is loaded.
  diff_mode:
    support: none
options:
  models:
    description: The models in the order in which to load them, and what is planned for each.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The model with its tag.
        type: str
        required: true
      context_length:
        description: Context length per slot in tokens.
        type: int
      num_parallel:
        description: Number of slots.
        type: int
      placement:
        description: V(gpu) when the model must lie wholly in GPU memory.
        type: str
        choices: [gpu, cpu]
        default: gpu
  also:
    description: Further models to load afterwards, of which nothing is expected; those in O(models) are skipped.
    type: list
    elements: str
    default: []
  together:
    description:
      - Whether the models are to stay loaded together, so that all are looked at in the end.
      - If not, each is looked at as soon as it is loaded, because a later one may take its place.
    type: bool
    default: true
  keep_alive:
    description:
      - How long the models stay loaded, as Ollama's API takes it, for example V(24h) or V(-1) for ever.
      - By default as long as the service's settings say.
    type: str
  timeout_seconds:
    description: How long to wait for each model at most.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: Load the planned models in the plan's order
  gpufleet.ollama.ollama_load:
    models:
      - name: gpt-oss:20b
        context_length: 32768
        num_parallel: 4
      - name: nomic-embed-text:latest
    keep_alive: "-1"
  register: loaded
"""

RETURN = r"""
models:
  description: What was seen of each model.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The model.
      type: str
    loaded:
      description:
        - Whether it is loaded. Tags of one file with the same projector and adapters share a runner, which Ollama lists under
          the name of the first; the others are loaded then, too.
      type: bool
    context_length:
      description: Context length per slot in tokens.
      type: int
    num_parallel:
      description: Number of slots; null when the runner's command line does not tell.
      type: int
    size_bytes:
      description: What Ollama counts for it, in bytes.
      type: int
    size_vram_bytes:
      description: The part of it in GPU memory, in bytes.
      type: int
    pid:
      description: Its runner.
      type: int
    error:
      description: Why it could not be loaded.
      type: str
differences:
  description: How the models differ from what is planned; empty when they do not.
  returned: always
  type: list
  elements: dict
  contains:
    layer:
      description: Always V(model).
      type: str
    variable:
      description: The model.
      type: str
    found:
      description: What was found.
      type: str
    wanted:
      description: What is planned.
      type: str
    message:
      description: One sentence with both.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._archive import compile_once

# Before all else of ours is imported.
compile_once()

from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._watch import MARGIN_SECONDS, watched
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import ApiError
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._loading import (
    load_in_order,
    most_seconds,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import unlike
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._residence import Planned, differences
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._arguments import SERVICE_ARGUMENTS
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._command import runner
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import SystemdError, manager


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **SERVICE_ARGUMENTS,
            "models": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "context_length": {"type": "int"},
                    "num_parallel": {"type": "int"},
                    "placement": {"type": "str", "choices": ["gpu", "cpu"], "default": "gpu"},
                },
            },
            "also": {"type": "list", "elements": "str", "default": []},
            "together": {"type": "bool", "default": True},
            "keep_alive": {"type": "str"},
            "timeout_seconds": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    options = module.params
    planned = [
        Planned(model["name"], model["context_length"], model["num_parallel"], model["placement"])
        for model in options["models"]
    ]
    run = runner(module)
    names = unlike([*(plan.name for plan in planned), *options["also"]])
    limit = most_seconds(len(names), options["timeout_seconds"]) + MARGIN_SECONDS
    try:
        with watched(module.fail_json, limit, "ollama_load"):
            manager(run, options["scope"])
            outcome = load_in_order(
                run,
                options["scope"],
                options["unit"],
                names,
                options["keep_alive"],
                options["timeout_seconds"],
                module.check_mode,
                options["together"],
            )
    except (ApiError, SystemdError) as error:
        module.fail_json(msg=str(error))
    result = {
        "models": [model.to_dict() for model in outcome.models],
        "differences": differences(planned, outcome.models),
    }
    errors = [model.error for model in outcome.models if model.error]
    if errors:
        module.fail_json(msg="; ".join(errors), changed=outcome.changed, **result)
    module.exit_json(changed=outcome.changed, **result)


if __name__ == "__main__":
    main()
