# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers what GPUs a host has, how much of their memory a service can count on, and what is wrong with them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_facts
short_description: Gather facts about the GPUs of a host, their memory and who holds it
version_added: 1.0.0
description:
  - Tells which GPUs and MIG instances a host has, how much of their memory is total, free, used and held by a given
    service, which of them that service sees and in what order, and what is wrong with them.
  - It asks NVML through pynvml, else through ctypes on C(libnvidia-ml.so.1), else C(nvidia-smi), and for AMD GPUs the
    amdgpu driver in sysfs. What each source answered is part of the result.
  - A GPU that is on the PCI bus but that no source can measure is reported as such.
  - Failures of drivers and GPUs are answers, not failures of the task. A host without GPUs gives an empty list.
  - Nothing has to be installed on the host.
  - It ends with a failure when it takes longer than 120 seconds, or than the deadlines of all sources where those are longer, and
    by itself when nobody waits for it any more.
author:
  - The gpufleet.ollama developers (@gpufleet)
extends_documentation_fragment:
  - gpufleet.ollama._attributes
  - gpufleet.ollama._attributes.reads_only
  - gpufleet.ollama._attributes.linux
  - gpufleet.ollama._service
options:
  unit:
    description:
      - The service whose GPU memory counts as ours, because it is given back when the service is restarted.
      - Its running environment decides which GPUs are visible.
  environment:
    description:
      - Variables that the service is going to have, on top of those it has now. Null removes one.
      - Only those that decide which GPUs are seen matter, C(CUDA_VISIBLE_DEVICES) and the like.
      - It is not logged, and values that look like secrets are not used.
    type: dict
    default: {}
  deadline:
    description:
      - Seconds that each source may take. A driver that hangs is reported, and does not hang the module.
      - The first call of a driver without persistence mode can take several seconds for each GPU.
    type: float
    default: 30.0
  sources:
    description:
      - The sources that may be asked. The order is always the one given here.
    type: list
    elements: str
    choices: [pynvml, ctypes, nvidia-smi, amdgpu]
    default: [pynvml, ctypes, nvidia-smi, amdgpu]
notes:
  - Run it with C(become), or the processes of other users and their memory stay hidden.
  - The facts change from second to second. A plan gathers them anew and does not take them from a fact cache.
seealso:
  - module: gpufleet.ollama.ollama_plan
"""

EXAMPLES = r"""
- name: Gather the GPUs of the host and what Ollama holds on them
  gpufleet.ollama.gpu_facts:
  become: true

- name: Show what a plan may count on
  ansible.builtin.debug:
    msg: "{{ item.name }}: {{ item.memory_available_bytes | human_readable }}"
  loop: "{{ ansible_facts['gpufleet_gpu'].devices }}"
  loop_control:
    label: "{{ item.uuid }}"

- name: See which GPUs a second service would see
  gpufleet.ollama.gpu_facts:
    unit: ollama@second.service
    environment:
      CUDA_VISIBLE_DEVICES: "1"
  become: true
