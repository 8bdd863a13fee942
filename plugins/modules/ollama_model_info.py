# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module `ollama_model_info`: the models of a host, with all that planning needs of them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_model_info
short_description: Read the installed models of an Ollama server, with all that planning needs of them
version_added: 1.0.0
description:
  - Reads the installed models of an Ollama server from its store on disk (manifests and the headers of the
    GGUF files) or from its API. Both give the same answer for the same model; the disk answers while the
    service is down, too.
  - It also returns the server's version and the models that are loaded.
  - It changes nothing, and it loads no model.
  - It ends with a failure when it takes longer than 120 seconds, and by itself when nobody waits for it any more.
author:
  - The gpufleet.ollama developers (@gpufleet)
extends_documentation_fragment:
  - gpufleet.ollama._attributes
  - gpufleet.ollama._attributes.reads_only
  - gpufleet.ollama._attributes.linux
  - gpufleet.ollama._service
options:
  source:
    description:
      - Where to read the models from.
      - With V(auto), the store on disk where it can be read, else the API.
    type: str
    choices: [auto, disk, api]
    default: auto
  names:
    description:
      - The models to read, such as V(gemma3:4b). A name without a tag means V(latest).
      - With an empty list, all installed models are read, at most 256 of them. Of more, those that are loaded are read
        first, then the others by name.
    type: list
    elements: str
    default: []
  models_path:
    description:
      - The folder of the model store.
      - By default it is found as Ollama does, from E(OLLAMA_MODELS) and the home directory of the service of
        O(unit).
    type: path
  api_url:
    description:
      - The URL of the server.
      - By default it follows from E(OLLAMA_HOST) of the service of O(unit).
    type: str
  timeout:
    description:
      - The longest time in seconds that one request to the server may take.
    type: int
    default: 10
  on_malformed:
    description:
      - What to do about a model whose files are damaged or cannot be read.
      - V(fail) ends the task with a message that names the file and what is wrong with it. V(report) leaves
        the model out of RV(models) and says so in RV(problems) and
        RV(unplannable).
    type: str
    choices: [fail, report]
    default: fail
"""

EXAMPLES = r"""
- name: Read the installed models
  gpufleet.ollama.ollama_model_info:
  register: installed

- name: Read two models of a service that runs under another unit
  gpufleet.ollama.ollama_model_info:
    names:
      - gemma3:4b
      - llama3.1:8b
    unit: ollama-second.service
  register: installed

- name: Read what a server tells of its models, without access to its files
  gpufleet.ollama.ollama_model_info:
    source: api
    api_url: http://127.0.0.1:11434
    on_malformed: report
  become: false
  register: installed
"""

RETURN = r"""
models:
  description:
    - The models that can be planned, sorted by name, in the form that M(gpufleet.ollama.ollama_plan) takes.
    - Sizes are bytes, lengths are tokens or elements.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name, with its tag.
      type: str
      sample: gemma3:4b
    digest:
      description:
        - The file of the model in the store's folder C(blobs). Models with the same file share a runner.
      type: str
      sample: sha256-aeda25e63ebd698fab8638ffb778e68bed908b960d39d0becc650fa981609d25
    family:
      description: The family by which Ollama chooses how it treats the model.
      type: str
      sample: gemma3
    architecture:
      description: The architecture, under the name that llama.cpp gives it.
      type: str
      sample: gemma3
    quantization:
      description: The quantization of most weights.
      type: str
      sample: Q4_K_M
    file_bytes:
      description: Size of the model's file.
      type: int
      sample: 3338792448
    projector_bytes:
      description: Size of a separate projector file, V(0) where there is none.
      type: int
      sample: 0
    inline_projector_bytes:
      description: Size of the projector inside of the model's file, V(0) where there is none.
      type: int
      sample: 851251328
    tower:
      description: Numbers of the projector's vision tower, V(none) where there is none or nothing is known of it.
      type: dict
      sample: {"kind": "gemma3", "patches_most": 4096}
    adapter_bytes:
      description: Size of the adapters.
      type: int
      sample: 0
    capabilities:
      description: What matters to planning, V(embedding) and V(vision).
      type: list
      elements: str
      sample: [vision]
    context_length_trained:
      description: The context length that the model was trained for, in tokens.
      type: int
      sample: 131072
    num_ctx:
      description: The context length that the Modelfile asks for, in tokens.
      type: int
      sample: 8192
    ahead_bytes:
      description: Weights of layers that only predict further tokens, which are loaded where C(draft_num_predict) is set.
      type: int
      sample: 0
    half_row_elements:
      description: Elements per token that the widest product with weights of half precision copies.
      type: int
      sample: 12288
    parameters:
      description: Other parameters of the Modelfile that change memory or placement.
      type: dict
      sample: {"num_batch": 256}
    block_count:
      description: The number of layers.
      type: int
      sample: 34
    layers:
      description: What planning needs of each layer, a list per quantity.
      type: dict
