# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module `ollama_host_info`: all that the plan of a host is made of, read at once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_host_info
short_description: Read all that the plan of a host is made of, in one execution
version_added: 1.0.0
description:
  - Reads what M(gpufleet.ollama.gpu_facts), M(gpufleet.ollama.ollama_model_info),
    M(gpufleet.ollama.systemd_environment_info) and M(gpufleet.ollama.ollama_benchmark_result) read with their defaults,
    in one execution in place of four. Over a fleet, executions are what time is spent on.
  - Reads of the journal what the server has said since its start, the newest 16 MiB at most and no longer than a quarter of a
    second where there is more than 1 MiB.
  - What cannot be read does not hide the rest. It is a sentence in RV(failures).
  - It changes nothing but what O(keep_headers) keeps.
  - It ends with a failure when it takes longer than 120 seconds, and by itself when nobody waits for it any more.
author:
  - The gpufleet.ollama developers (@gpufleet)
extends_documentation_fragment:
  - gpufleet.ollama._attributes
  - gpufleet.ollama._attributes.reads_only
  - gpufleet.ollama._attributes.linux
  - gpufleet.ollama._service
options:
  gather:
    description: What to read.
    type: list
    elements: str
    choices: [service, gpu, models, measured, server]
    default: [service, gpu, models, measured, server]
  dropin_name:
    description: File name of the drop-in in which this collection sets the environment.
    type: str
    default: zz-gpufleet.conf
  environment:
    description:
      - Variables that the service is to have beside its own when it is decided which GPUs it sees; null removes one.
      - It is not logged, and values that look like secrets are not used.
    type: dict
    default: {}
  variables:
    description:
      - Names of other variables that the drop-in O(dropin_name) will set, and those of O(environment) with it. Which of
        them another file would decide is told as C(service.conflicts).
    type: list
    elements: str
    default: []
  secrets:
    description:
      - Names and values of the secret variables that the drop-in is to set. Where it sets just these, the service is compared
        with what the drop-in sets, RV(compared). Where they are not given, nothing is compared.
      - It is not shown or logged.
    type: dict
  first_models:
    description:
      - Names of models that are read before all others, because they are wanted.
      - At most 256 models are read of a host, then those that are loaded, then the others by name. How many are left out
        is said in C(models.problems).
    type: list
    elements: str
    default: []
  keep_headers:
    description:
      - Whether what was read of the models' files is kept in this collection's own folder on the host, C(/var/lib/gpufleet),
        so that the next reading takes a file as read that has not been changed since. Not in check mode.
      - Kept headers are used whether it is set or not, where they are the user's own and nobody else can write them.
    type: bool
    default: false
seealso:
  - module: gpufleet.ollama.gpu_facts
  - module: gpufleet.ollama.ollama_model_info
  - module: gpufleet.ollama.systemd_environment_info
  - module: gpufleet.ollama.ollama_benchmark_result
  - module: gpufleet.ollama.ollama_plan
"""

EXAMPLES = r"""
- name: Read all that a plan is made of
  gpufleet.ollama.ollama_host_info:
  register: host

- name: Plan with it
  gpufleet.ollama.ollama_plan:
    gpu: "{{ host.ansible_facts.gpufleet_gpu }}"
    models: "{{ host.models.models }}"
    unplannable: "{{ host.models.unplannable }}"
    version: "{{ host.models.version }}"
    service: "{{ host.service }}"
"""

RETURN = r"""
ansible_facts:
  description: The facts of M(gpufleet.ollama.gpu_facts).
  returned: when O(gather) has V(gpu)
  type: complex
  contains:
    gpufleet_gpu:
      description: What is known of the host's GPUs.
      returned: always
      type: dict
planned_gpus:
  description:
    - The GPUs that the plan of the service was applied for, as M(gpufleet.ollama.planned_gpus) has remembered them. Null where
      it has not.
  returned: when O(gather) has V(gpu)
  type: list
  elements: dict
  contains:
    uuid:
      description: The UUID.
      type: str
    name:
      description: The name.
      type: str