"""

RETURN = r"""
ansible_facts:
  description: The facts, under one key.
  returned: always
  type: complex
  contains:
    gpufleet_gpu:
      description: What is known of the host's GPUs.
      returned: always
      type: complex
      contains:
        gathered_at:
          description: When the facts were gathered, ISO 8601 in UTC.
          returned: always
          type: str
          sample: "2026-01-31T12:00:00+00:00"
        source:
          description:
            - The kind of source the facts come from, V(nvml), V(nvidia-smi) or V(amdgpu). Null when none spoke.
          returned: always
          type: str
          sample: nvml
        sources:
          description: Every source in its order, with what it answered.
          returned: always
          type: list
          elements: dict
          contains:
            name:
              description: The source, V(pynvml), V(ctypes), V(nvidia-smi) or V(amdgpu).
              returned: always
              type: str
              sample: pynvml
            ok:
              description: Whether it gave facts.
              returned: always
              type: bool
              sample: true
            message:
              description: What it answered, one sentence.
              returned: always
              type: str
              sample: pynvml (nvidia-ml-py 13.580.82) reports 2 devices
        driver_version:
          description: Version of the NVIDIA driver. Null without one.
          returned: always
          type: str
          sample: 570.133.20
        nvml_version:
          description: Version of NVML. Null without it.
          returned: always
          type: str
          sample: 12.570.133.20
        cuda_driver_version:
          description: Newest CUDA version that the driver supports. Null without a driver.
          returned: always
          type: str
          sample: "12.8"
        system_memory_total_bytes:
          description: Memory of the host, in bytes (MemTotal).
          returned: always
          type: int
          sample: 67430522880
        system_memory_available_bytes:
          description: Memory of the host that new processes may take without swapping, in bytes (MemAvailable).
          returned: always
          type: int
          sample: 61203283968
        system_memory_limit_bytes:
          description:
            - What O(unit) may take of the host's memory, in bytes, by C(MemoryMax=) or C(MemoryHigh=) of the unit.
            - Null where it may take all of it.
          returned: always
          type: int
          sample: 34359738368
        visibility:
          description:
            - The variables of the service that decide which GPUs it sees, as far as they are set.
            - C(CUDA_VISIBLE_DEVICES), C(CUDA_DEVICE_ORDER), C(ROCR_VISIBLE_DEVICES), C(HIP_VISIBLE_DEVICES),
              C(GPU_DEVICE_ORDINAL), C(GGML_VK_VISIBLE_DEVICES), C(OLLAMA_IGPU_ENABLE), C(OLLAMA_VULKAN).
          returned: always
          type: dict
          sample:
            CUDA_VISIBLE_DEVICES: "0"
        devices:
          description: GPUs in the order of NVML (PCI) or ROCm, each followed by its MIG instances.
          returned: always
          type: list
          elements: dict
          contains:
            index:
              description: Number of the GPU among those of its vendor; of a MIG instance within its GPU.
              returned: always
              type: int
              sample: 0
            uuid:
              description:
                - Identifier that CUDA or ROCm takes to choose the GPU. The PCI address where an AMD GPU has none.
                - Empty when the GPU is lost and does not tell it.
              returned: always
              type: str
              sample: GPU-8932f937-d72c-4106-c12f-20bd9faed9f6
            pci_bus_id:
              description: PCI address as sysfs writes it. Empty when the GPU does not tell it.
              returned: always
              type: str
              sample: "0000:01:00.0"
            vendor:
              description: V(nvidia) or V(amd).
              returned: always
              type: str
              sample: nvidia
            name:
              description: Product name as the driver tells it.
              returned: always
              type: str
              sample: NVIDIA GeForce RTX 3090
            architecture:
              description: NVIDIA architecture. Null for others and for those not known yet.
              returned: always
              type: str
              sample: Ampere
            compute_capability:
              description: CUDA compute capability. Null for AMD, and where only C(nvidia-smi) could be asked.
              returned: always
              type: str
              sample: "8.6"
            gfx_target:
              description: ROCm target of an AMD GPU. Null for others.
              returned: always
              type: str
              sample: gfx1100
            rocm_node:
              description:
                - An AMD GPU's number among ROCm's nodes, by which C(HSA_OVERRIDE_GFX_VERSION_1) and its like name it.
                - Processors are counted too. Null of others.
              returned: always
              type: int
              sample: 1
            memory_total_bytes:
              description: Memory of the device, in bytes. Null when it is not told.
              returned: always
              type: int
              sample: 25769803776
            memory_free_bytes:
              description: Memory that is free now, in bytes. Null when it is not told.
              returned: always
              type: int
              sample: 25443696640
            memory_used_bytes:
              description: Memory that is in use, in bytes. Null when it is not told.
              returned: always
              type: int
              sample: 1048576
            memory_reserved_bytes:
              description:
                - Memory that the driver and the firmware keep, in bytes, not part of C(memory_used_bytes).
                - Null for drivers that count it as used.
              returned: always
              type: int
              sample: 325058560
            memory_ours_bytes:
              description: Memory that processes of O(unit) hold, in bytes, given back when it is restarted.
              returned: always
              type: int
              sample: 0
            memory_own_bytes:
              description: Of an AMD GPU that is part of the processor what is set aside for it, in bytes. Null of others.
              returned: always
              type: int
              sample: 536870912
            memory_shared_bytes:
              description:
                - Of an AMD GPU that is part of the processor what it may map of the system's memory, in bytes.
                - Null of others.
              returned: always
              type: int
              sample: 66571993088
            memory_available_bytes:
              description: What a plan may count on, C(memory_free_bytes) and C(memory_ours_bytes), in bytes.
              returned: always
              type: int
              sample: 25443696640
            unified_memory:
              description: Whether the memory is the system's, shared with the CPU (GB10, Jetson, APUs).
              returned: always
              type: bool
              sample: false
            integrated:
              description: Whether the GPU is part of the processor.
              returned: always
              type: bool
              sample: false
            mig_mode:
              description:
                - Whether the GPU is cut into MIG instances, which are devices of their own then.
                - Null where the GPU cannot be.
              returned: always
              type: bool
              sample: false
            mig_parent_uuid:
              description: Of a MIG instance the UUID of its GPU, else null.
              returned: always
              type: str
              sample: GPU-8932f937-d72c-4106-c12f-20bd9faed9f6
            mig_profile:
              description: Of a MIG instance its profile, else null.
              returned: always
              type: str
              sample: 1g.10gb
            display_attached:
              description: Whether a display uses the GPU. Null when it is not told.
              returned: always
              type: bool
              sample: false
            ecc_enabled:
              description: Whether ECC is on. Null where the GPU has none.
              returned: always
              type: bool
              sample: true
            problems:
              description: What is wrong with the device, a sentence each, with what to do. Empty when it is healthy.
              returned: always
              type: list
              elements: str
              sample: []
            processes:
              description:
                - The processes that hold memory of the device, in the order of their pids.
                - Of more than 64 those that hold most.
              returned: always
              type: list
              elements: dict
              contains:
                pid:
                  description: Process id.
                  returned: always
                  type: int
                  sample: 4711
                used_bytes:
                  description: Memory it holds, in bytes. Null when the driver does not tell.
                  returned: always
                  type: int
                  sample: 5368709120
                command:
                  description: Its program, without arguments. Null when C(/proc) hides it.
                  returned: always
                  type: str
                  sample: /usr/local/bin/ollama
                systemd_unit:
                  description: The systemd service or scope that it belongs to. Null without one.
                  returned: always
                  type: str
                  sample: ollama.service
                is_ours:
                  description: Whether it belongs to O(unit).
                  returned: always
                  type: bool
                  sample: true
        visible_devices:
          description: UUIDs of the devices that the service sees, in its order.
          returned: always
          type: list
          elements: str
          sample: [GPU-8932f937-d72c-4106-c12f-20bd9faed9f6]
        unmeasured:
          description: GPUs on the PCI bus, and those of Tegra chips, that no source could measure.
          returned: always
          type: list
          elements: dict
          contains:
            pci_bus_id:
              description: PCI address as sysfs writes it. Empty for the GPU of a Tegra chip.
              returned: always
              type: str
              sample: "0000:00:02.0"
            vendor:
              description: The vendor, by name or PCI number.
              returned: always
              type: str
              sample: intel
            device_id:
              description: PCI device number, or the name of a Tegra chip.
              returned: always
              type: str
              sample: "0x56a0"
            message:
              description: Why it is not measured and what to do, one sentence.
              returned: always
              type: str
              sample: >-
                0000:00:02.0 (intel 0x56a0) is present, but its memory cannot be measured, so that no plan uses it;
                Ollama reaches it through Vulkan only
        problems:
          description: What is wrong with drivers and sources, a sentence each, with what to do.
          returned: always
          type: list
          elements: str
          sample: []
        devices_left_out:
          description: How many more GPUs the host has than the 64 that are told at most.
          returned: always
          type: int
          sample: 0
        notes:
          description: What is uncertain about the answer, a sentence each.
          returned: always
          type: list
          elements: str
          sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._archive import compile_once

