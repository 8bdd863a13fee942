# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of `ollama_plan`; its work is done on the control node by the action of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_plan
short_description: Compute how many requests and models an Ollama server can take without spilling
version_added: 1.0.0
description:
  - Searches for the settings with which Ollama keeps the wanted models loaded together, serves the expected
    requests at once with the smallest parallel value that does, and gives every request the largest context,
    while every model lies wholly in GPU memory.
  - It predicts the memory that the engine allocates for each model and follows Ollama's own scheduler through
    the loading of the models.
  - The plan is computed on the control node, from facts, from a description of a host, or from what O(gather) has
    read on the host. Without O(gather) no host is contacted, so that a plan can be made for hosts that do not exist.
  - At most 256 models and 64 GPUs are planned, of models those that are wanted, then those that are loaded, then the others by
    name. A warning says how many are left out. GPUs that are left out are hidden from Ollama.
author:
  - The gpufleet.ollama developers (@gpufleet)
extends_documentation_fragment:
  - gpufleet.ollama._attributes
  - gpufleet.ollama._attributes.reads_only
  - gpufleet.ollama._attributes.control_node
  - gpufleet.ollama._service
options:
  role_variables:
    description:
      - Whether options that are not given are taken from the variables of the role P(gpufleet.ollama.ollama_plan#role).
      - It fails, before anything else, where a variable of the host is nearly one of this collection's and is none, as
        M(gpufleet.ollama.known_variables) does, or where a value does not fit the role's argument specs.
      - The role does all of that in this one task, and the playbooks import it with C(rolespec_validate=false). Ansible's own
        task keeps all argument specs with their descriptions in memory for each host, every further task takes the control
        node longer the more hosts there are, and a template of a task is compiled anew for each host.
    type: bool
    default: false
  gather:
    description:
      - What is read on the host first, in one execution of M(gpufleet.ollama.ollama_host_info), and planned with where
        it is not given. By default nothing.
      - What cannot be read is the reason for which there is no plan.
      - Read by this module it takes less of the control node's memory than as the variable of another task, which
        Ansible keeps for each host until the run ends.
    type: list
    elements: str
    choices: [service, gpu, models, measured, server]
    default: []
  dropin_name:
    description: File name of the drop-in in which this collection sets the environment, for O(gather).
    type: str
    default: zz-gpufleet.conf
  return_host:
    description: Whether what O(gather) has read is returned as RV(host).
    type: bool
    default: false
  only_inputs:
    description:
      - Whether to return what the plan would be made from as RV(inputs_json), in place of a plan, for a placement over
        many hosts by M(gpufleet.ollama.fleet_place). Of models it holds those of O(wanted) only.
    type: bool
    default: false
  compare:
    description:
      - Whether the host is also compared with its plan in every layer, RV(compared).
      - A host on which the drop-in sets what is planned was compared when it was read. Only on another one
        M(gpufleet.ollama.systemd_environment_info) is executed for it. With V(service) in O(gather).
    type: bool
    default: false
  apply:
    description:
      - Whether the plan is to be applied, so that RV(obstacles) and RV(stopped) are reasons to refuse it, RV(refused).
      - What O(gather) reads of the models' files is then kept on the host, as
        O(gpufleet.ollama.ollama_host_info#module:keep_headers) says.
    type: bool
    default: false
  start_stopped:
    description: Whether a service that somebody has stopped and disabled is no reason to refuse the plan.
    type: bool
    default: false
  refusals:
    description: Reasons to refuse the plan whatever the host is like, one sentence each.
    type: list
    elements: str
    default: []
  pull:
    description:
      - Whether wanted models that are not installed are planned too, by their header in the registry, of which the host reads the
        first bytes. It is asked once more only where a model lacks, with M(gpufleet.ollama.ollama_model). Needs O(gather).
      - What would be pulled is returned as RV(pulls). Nothing is.
    type: bool
    default: false
  pull_models:
    description:
      - Where such models come from, as O(gpufleet.ollama.ollama_model#module:models) takes them. Where O(wanted) is empty,
        these are the models that are to be had.
    type: list
    elements: raw
    default: []
  pull_keep_free_bytes:
    description: What is to stay free of the disk of the models.
    type: int
    default: 1073741824
  as_json:
    description:
      - Whether the plan is returned as text, RV(plan_json), in place of RV(plan). Ansible keeps it for each host, and
        text takes a fraction of the control node's memory that nested data take.
      - The warnings are in the plan only then, so that what shows the plans of many hosts can say each once.
    type: bool
    default: false
  gpu:
    description:
      - The GPUs and the system memory of the host, in the form of C(ansible_facts['gpufleet_gpu']), which
        M(gpufleet.ollama.gpu_facts) sets.
      - A description may give less; of a GPU, C(memory_total_bytes) suffices. All memory then counts as free, the
        vendor as NVIDIA, and GPUs are seen by Ollama in the order given.
      - An empty list C(devices) is a host without a GPU. It is planned for the CPU.
      - Required unless O(gather) has V(gpu).
    type: dict
    default: {}
  models:
    description:
      - The models installed, in the form that M(gpufleet.ollama.ollama_model_info) returns as C(models).
      - A model that is not installed yet can be given by C(name) and its GGUF C(header), which is a mapping with
        C(file_bytes), C(quantization), C(metadata) and C(tensors).
      - Or by C(name) and C(numbers), a mapping with C(architecture) (llama.cpp's name), C(block_count),
        C(embedding_length), C(feed_forward_length), C(head_count), C(context_length), C(vocabulary_size), and where the
        model has them C(head_count_kv), C(key_length), C(value_length), C(sliding_window), C(expert_count),
        C(expert_used_count), C(expert_feed_forward_length), C(tied_output), C(quantization) (V(Q4_K_M) by default) and
        C(file_bytes). Its weights are then near the truth and not exact.
      - With either may stand C(family), C(projector_bytes), C(projector_metadata), C(adapter_bytes), C(capabilities),
        C(num_ctx) and C(parameters).
      - With V(models) in O(gather) they are planned with beside those that were read; one replaces an installed model of
        the same name.
      - A list of mappings, or JSON text of one. Ansible visits every value in a list, for each host anew, which for 20
        models takes it a tenth of a second; a text it takes as it is.
    type: raw
    default: []
  unplannable:
    description:
      - Installed models that cannot be planned, each with C(name) and C(reason), in the form that
        M(gpufleet.ollama.ollama_model_info) returns as C(unplannable). One of them that is wanted is refused with its
        reason.
    type: list
    elements: dict
    default: []
  wanted:
    description:
      - The models to keep loaded together, each a name, or a mapping with C(name) and any of C(context_length)
        (the least number of tokens per request that the model must have), C(requests) (requests in flight that it
        must serve) and C(priority) (where not all fit, models of a higher one are kept first).
      - With an empty list every installed model is to be served, none is to stay loaded.
        E(OLLAMA_MAX_LOADED_MODELS) is then the largest number of which any combination is safe.
    type: list
    elements: raw
    default: []
  version:
    description:
      - The version of Ollama on the host, for example V(0.33.0).
      - Without it, the newest rules known are used.
    type: str
  loaded:
    description:
      - The models that are loaded at the moment, in the form that M(gpufleet.ollama.ollama_model_info) returns as
        C(loaded). The plan does not depend on them. It warns of one that a client has asked for with more context than is
        planned.
    type: list
    elements: dict
    default: []
  service:
    description:
      - What M(gpufleet.ollama.systemd_environment_info) returned for the service.
      - The plan keeps values that run while they are safe and as good as what it would choose, so that a few MiB of
        memory do not change it back and forth. Settings that were not made by this collection are planned with.
      - Without it, the service counts as one that has no settings.
    type: dict
    default: {}
  measured:
    description:
      - The result of a benchmark of this host, as M(gpufleet.ollama.ollama_benchmark_result) returns it. The plan has no
        more slots than were measured to be worth having, unless O(num_parallel) or O(min_parallel) say otherwise.
      - A result that was measured under other conditions is ignored, with a warning that says which.
    type: dict
    default: {}
  server:
    description:
      - What the running server has said since its start, as M(gpufleet.ollama.ollama_host_info) returns it.
      - Of the version that runs and is planned for it decides which GPUs are used. For another version the rules do.
    type: dict
    default: {}
  use_measured_memory:
    description:
      - Whether to plan with the GPU memory that O(measured) found each runner to take besides its buffers, in place of
        the allowance for the CUDA context.
    type: bool
    default: false
  requests:
    description:
      - Requests in flight that each model has to serve, where O(wanted) does not say.
    type: int
    default: 4
  min_parallel:
    description:
      - The smallest value of E(OLLAMA_NUM_PARALLEL) that is acceptable.
    type: int
    default: 1
  max_parallel:
    description:
      - The largest value of E(OLLAMA_NUM_PARALLEL) that is acceptable.
    type: int
    default: 256
  min_context_length:
    description:
      - The smallest context length that is acceptable, in tokens per request.
    type: int
    default: 4096
  max_context_length:
    description:
      - The largest context length to look for, in tokens per request.
      - By default it is what the models were trained for. On a host without a GPU, and for models that do not say what they were
        trained for, it is what Ollama itself would take.
    type: int
  headroom_bytes:
    description:
      - Memory that stays free on every GPU, in bytes, on top of the margin that the engine itself keeps.
    type: int
    default: 0
  kv_cache_types:
    description:
      - Types of the KV cache that the plan may choose. It prefers V(f16).
    type: list
    elements: str
    choices: [f16, q8_0, q4_0]
    default: [f16]
  lower_context:
    description:
      - Whether a context length that was asked for may be lowered where it does not fit.
    type: bool
    default: false
  spread:
    description:
      - Whether the plan may, must or must not set E(OLLAMA_SCHED_SPREAD), which divides every model over all GPUs.
    type: str
    choices: [auto, always, never]
    default: auto
  on_misfit:
    description:
      - What to do where the wanted models cannot be loaded together. V(fail) says which combination can, and what
        would make it possible. V(subset) plans for that combination, with a warning.
    type: str
    choices: [fail, subset]
    default: fail
  on_gpu_fault:
    description:
      - What to do with a GPU that has a fault or whose memory cannot be read. V(exclude) hides it from Ollama and
        plans without it, with a warning.
      - C(site.yml) refuses a host that has lost a GPU which its plan was applied for, and goes on without it with V(exclude).
    type: str
    choices: [fail, exclude]
    default: fail
  num_parallel:
    description:
      - The value of E(OLLAMA_NUM_PARALLEL) to plan with, instead of the one that the plan would choose.
      - It is checked. Where it is not safe, the plan says so in a warning.
    type: int
  max_loaded_models:
    description:
      - The value of E(OLLAMA_MAX_LOADED_MODELS) to plan with, instead of the one that the plan would choose.
      - It is checked. Where it is not safe, the plan says so in a warning.
    type: int
  context_length:
    description:
      - The context length to plan with, in tokens per request. It is lowered only with O(lower_context=true).
    type: int
  operator_environment:
    description:
      - Settings of yours for the service. They are part of the plan's environment, and planned with.
      - Values that look like secrets are masked in the plan. Combine its environment with yours to apply it.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Plan for a host that does not exist yet, from a description
  gpufleet.ollama.ollama_plan:
    gpu:
      system_memory_total_bytes: 68719476736
      devices:
        - name: NVIDIA GeForce RTX 4090
          compute_capability: "8.9"
          memory_total_bytes: 25757220864
    models:
      - name: llama3.1:8b
        header: "{{ lookup('file', 'headers/llama3.1_8b.json') | from_json }}"
    wanted:
      - name: llama3.1:8b
        context_length: 16384
        requests: 4
    version: 0.33.0
  register: planned

- name: Show the environment that was planned
  ansible.builtin.debug:
    var: planned.plan.environment

- name: Read the host and plan with what was found
  gpufleet.ollama.ollama_plan:
    gather: [service, gpu, models, measured, server]
  register: planned

- name: Plan with what the facts modules found, four requests at once for each model
  gpufleet.ollama.ollama_plan:
    gpu: "{{ ansible_facts['gpufleet_gpu'] }}"
    models: "{{ installed.models }}"
    version: "{{ installed.version }}"
    requests: 4
    kv_cache_types: [f16, q8_0]
"""

RETURN = r"""
pulls:
  description: What has to be pulled before the plan can be applied.
  returned: when O(pull=true) and a model lacks
  type: dict
  contains:
    models:
      description: The models as O(gpufleet.ollama.ollama_model#module:models) takes them, pinned to what was looked at.
      type: list
      elements: dict
    told:
      description: Each model with its size, and whether the disk has room, a line each.
      type: list
      elements: str
host:
  description: What was read on the host. Where there is no plan, the GPUs are returned anyway.
  returned: when O(return_host=true), or failed
  type: dict
  contains:
    gpu:
      description: The GPUs in the form of C(ansible_facts['gpufleet_gpu']); empty where they were not read.
      returned: always
      type: dict
    models:
      description: What M(gpufleet.ollama.ollama_host_info) returned as C(models).
      returned: when O(return_host=true)
      type: dict
    service:
      description: What it returned as C(service).
      returned: when O(return_host=true)
      type: dict
    measured:
      description: What it returned as C(measured).
      returned: when O(return_host=true)
      type: dict
    measured_problem:
      description: What it returned as C(measured_problem).
      returned: when O(return_host=true)
      type: str
    server:
      description: What it returned as C(server).
      returned: when O(return_host=true)
      type: dict
plan:
  description:
    - The settings, what they rest on and why they are what they are. Sizes are bytes. The page C(plan_fields.md) of
      the documentation explains every field.
  returned: success, unless O(as_json=true)
  type: dict
  contains:
    environment:
      description: The environment variables for the service, names to values (text).
      type: dict
      sample:
        OLLAMA_CONTEXT_LENGTH: "32768"
        OLLAMA_MAX_LOADED_MODELS: "1"
        OLLAMA_NUM_PARALLEL: "4"
    safe:
      description: Whether no planned model leaves GPU memory or evicts another.
      type: bool
    basis:
      description: V(exact) where the engine's rules are known for every model, V(estimate) otherwise.
      type: str
    placement:
      description: Where the models will run, V(gpu) or V(cpu).
      type: str
    version:
      description: The version of Ollama that was planned for.
      type: str
    rules:
      description: The build of llama.cpp by whose rules memory was foretold, and how far that build is known.
      type: str
      sample: llama.cpp b10488 (Ollama 0.33.0-rc2)
    num_parallel:
      description: Requests that each model serves at once.
      type: int
    max_loaded_models:
      description: Models that are loaded at once.
      type: int
    context_length:
      description: Context length in tokens per request.
      type: int
    kv_cache_type:
      description: Type of the KV cache.
      type: str
    spread:
      description: Whether every model is divided over all GPUs.
      type: bool
    load_order:
      description: The order in which to load the wanted models.
      type: list
      elements: str
    order_matters:
      description: Whether the plan is safe in this order only.
      type: bool
    models:
      description: What is planned for each model.
      type: list
      elements: dict
      contains:
        name:
          description: Name with tag.
          type: str
        planned:
          description: Whether the plan counts on it.
          type: bool
        context_length:
          description: Context length that it has, in tokens per request.
          type: int
        num_parallel:
          description: Requests that it serves at once; Ollama gives some families a single slot.
          type: int
        batch:
          description: Batch size that Ollama will choose.
          type: int
        predicted_bytes:
          description: What Ollama itself predicts before it loads the model.
          type: int
        system_memory_bytes:
          description: System memory that it takes.
          type: int
        system_memory_layers:
          description: Layers that the CPU computes. More than 0 beside a GPU only where the plan is not safe.
          type: int
        evicted_by:
          description: The model for which Ollama unloads this one, empty where the plan is safe.
          type: str
        basis:
          description: V(exact) or V(estimate).
          type: str
        gpus:
          description: What it takes of each GPU.
          type: list
          elements: dict
    gpus:
      description: What is planned for each GPU, in all and part by part, with what others hold, the headroom, and what
        stays free.
      type: list
      elements: dict
    limits:
      description: For one more parallel request, twice the context and one more model, what it would cost and whether
        it is possible.
      type: list
      elements: dict
    reasons:
      description: Why the values are what they are, in sentences.
      type: list
      elements: str
    warnings:
      description: What the operator should know, in sentences. They are shown as warnings, too.
      type: list
      elements: str
    today:
      description: What the settings that run now do, by the same rules; null where nothing is known of them.
      type: dict
      contains:
        num_parallel:
          description: Requests that each model serves at once.
          type: int
        max_loaded_models:
          description: Models that may be loaded at once.
          type: int
        context_length:
          description: Context length in tokens per request.
          type: int
        kv_cache_type:
          description: Type of the KV cache.
          type: str
        together:
          description: How many of the models, whichever they are, are safe together; 0 where not each is safe alone.
          type: int
        spills:
          description: The models that do not lie wholly on GPUs when they are asked for in turn.
          type: list
          elements: str
        evictions:
          description: Which model has to go for which other one then.
          type: list
          elements: dict
          contains:
            model:
              description: The model that goes.
              type: str
            for_model:
              description: The model that comes.
              type: str
        gpu_bytes:
          description: What the models that stay loaded then take of the GPUs.
          type: int
        sentences:
          description: All of it in words.
          type: list
          elements: str
    difference:
      description:
        - What the plan changes of it, in sentences. A context per request that becomes shorter, also than Ollama itself would
          make it, comes first, with the reason and what would avoid it. Where slots cost context, one sentence has both ends.
      type: list
      elements: str
    seen:
      description:
        - What loads since the server's start took of GPUs, as it logged it, beside what is foretold for the same loads, by kind
          of buffer and GPU. Only loads that lie wholly on GPUs are compared.
      type: list
      elements: dict
      contains:
        model:
          description: The model.
          type: str
        blob:
          description: The name of its file.
          type: str
        kind:
          description: V(weights), V(kv_cache) or V(compute).
          type: str
        gpu:
          description: The GPU's position among those that the load saw.
          type: int
        context_length:
          description: Tokens per slot.
          type: int
        parallel:
          description: Slots.
          type: int
        batch:
          description: Tokens computed at once.
          type: int
        kv_cache_type:
          description: Type of the KV cache.
          type: str
        flash_attention:
          description: What the engine was told of flash attention.
          type: str
        version:
          description: The version of Ollama.
          type: str
        engine_build:
          description: The number of the llama.cpp build.
          type: int
        basis:
          description: V(exact) or V(estimate), what the prediction rests on.
          type: str
        predicted_bytes:
          description: What is foretold.
          type: int
        seen_bytes:
          description: What was logged.
          type: int
        difference_bytes:
          description: By how much more was seen; negative where it was less.
          type: int
        when:
          description: When the load began.
          type: str
        is_beyond:
          description: Whether the difference is larger than the basis allows.
          type: bool
        is_absurd:
          description: Whether it is more than the GPU has, so that nothing is made of it.
          type: bool
    observed:
      description:
        - By how much loads took more than foretold, which this plan counts with. It holds for the same file, version of Ollama
          and settings, and is remembered on the host.
      type: list
      elements: dict
    evidence:
      description:
        - Of at most four loads that were not as foretold, C(shape) of the model, how it was loaded (C(launch)), and what was
          C(seen) on each GPU. The report writes it into a file of its own.
      type: list
      elements: dict
    history:
      description: What became of each model since the server's start.
      type: list
      elements: dict
      contains:
        model:
          description: The model.
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
        at_least:
          description: Whether the numbers are the least that they can be.
          type: bool
    dropped_gpus:
      description: The GPUs that the Ollama which runs could see and does not use. The plan does without them.
      type: list
      elements: dict
      contains:
        index:
          description: The index.
          type: int
        uuid:
          description: The UUID.
          type: str
        name:
          description: The name.
          type: str
        reason:
          description: What Ollama said of it at its start; empty where it said nothing.
          type: str
        message:
          description: That it is not used, with the reason.
          type: str
inputs_json:
  description: What the plan would be made from, as JSON.
  returned: success, when O(only_inputs=true)
  type: str
not_loaded:
  description: The models of C(load_order) that are not among those loaded at the moment.
  returned: success
  type: list
  elements: str
obstacles:
  description:
    - Why the plan cannot be applied on the host as it is, one sentence each. A file that would overrule it, a unit that is
      masked, and what could not be read are such reasons.
  returned: success
  type: list
  elements: str
refused:
  description:
    - Why the plan is not to be applied, one sentence each. These are O(refusals), and with O(apply) RV(obstacles) and
      RV(stopped). A host that is refused is not compared.
  returned: success
  type: list
  elements: str
compared:
  description:
    - What M(gpufleet.ollama.systemd_environment_info) returns without C(details), of the environment of the plan and
      O(operator_environment). Where the host could not be looked at, what came in its place.
  returned: success, when O(compare=true) and RV(refused) is empty
  type: dict
is_done:
  description:
    - Whether there is nothing left to apply. By RV(compared) the host is as planned and has been seen to work so, and what the
      plan is applied for is remembered.
  returned: success, when O(compare=true) and RV(refused) is empty
  type: bool
stopped:
  description:
    - That somebody has stopped and disabled the service, in one sentence; else empty.
  returned: success
  type: str
plan_json:
  description: The plan as JSON.
  returned: success, when O(as_json=true)
  type: str
service_id:
  description: As M(gpufleet.ollama.systemd_environment_info) returns it. Empty where the service was not read.
  returned: always
  type: str
hardware:
  description: What became of the GPUs that the plan of the host was applied for, as M(gpufleet.ollama.planned_gpus) remembers.
  returned: success
  type: dict
  contains:
    gone:
      description: Name and UUID of each of them that the host no longer has.
      type: list
      elements: str
    gone_is_accepted:
      description: Whether O(on_gpu_fault=exclude), so that C(site.yml) goes on without them.
      type: bool
    to_remember:
      description:
        - The GPUs of this plan, where others or none are remembered, or where RV(hardware.planned_for) is; null where there is
          nothing to write.
      type: list
      elements: dict
    planned_for:
      description: What is remembered beside them.
      type: dict
      contains:
        version:
          description: The version of Ollama.
          type: str
        engine_build:
          description: The number of the llama.cpp build; null where it is not known.
          type: int
        observed:
          description: The C(observed) of this plan.
          type: list
          elements: dict
    changes:
      description: What is not as it was when the plan was applied, one sentence each, as that Ollama was upgraded.
      type: list
      elements: str
    problem:
      description: Why what is remembered cannot be read; empty where it can.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._options import ARGUMENT_SPEC


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="gpufleet.ollama.ollama_plan is computed on the control node by its action plugin, which was not found; "
        "call it by its full name gpufleet.ollama.ollama_plan and install the whole collection"
    )


if __name__ == "__main__":
    main()