unplannable:
  description: The models whose memory is not predicted, because they run elsewhere, on another engine, or are damaged.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name, with its tag.
      type: str
      sample: gpt-oss:120b-cloud
    reason:
      description: Why not.
      type: str
      sample: it runs at https://ollama.com:443 and takes no memory here
missing:
  description: The models of O(names) that are not installed.
  returned: success
  type: list
  elements: str
  sample: []
ids:
  description: The ID that the server gives to each model of O(names) that it has, C(ollama list) shows its first 12 digits.
  returned: success
  type: dict
  sample: {"gemma3:4b": "a2af6cc3eb7fa8be8504abaf9b04e88f17a119ec3f04a3addf55f92841195f5a"}
loaded:
  description:
    - The models that are loaded, as the server reports them. Its sizes are lower bounds.
    - None when the server does not answer.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name, with its tag.
      type: str
      sample: gemma3:4b
    size_bytes:
      description: Memory that the model holds, in bytes.
      type: int
      sample: 4398046511
    size_vram_bytes:
      description: The part of it on GPUs, in bytes.
      type: int
      sample: 4398046511
    context_length:
      description: Context length of one request, in tokens.
      type: int
      sample: 4096
    expires_at:
      description: When the model is unloaded unless it is used, in RFC 3339.
      type: str
      sample: "2026-11-23T05:52:42.629533452Z"
version:
  description: The version of Ollama, from the API, else from the program of O(unit). None when neither tells.
  returned: success
  type: str
  sample: 0.33.0
models_path:
  description: The folder of the model store.
  returned: success
  type: str
  sample: /usr/share/ollama/.ollama/models
api_url:
  description: The URL of the server.
  returned: success
  type: str
  sample: http://127.0.0.1:11434
source:
  description: Where RV(models) come from, V(disk) or V(api).
  returned: success
  type: str
  sample: disk
sources:
  description: What each source answered.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: V(disk) or V(api).
      type: str
      sample: api
    ok:
      description: Whether it can tell the models.
      type: bool
      sample: true
    message:
      description: What it answered.
      type: str
      sample: http://127.0.0.1:11434 lists 2 models
unseen:
  description:
    - What is installed and not in RV(models), one sentence each, such as links in the folders of manifests, models whose
      manifest is damaged and how many of more than 256 models are left out. A plan warns of it. RV(problems) tells of
      all of them too.
  returned: success
  type: list
  elements: str
  sample: []
problems:
  description: What is wrong or inexact, one sentence each.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._archive import compile_once

# Before all else of ours is imported.
compile_once()

from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._json import MAX_FACTS_BYTES, json_bytes
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._watch import READING_SECONDS, watched
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._inventory import InventoryError
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._models import (
    AUTO,
    TIMEOUT_SECONDS,
    ModelsRequest,
    read_models,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._arguments import SERVICE_ARGUMENTS
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._command import runner


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "str", "choices": [AUTO, "disk", "api"], "default": AUTO},
            "names": {"type": "list", "elements": "str", "default": []},
            "models_path": {"type": "path"},
            "api_url": {"type": "str"},
            **SERVICE_ARGUMENTS,
            "timeout": {"type": "int", "default": TIMEOUT_SECONDS},
            "on_malformed": {"type": "str", "choices": ["fail", "report"], "default": "fail"},
        },
        supports_check_mode=True,
    )
    options = module.params
    if options["timeout"] < 1:
        module.fail_json(msg=f"timeout is {options['timeout']}, expected at least 1 second")
    with watched(module.fail_json, max(READING_SECONDS, 4 * options["timeout"]), "ollama_model_info"):
        _read(module)


def _read(module: AnsibleModule) -> None:
    options = module.params
    try:
        asked = ModelsRequest(
            scope=options["scope"],
            unit=options["unit"],
            source=options["source"],
            names=options["names"],
            models_path=options["models_path"],
            api_url=options["api_url"],
            timeout_seconds=options["timeout"],
        )
        known, damaged = read_models(runner(module), module.warn, asked)
    except InventoryError as error:
        module.fail_json(msg=str(error))
    if damaged and options["on_malformed"] == "fail":
        module.fail_json(msg="; ".join(damaged))
    size = json_bytes(known)
    if size > MAX_FACTS_BYTES:
        module.fail_json(
            msg=f"what this host tells of its models takes {size} bytes, at most {MAX_FACTS_BYTES} are read: name those "
            "that are wanted"
        )
    module.exit_json(changed=False, **known)


if __name__ == "__main__":
    main()
