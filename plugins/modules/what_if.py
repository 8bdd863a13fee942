# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of `what_if`; its work is done on the control node by the action of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: what_if
short_description: Say what a host that is only thought of could take, from the names of its GPUs and models
version_added: 1.0.0
description:
  - Takes names such as C(2x RTX 3090) and C(qwen2.5:14b), and answers with the plan that M(gpufleet.ollama.ollama_plan) would
    make for such a host, with what Ollama would do without any setting, with a ladder of contexts and requests at once
    (what fits, and how much GPU memory it takes), and with the smallest cards that would do. No host is contacted.
  - The memory of 76 cards is known by name. It is what programs get of them on Linux, which is less than the box says.
    Of others a size is taken.
  - 48 models are known by name, in the quantization that Ollama's library gives for that name, by the numbers that
    their makers have published; of 13 of them by the architecture's numbers alone, so that the answer is an estimate. Of others
    a file is taken.
  - The playbook C(gpufleet.ollama.what_if) does the same from one line.
author:
  - The gpufleet.ollama developers (@gpufleet)
extends_documentation_fragment:
  - gpufleet.ollama._attributes
  - gpufleet.ollama._attributes.reads_only
  - gpufleet.ollama._attributes.control_node
options:
  gpu:
    description:
      - The GPUs of the host, such as V(2x RTX 3090), V(RTX 3090, L4) or, by size, V(2x 24GB). All their memory counts as free.
      - Required.
    type: raw
  models:
    description:
      - The models to keep loaded together, as a list or as text with commas. Each is a name, which may leave out its tag
        where Ollama's library gives a model that is known for it, or the path of a file on the control node. That is a C(.gguf)
        of which the header is read, or a C(.json) with a GGUF header or with what M(gpufleet.ollama.ollama_model_info)
        returned as C(models).
      - Required.
    type: raw
  requests:
    description: Requests in flight that each model has to serve.
    type: raw
    default: 4
  context_length:
    description: The least context length that is acceptable, in tokens for each request. By default 4096.
    type: raw
  kv_cache_types:
    description: Types of the KV cache that may be chosen, of V(f16), V(q8_0) and V(q4_0).
    type: list
    elements: str
    default: [f16]
  version:
    description: The version of Ollama. By default the newest whose rules are known.
    type: raw
  command_line:
    description:
      - Whether the values come from C(-e name=value) of the command line. Then a name that is nearly one of these options is
        refused, and a value keeps the words behind its first, which Ansible would drop.
    type: bool
    default: false
seealso:
  - module: gpufleet.ollama.ollama_plan
"""

EXAMPLES = r"""
- name: Ask what two cards of 24 GB could take
  gpufleet.ollama.what_if:
    gpu: 2x RTX 3090
    models: [qwen2.5:14b, gemma3:4b]
    requests: 8
  register: asked

- name: Show the answer
  ansible.builtin.debug:
    msg: "{{ asked.table }}"
"""

RETURN = r"""
table:
  description: The answer as lines for a terminal.
  returned: success
  type: list
  elements: str
gpus:
  description: The names of the GPUs.
  returned: success
  type: list
  elements: str
usable_bytes:
  description: What programs get of each.
  returned: success
  type: list
  elements: int
models:
  description: The names of the models.
  returned: success
  type: list
  elements: str
trained:
  description: The longest context that each model makes use of, in tokens, by name; 0 where that is not known.
  returned: success
  type: dict
requests:
  description: Requests at once that each model has to serve.
  returned: success
  type: int
context_length:
  description: Tokens for each request that RV(smallest) is for.
  returned: success
  type: int
version:
  description: The version of Ollama that was planned for.
  returned: success
  type: str
plan:
  description: The plan, as M(gpufleet.ollama.ollama_plan) returns it; empty where the models do not fit.
  returned: success
  type: dict
misfit:
  description: Why there is no plan; empty where there is one.
  returned: success
  type: str
alone:
  description: What Ollama would do without any setting, one sentence each.
  returned: success
  type: list
  elements: str
ladder:
  description: All models loaded together, by context and requests at once.
  returned: success
  type: list
  elements: dict
  contains:
    context_length:
      description: Tokens for each request.
      type: int
    parallel:
      description: Requests at once for each model.
      type: int
    how:
      description:
        - V(fits); V(tight), where less than the engine's margin would stay free; V(evicts), where a model goes for another;
          V(spills), where layers lie on the CPU; V(fails), where a model does not start.
      type: str
    gpu_bytes:
      description: GPU memory of all models; 0 unless it fits.
      type: int
    one_order:
      description: Whether it fits only where the models are loaded in one order.
      type: bool
beyond:
  description:
    - Why a longer context is not planned, as it does not fit, or fits only in one order of loading; empty where none is left.
  returned: success
  type: str
smallest:
  description:
    - The cards with the least memory of which one, two or four would do in any order of loading; their prices are not known.
  returned: success
  type: list
  elements: dict
  contains:
    count:
      description: How many of the card.
      type: int
    card:
      description: Its name.
      type: str
    usable_bytes:
      description: What programs get of one.
      type: int
"""
