# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has models on a host, or not, through the host's own Ollama."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_model
short_description: Have models on a host, or not, through its own Ollama
version_added: 1.0.0
description:
  - Pulls models that lack, makes them from a file, and removes those that are named with O(models[].state=absent). Nothing
    else is removed, and a model that is loaded is not.
  - A model that is installed is left as it is, unless O(models[].digest) pins another one.
  - Before anything comes, the registry is asked for the sizes, by the host itself, and the disk must have room.
  - The action of this module pulls in slices of O(slice_seconds) and shows after each, on standard error, how far the pull is,
    its rate and the time that is left. A pull that was broken off goes on where it was, as Ollama does it.
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
      - The registry is asked, so that what would come and whether it fits is told.
  diff_mode:
    support: full
options:
  models:
    description: The models, each once. One may be given by its name alone.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - The model with its tag. One of a private registry with host and port, as V(registry.example.com:5000/team/model:v1).
        type: str
        required: true
      state:
        description: V(absent) removes it, where it is not loaded.
        type: str
        choices: [present, absent]
        default: present
      digest:
        description:
          - The digest that it must have, 12 to 64 hex digits, as C(ollama list) shows it under ID. With another one in the
            registry nothing is pulled. Where another one is installed, the model is pulled again.
          - With O(models[].file) the file's own, as C(sha256sum) shows it, which is looked at before the model is made.
        type: str
        default: ""
      file:
        description:
          - A GGUF file on the host to make the model of, in place of a registry. An installed model of this name is left as
            it is.
        type: path
      insecure:
        description: Whether the registry is asked by plain HTTP.
        type: bool
        default: false
  keep:
    description: Models that are never proposed for removal where the disk has no room.
    type: list
    elements: str
    default: []
  keep_free_bytes:
    description: What is to stay free of the disk.
    type: int
    default: 1073741824
  describe:
    description:
      - Whether the models that are to come are described, from the first bytes of their files, for
        M(gpufleet.ollama.ollama_plan).
    type: bool
    default: false
  look:
    description: Whether only to look, as in check mode.
    type: bool
    default: false
  slice_seconds:
    description: How long one execution on the host pulls, so that progress is shown.
    type: int
    default: 12
  idle_seconds:
    description: How long a pull may bring nothing before it is given up.
    type: int
    default: 120
  timeout_seconds:
    description: How long all of it may take.
    type: int
    default: 86400
"""

EXAMPLES = r"""
- name: Have two models, one of them pinned
  gpufleet.ollama.ollama_model:
    models:
      - name: llama3.1:8b
      - name: registry.example.com:5000/team/assistant:v1
        digest: 6d55ad0ba19f
  throttle: 4

- name: Make a model of a file, without a network
  gpufleet.ollama.ollama_model:
    models:
      - name: assistant:v1
        file: /srv/models/assistant.gguf

- name: Remove a model
  gpufleet.ollama.ollama_model:
    models:
      - name: llama2:70b
        state: absent
"""

RETURN = r"""
models:
  description: Each model, in the order of O(models).
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The model.
      type: str
    action:
      description: What was, or is, to be done, V(pull), V(create) or V(remove); empty for nothing.
      type: str
    done:
      description: Whether it is as asked for.
      type: bool
    digest:
      description: Its digest, of a model that is to come the registry's; empty where it is not known.
      type: str
    size_bytes:
      description: All its files; null where they are not known before they come.
      type: int
    missing_bytes:
      description: What of the disk they still take.
      type: int
    completed_bytes:
      description: What of them is here; null where they are not known.
      type: int
    layer:
      description: The digest of the file that is coming; empty where none is.
      type: str
    layer_bytes:
      description: The size of that file.
      type: int
    layer_completed_bytes:
      description: What of it is here, as Ollama says it, which need not reach the whole.
      type: int
    status:
      description: Ollama's last words.
      type: str
    note:
      description: What is not known, and why.
      type: str
done:
  description: Whether all models are as asked for. In check mode whether they were.
  returned: always
  type: bool
waiting:
  description: What kept the last slice from going on, where another try may find it mended; else empty.
  returned: always
  type: str
needed_bytes:
  description: What was to come, in bytes.
  returned: always
  type: int
free_bytes:
  description: What the disk has for others than root.
  returned: always
  type: int
models_path:
  description: The folder of the store.
  returned: always
  type: str
no_room:
  description: Why what is to come does not fit, with what would have to go; empty where it fits.
  returned: always
  type: str