planned_for:
  description: What else the plan was applied for, as M(gpufleet.ollama.planned_gpus) has remembered it; empty where it has not.
  returned: when O(gather) has V(gpu)
  type: dict
  contains:
    version:
      description: The version of Ollama; empty where it was not remembered.
      type: str
    engine_build:
      description: The number of the llama.cpp build.
      type: int
    observed:
      description: Loads that took more than foretold.
      type: list
      elements: dict
planned_gpus_problem:
  description: Why what is remembered cannot be read.
  returned: when O(gather) has V(gpu)
  type: str
  sample: ""
models:
  description: What M(gpufleet.ollama.ollama_model_info) returns. Empty where the models cannot be read.
  returned: when O(gather) has V(models)
  type: dict
service:
  description: What M(gpufleet.ollama.systemd_environment_info) returns. Empty where the service cannot be read.
  returned: when O(gather) has V(service)
  type: dict
compared:
  description:
    - What M(gpufleet.ollama.systemd_environment_info) returns without C(details), and C(wanted), of a comparison with the
      variables that the drop-in sets as it lies there, for a service that is to be active, and with what Ollama parsed. Who
      wants just these has nothing else to compare.
    - Empty where O(secrets) is not given or the drop-in sets others, where there is none, and where it cannot be read.
  returned: when O(gather) has V(service)
  type: dict
measured:
  description: The result of a benchmark that is kept on the host. Empty where there is none.
  returned: when O(gather) has V(measured)
  type: dict
measured_problem:
  description: Why the result that is kept cannot be used.
  returned: when O(gather) has V(measured)
  type: str
  sample: ""
server:
  description:
    - What the server has said in the journal since its start. Nothing of it needs debugging to be on.
    - A service writes what it likes, so that this decides only what cannot do harm.
  returned: when O(gather) has V(server)
  type: dict
  contains:
    problem:
      description: Why it is not known what the server said, or not all of it; empty where it is.
      type: str
      sample: ""
    at_least:
      description: Whether lines are missing, so that every number is the least that it can be.
      type: bool
    started_at:
      description: When the server was started, in ISO 8601.
      type: str
    version:
      description: The version that the server called itself.
      type: str
    engine_build:
      description: The number of the llama.cpp build that its runners called themselves.
      type: int
    default_context_length:
      description: The context length, in tokens, that the server chose for requests which ask for none.
      type: int
    settings:
      description: What the server made of the variables that decide on GPUs and models, names to values.
      type: dict
    devices:
      description:
        - What the server computes on, as it said at its start. A single one of the library V(cpu) stands for no GPU.
        - Null where it is not known.
      type: list
      elements: dict
      contains:
        id:
          description: The server's own name for it, a UUID or a number.
          type: str
        library:
          description: What drives it, such as V(CUDA), V(ROCm), V(Vulkan) or V(cpu).
          type: str
        compute:
          description: Its compute capability or target.
          type: str
        name:
          description: The engine's name for it.
          type: str
        description:
          description: What it is.
          type: str
        driver:
          description: The version of the driver's interface.
          type: str
        pci_id:
          description: Its place on the PCI bus; empty where the server did not say.
          type: str
        total_bytes:
          description: Its memory.
          type: int
        available_bytes:
          description: What was free of it.
          type: int
    drops:
      description: What the server said about GPUs that it does not take, one sentence each.
      type: list
      elements: str
    loads:
      description: Each way in which models were loaded, with what the latest load of that way has said; at most 64.
      type: list
      elements: dict
      contains:
        blob:
          description: The name of the model's file.
          type: str
        context_total:
          description: Tokens of context of all slots together; -1 where it is not said, as with the other numbers.
          type: int
        parallel:
          description: Slots.
          type: int
        batch:
          description: Tokens computed at once.
          type: int
        kv_cache_type:
          description: Type of the KV cache; empty for the engine's own.
          type: str
        flash_attention:
          description: What the engine was told of flash attention.
          type: str
        num_gpu:
          description: Layers that are to lie on GPUs; -1 for as many as fit.
          type: int
        has_projector:
          description: Whether a projector was loaded with it.
          type: bool
        is_projector_on_gpu:
          description: Whether the projector is to lie on a GPU.
          type: bool
        has_adapter:
          description: Whether an adapter was loaded with it.
          type: bool
        split_mode:
          description: How the layers are to be split over GPUs; empty for the engine's own way.
          type: str
        when:
          description: When the latest load began, as the server wrote it.
          type: str
        count:
          description: How often it was loaded so.
          type: int
        layers_on_gpu:
          description: Layers on GPUs.
          type: int
        layers:
          description: All layers; 0 where the engine did not say.
          type: int
        gpu_ids:
          description: The devices that the server chose.
          type: list
          elements: str
        devices:
          description: The GPUs as the engine saw them.
          type: list
          elements: dict
          contains:
            name:
              description: The engine's name for it.
              type: str
            pci_id:
              description: Its place on the PCI bus; empty where the engine did not say.
              type: str
            free_bytes:
              description: What was free of it before the load.
              type: int
        buffers:
          description: What the engine allocated, by device and kind.
          type: list
          elements: dict
          contains:
            device:
              description: The engine's name for the device.
              type: str
            kind:
              description: V(weights), V(kv_cache), V(compute), V(output), V(projector_compute) or V(adapter).
              type: str
            size_bytes:
              description: All buffers of that kind there.
              type: int
    models:
      description: What became of each model, at most 256.
      type: list
      elements: dict
      contains:
        blob:
          description: The name of the model's file.
          type: str
        name:
          description: The model's name where the server said it.
          type: str
        loads:
          description: How often it was loaded.
          type: int
        evicted:
          description: How often it had to go for another one.
          type: int
        spilled:
          description: How often layers of it were left to the CPU.
          type: int
        failed:
          description: How often it could not be loaded.
          type: int
        error:
          description: Why, the last time.
          type: str