# Before all else of ours is imported.
compile_once()

from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._watch import READING_SECONDS, watched
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._facts import DEADLINE_SECONDS, gpu_facts
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._vendors import SOURCES
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._arguments import (
    ENVIRONMENT_ARGUMENT,
    SERVICE_ARGUMENTS,
    take_environment,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._command import runner


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **SERVICE_ARGUMENTS,
            **ENVIRONMENT_ARGUMENT,
            "deadline": {"type": "float", "default": DEADLINE_SECONDS},
            "sources": {
                "type": "list",
                "elements": "str",
                "choices": list(SOURCES),
                "default": list(SOURCES),
            },
        },
        supports_check_mode=True,
    )
    environment = take_environment(module)
    options = module.params
    if options["deadline"] <= 0:
        module.fail_json(msg=f"deadline is {options['deadline']:g}, expected seconds above 0")
    # Each source has its own deadline; what is read besides takes no time on a host that answers.
    limit = max(READING_SECONDS, (len(options["sources"]) + 1) * options["deadline"])
    with watched(module.fail_json, limit, "gpu_facts"):
        facts = gpu_facts(
            runner(module),
            options["scope"],
            options["unit"],
            environment,
            options["deadline"],
            options["sources"],
        )
    module.exit_json(changed=False, ansible_facts={"gpufleet_gpu": facts})


if __name__ == "__main__":
    main()