descriptions:
  description: The models that are to come, as O(gpufleet.ollama.ollama_plan#module:models) takes them.
  returned: always
  type: list
  elements: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._archive import compile_once

# Before all else of ours is imported.
compile_once()

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import KEEP_FREE_BYTES
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._watch import watched
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import ApiError
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._upkeep import (
    REMOVE,
    UNDESCRIBED,
    ModelStep,
    Upkeep,
    UpkeepError,
    Wish,
    described,
    room,
    steps_for,
    upkeep_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._upkeep_slice import (
    carry_out,
    completed_bytes,
    limit_seconds,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._arguments import SERVICE_ARGUMENTS
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._command import runner
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import SystemdError, manager

MODEL_OPTIONS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "digest": {"type": "str", "default": ""},
    "file": {"type": "path"},
    "insecure": {"type": "bool", "default": False},
}
# Of a server that does not answer.
NOTHING_KNOWN: dict[str, Any] = {
    "needed_bytes": 0,
    "free_bytes": 0,
    "models_path": "",
    "no_room": "",
    "descriptions": [],
}
# For looking at all models before anything comes.
LOOK_SECONDS = 600


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **SERVICE_ARGUMENTS,
            "models": {"type": "list", "elements": "dict", "required": True, "options": MODEL_OPTIONS},
            "keep": {"type": "list", "elements": "str", "default": []},
            "keep_free_bytes": {"type": "int", "default": KEEP_FREE_BYTES},
            "describe": {"type": "bool", "default": False},
            "look": {"type": "bool", "default": False},
            "slice_seconds": {"type": "int", "default": 12},
            "idle_seconds": {"type": "int", "default": 120},
            "timeout_seconds": {"type": "int", "default": 86400},
        },
        supports_check_mode=True,
    )
    try:
        with watched(module.fail_json, LOOK_SECONDS, "ollama_model"):
            manager(runner(module), module.params["scope"])
            host, steps = _look(module)
            needed, no_room = room(host, steps, module.params["keep"], module.params["keep_free_bytes"])
            result = {
                "needed_bytes": needed,
                "free_bytes": host.free_bytes(),
                "models_path": host.models_path,
                "no_room": no_room,
                "descriptions": _descriptions(host, steps) if module.params["describe"] else [],
            }
        before = [_line(step.name, host.digest_of(step.name)) for step in steps]
        _finish(module, host, steps, before, result)
    except ApiError as error:
        if module.check_mode or module.params["look"]:
            module.fail_json(msg=str(error))
        # It may be one that systemd starts again.
        module.exit_json(changed=False, done=False, waiting=str(error), models=[], **NOTHING_KNOWN)
    except (SystemdError, UpkeepError, OSError) as error:
        module.fail_json(msg=str(error))


def _look(module: AnsibleModule) -> tuple[Upkeep, list[ModelStep]]:
    options = module.params
    host = upkeep_of(runner(module), options["scope"], options["unit"])
    wishes = [Wish(**{**model, "file": model["file"] or ""}) for model in options["models"]]
    return host, steps_for(host, wishes)


def _finish(
    module: AnsibleModule, host: Upkeep, steps: list[ModelStep], before: list[str], result: dict[str, Any]
) -> None:
    """Does what is to be done, or in check mode says what would be."""
    options = module.params
    only_looks = module.check_mode or options["look"]
    changed, waiting = any(step.action for step in steps) and not options["look"], ""
    if not only_looks:
        if result["no_room"]:
            module.fail_json(msg=result["no_room"], changed=False)
        with watched(module.fail_json, limit_seconds(steps, options["slice_seconds"]), "ollama_model"):
            changed, waiting = carry_out(host, steps, options["slice_seconds"])
    after = [
        _line(step.name, "" if step.action == REMOVE else step.digest or "made of a file")
        for step in steps
        if step.is_done or only_looks
    ]
    for step in steps:
        if step.note:
            module.warn(f"model {step.name}: {step.note}")
    if only_looks:
        for step in steps:
            step.is_done = not step.action
    module.exit_json(
        changed=changed,
        done=all(step.is_done for step in steps),
        waiting=waiting,
        models=[_told(host, step) for step in steps],
        diff={"before": "".join(before), "after": "".join(after)},
        **result,
    )


def _line(name: str, digest: str) -> str:
    return f"{name} {digest[:12]}\n" if digest else ""


def _descriptions(host: Upkeep, steps: list[ModelStep]) -> list[dict[str, Any]]:
    """Of the models that are to come; what of one cannot be told is its note."""
    found = []
    for step in steps:
        if step.action in ("", REMOVE):
            continue
        try:
            found.append(described(host, step))
        except UNDESCRIBED as error:
            step.note = step.note or str(error)
    return found


def _told(host: Upkeep, step: ModelStep) -> dict[str, Any]:
    told = step.told
    return {
        "name": step.name,
        "action": step.action,
        "done": step.is_done,
        "digest": step.digest,
        "size_bytes": step.size_bytes,
        "missing_bytes": step.missing_bytes,
        "completed_bytes": completed_bytes(host, step),
        "layer": told.digest,
        "layer_bytes": told.totals.get(told.digest, 0),
        "layer_completed_bytes": told.completed.get(told.digest, 0),
        "status": told.status,
        "note": step.note,
    }


if __name__ == "__main__":
    main()