failures:
  description: What cannot be read although a plan needs it, one sentence each.
  returned: always
  type: list
  elements: str
  sample: []
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._archive import compile_once

# Before all else of ours is imported.
compile_once()

from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._stored import (
    StoredError,
    path_in,
    read,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._json import json_bytes
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._watch import READING_SECONDS, watched
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._facts import gpu_facts
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._planned import RecordError, remembered
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._planned import path_in as planned_gpus_in
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._comparison import comparison_with_own
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._inventory import API, InventoryError
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._kept_headers import KeptHeaders
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._kept_headers import (
    path_in as headers_in,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._models import ModelsRequest, read_models
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_said import server_said
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._arguments import (
    ENVIRONMENT_ARGUMENT,
    SERVICE_ARGUMENTS,
    take_environment,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._asked import Asked
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import NAME_PATTERN
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._command import runner
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._inspection import inspection, look
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._place import DropinError
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import MASK
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    SystemdError,
    manager,
    state_directory,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "gather": {"type": "list", "elements": "str", "choices": list(READERS), "default": list(READERS)},
            **SERVICE_ARGUMENTS,
            "dropin_name": {"type": "str", "default": "zz-gpufleet.conf"},
            **ENVIRONMENT_ARGUMENT,
            "variables": {"type": "list", "elements": "str", "default": []},
            "secrets": {"type": "dict", "no_log": True},
            "first_models": {"type": "list", "elements": "str", "default": []},
            "keep_headers": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    take_environment(module)
    # A module returns its options, and no_log no longer hides this one.
    secrets = module.params.pop("secrets")
    readers = dict(READERS)
    readers["service"] = partial(service, secrets=secrets)
    asked = Asked(runner(module))
    result: dict[str, Any] = {}
    failures: list[str] = []
    with watched(module.fail_json, READING_SECONDS, "ollama_host_info"):
        for part, reader in readers.items():
            if part in module.params["gather"]:
                found, sentences = fitting(part, *reader(module, asked))
                result.update(found)
                failures += sentences
    module.exit_json(changed=False, failures=failures, **result)


def fitting(
    part: str, found: dict[str, Any], sentences: list[str]
) -> tuple[dict[str, Any], list[str]]:
    """What a reader returned; where that is more than a host may say of this part, nothing and a sentence."""
    size = json_bytes([found, sentences])
    most = MOST_BYTES[part]
    if size <= most:
        return found, sentences
    sentence = (
        f"what this host tells of its {part} takes {size} bytes, at most {most} are read: look for who makes it so long"
    )
    return EMPTY[part](sentence)


def gpu(module: AnsibleModule, asked: Asked) -> tuple[dict[str, Any], list[str]]:
    options = module.params
    facts = gpu_facts(asked.lately, options["scope"], options["unit"], options["environment"])
    problem = ""
    try:
        before = remembered(planned_gpus_in(state_directory(options["scope"], options["unit"])))
    except RecordError as error:
        before, problem = None, str(error)
    record = dict(before or {})
    found = {
        "ansible_facts": {"gpufleet_gpu": facts},
        "planned_gpus": record.pop("gpus", None),
        "planned_for": record,
        "planned_gpus_problem": problem,
    }
    return found, []


def models(module: AnsibleModule, asked: Asked) -> tuple[dict[str, Any], list[str]]:
    options = module.params
    headers = KeptHeaders(headers_in(state_directory(options["scope"], options["unit"])))
    try:
        request = ModelsRequest(options["scope"], options["unit"], first=options["first_models"])
        known, damaged = read_models(asked.lately, module.warn, request, headers.header_of)
    except InventoryError as error:
        return {"models": {}}, [str(error)]
    if options["keep_headers"] and not module.check_mode:
        headers.keep()
    # A damaged model is one warning of the plan, and an error where it is wanted; a server that is gone is the host's.
    return {"models": known}, damaged if known["source"] == API and known["loaded"] is None else []


def service(
    module: AnsibleModule, asked: Asked, secrets: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], list[str]]:
    options = module.params
    try:
        sight = look(asked.anew, manager(asked.anew, options["scope"]), options["unit"], options["dropin_name"])
        found = inspection(sight, foreseen=foreseen(options["variables"], options["environment"]))
    except (DropinError, SystemdError) as error:
        return {"service": {}, "compared": {}}, [str(error)]
    compared = {} if secrets is None else comparison_with_own(sight, secrets)
    return {"service": found.to_dict(), "compared": compared}, []


def foreseen(variables: Sequence[str], environment: Mapping[str, Any]) -> dict[str, bool] | None:
    """The variables that our drop-in will set, each with whether it is secret, as a masked value tells; None for none."""
    given = {name: MASK in str(value) for name, value in environment.items() if value is not None}
    names = {**dict.fromkeys(variables, False), **given}
    return {name: secret for name, secret in names.items() if NAME_PATTERN.match(name)} or None


def measured(module: AnsibleModule, _asked: Asked) -> tuple[dict[str, Any], list[str]]:
    options = module.params
    try:
        kept = read(path_in(state_directory(options["scope"], options["unit"])))
    except StoredError as error:
        return {"measured": {}, "measured_problem": str(error)}, []
    return {"measured": kept or {}, "measured_problem": ""}, []


def server(module: AnsibleModule, asked: Asked) -> tuple[dict[str, Any], list[str]]:
    options = module.params
    try:
        said = server_said(asked.lately, options["scope"], options["unit"])
    except SystemdError as error:
        return {"server": {"problem": str(error)}}, []
    return {"server": said}, []


# Together less than the 4 MiB that a host may say: a control node keeps them for each host of a fleet.
MOST_BYTES = {"gpu": 512 << 10, "models": 2304 << 10, "service": 512 << 10, "measured": 384 << 10, "server": 256 << 10}
# What stands in place of a part that is too long.
EMPTY: dict[str, Callable[[str], tuple[dict[str, Any], list[str]]]] = {
    "gpu": lambda sentence: ({"ansible_facts": {"gpufleet_gpu": {}}}, [sentence]),
    "models": lambda sentence: ({"models": {}}, [sentence]),
    "service": lambda sentence: ({"service": {}, "compared": {}}, [sentence]),
    "measured": lambda sentence: ({"measured": {}, "measured_problem": sentence}, []),
    "server": lambda sentence: ({"server": {"problem": sentence}}, []),
}

# The service is read first: it looks until its process can be read, and what systemd said then serves the others too.
READERS: dict[str, Callable[[AnsibleModule, Asked], tuple[dict[str, Any], list[str]]]] = {
    "service": service,
    "gpu": gpu,
    "models": models,
    "measured": measured,
    "server": server,
}


if __name__ == "__main__":
    main()
