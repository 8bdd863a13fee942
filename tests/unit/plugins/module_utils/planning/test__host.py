# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which GPUs of a host are planned with, and which are not."""

from __future__ import annotations

import re
import time
from typing import ClassVar

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import (
    GpuDevice,
    HostGpus,
    UnmeasuredGpu,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_log import (
    ComputeDevice,
    ServerLog,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._host import (
    available_bytes,
    host_from_facts,
    total_bytes,
    usable_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._said import Said
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import rules

GIB = 1 << 30


def device(index=0, **values):
    return GpuDevice(
        **{
            "index": index,
            "uuid": f"GPU-{index}",
            "pci_bus_id": f"0000:0{index}:00.0",
            "vendor": "nvidia",
            "name": "NVIDIA GeForce RTX 4090",
            "memory_total_bytes": 24 * GIB,
            "memory_free_bytes": 23 * GIB,
            **values,
        }
    )


def facts(*devices, **values):
    visible = values.pop("visible_devices", tuple(gpu.uuid for gpu in devices))
    return HostGpus(
        gathered_at="2026-08-01T00:00:00Z",
        devices=devices,
        visible_devices=visible,
        system_memory_total_bytes=64 * GIB,
        system_memory_available_bytes=60 * GIB,
        **values,
    ).to_dict()


def host(facts, on_gpu_fault="fail", environment=None, managed_environment=None, version="0.33.0"):
    return host_from_facts(
        facts,
        on_gpu_fault=on_gpu_fault,
        environment=environment or {},
        managed_environment=managed_environment or {},
        rules=rules(version),
    )


def test_gpus_are_planned_in_the_order_ollama_sees_them():
    planned = host(facts(device(0), device(1), visible_devices=("GPU-1", "GPU-0")))
    assert [gpu.index for gpu in planned.gpus] == [1, 0]
    assert planned.system_memory_available_bytes == 60 * GIB
    assert planned.environment == {}
    assert planned.warnings == ()


def test_a_gpu_that_the_service_does_not_see_is_not_planned_with():
    assert [gpu.index for gpu in host(facts(device(0), device(1), visible_devices=("GPU-1",))).gpus] == [1]


def test_a_gpu_that_an_earlier_plan_hid_is_looked_at_again():
    planned = host(
        facts(device(0), device(1), visible_devices=("GPU-1",)),
        managed_environment={"CUDA_VISIBLE_DEVICES": "GPU-1"},
    )
    assert [gpu.index for gpu in planned.gpus] == [0, 1]


def test_a_gpu_that_the_operator_hides_stays_hidden():
    chosen = {"CUDA_VISIBLE_DEVICES": "GPU-1"}
    planned = host(
        facts(device(0), device(1), visible_devices=("GPU-1",), visibility=chosen),
        environment=chosen,
        managed_environment=chosen,
    )
    assert [gpu.index for gpu in planned.gpus] == [1]
    assert planned.warnings == ()


# Sources: ollama issues 16794 (a full-width comma), 13095, 14083; CUDA programming guide, CUDA_VISIBLE_DEVICES.
@pytest.mark.parametrize("is_described", [True, False])
@pytest.mark.parametrize(
    ("value", "seen", "words"),
    [
        ("1", ["GPU-1"], ""),
        ("1, 0", ["GPU-1", "GPU-0"], ""),
        ("1,7", ["GPU-1"], "names '7', no usable GPU here, which ends the list"),
        ("0\uff0c1", [], "GPU 0 (NVIDIA GeForce RTX 4090, GPU-0), 1 (NVIDIA GeForce RTX 4090, GPU-1) are not seen by the "
         "service: CUDA_VISIBLE_DEVICES='0\uff0c1' names none of them; unset it, or name them by UUID"),
        ("all", [], "CUDA_VISIBLE_DEVICES='all' names none of them"),
        ("", [], "CUDA_VISIBLE_DEVICES='' names none of them"),
        ("-1", [], "CUDA_VISIBLE_DEVICES='-1' names none of them"),
    ],
)  # fmt: skip
def test_what_hides_gpus_is_obeyed_and_named_where_it_hides_all(value, seen, words, is_described):
    environment = {"CUDA_VISIBLE_DEVICES": value}
    devices = (device(0), device(1))
    told = facts(*devices, visible_devices=tuple(seen), visibility=environment)
    if is_described:
        told = {"devices": [gpu.to_dict() for gpu in devices]}
    planned = host(told, environment=environment)
    assert [gpu.uuid for gpu in planned.gpus] == seen
    assert len(planned.warnings) == bool(words)
    assert all(words in warning for warning in planned.warnings)


def test_what_hides_the_gpus_of_one_vendor_says_nothing_of_another():
    cards = (device(0), device(1, vendor="amd", name="MI210", gfx_target="gfx90a"))
    environment = {"CUDA_VISIBLE_DEVICES": "-1"}
    planned = host({"devices": [gpu.to_dict() for gpu in cards]}, environment=environment)
    assert [gpu.index for gpu in planned.gpus] == [1]
    (warning,) = planned.warnings
    assert warning.startswith("GPU 0 (NVIDIA GeForce RTX 4090, GPU-0) is not seen by the service: CUDA_VISIBLE_DEVICES='-1'")


def test_of_a_described_card_in_instances_cuda_shows_one():
    card = device(0, mig_mode=True)
    instances = [device(1 + n, uuid=f"MIG-{n}", mig_parent_uuid="GPU-0") for n in range(2)]
    planned = host({"devices": [gpu.to_dict() for gpu in (card, *instances)]})
    assert [gpu.uuid for gpu in planned.gpus] == ["MIG-0"]
    assert planned.warnings == ("CUDA shows a process one MIG instance at most: only MIG-0 is seen of 2 devices",)


def test_memory_that_ollama_holds_counts_as_available():
    assert available_bytes(device(memory_free_bytes=3 * GIB, memory_ours_bytes=20 * GIB)) == 23 * GIB


def test_no_more_is_available_than_the_gpu_has():
    assert available_bytes(device(memory_free_bytes=20 * GIB, memory_ours_bytes=20 * GIB)) == 24 * GIB


@pytest.mark.parametrize("values", [{"memory_free_bytes": None}, {"memory_total_bytes": None}])
def test_of_memory_that_could_not_be_read_nothing_is_available(values):
    assert available_bytes(device(**values)) == 0
    assert total_bytes(device(**values)) == (values.get("memory_total_bytes", 24 * GIB) or 0)


def test_of_a_described_gpu_its_memory_suffices():
    planned = host({"devices": [{"memory_total_bytes": 12 * GIB}, {"memory_total_bytes": 24 * GIB}]})
    assert [available_bytes(gpu) for gpu in planned.gpus] == [12 * GIB, 24 * GIB]
    assert [gpu.uuid for gpu in planned.gpus] == ["GPU-0", "GPU-1"]


def test_no_devices_is_a_host_without_gpus():
    assert host({"devices": [], "system_memory_total_bytes": GIB}).gpus == ()
    assert host({"devices": [], "system_memory_total_bytes": GIB}).system_memory_available_bytes == GIB


def test_a_card_cut_into_instances_is_planned_by_its_instances():
    card = device(0, mig_mode=True)
    instance = device(1, uuid="MIG-1", mig_parent_uuid="GPU-0", memory_total_bytes=10 * GIB)
    assert [gpu.uuid for gpu in host(facts(card, instance)).gpus] == ["MIG-1"]


@pytest.mark.parametrize(
    "faulty",
    [
        device(1, problems=("GPU 1 fell off the bus.",)),
        device(1, memory_free_bytes=None),
        device(1, memory_total_bytes=None),
    ],
)
class TestAGpuWithAFault:
    def test_is_an_error_by_default(self, faulty):
        with pytest.raises(ValueError, match=r"cannot be planned for: GPU 1 .*ollama_plan_on_gpu_fault"):
            host(facts(device(0), faulty))

    def test_is_hidden_from_ollama_where_it_may_be_excluded(self, faulty):
        planned = host(facts(device(0), faulty), on_gpu_fault="exclude")
        assert [gpu.index for gpu in planned.gpus] == [0]
        assert planned.environment == {"CUDA_VISIBLE_DEVICES": "GPU-0"}
        (warning,) = planned.warnings
        assert "left out of the plan: GPU 1 (NVIDIA GeForce RTX 4090, GPU-1)" in warning

    def test_leaves_no_gpu_visible_where_it_was_the_only_one(self, faulty):
        planned = host(facts(faulty), on_gpu_fault="exclude")
        assert planned.gpus == ()
        assert planned.environment == {"CUDA_VISIBLE_DEVICES": "-1"}


# ROCm knows of most cards for gamers no id, and by a PCI address it finds none.
@pytest.mark.parametrize(
    ("uuid", "shown"), [("GPU-398a3f843a146602", "GPU-398a3f843a146602"), ("0000:01:00.0", "1")]
)
def test_an_amd_gpu_without_an_id_is_shown_by_its_number(uuid, shown):
    amd = {"vendor": "amd", "name": "RX 6600"}
    planned = host(
        facts(
            device(0, **amd, problems=("GPU 0 fell off the bus.",)), device(1, **{**amd, "uuid": uuid})
        ),
        on_gpu_fault="exclude",
    )
    assert planned.environment == {"ROCR_VISIBLE_DEVICES": shown}


def test_of_several_faults_the_first_is_said():
    faulty = [device(number, problems=(f"GPU {number} is hot.", "and slow")) for number in (1, 2)]
    with pytest.raises(ValueError, match=r"cannot be planned for: GPU 1 \(.*\): GPU 1 is hot; repair it"):
        host(facts(device(0), *faulty))
    planned = host(facts(device(0), *faulty), on_gpu_fault="exclude")
    assert [warning.split(": ")[-1] for warning in planned.warnings] == ["GPU 1 is hot", "GPU 2 is hot"]


def test_a_hidden_gpu_that_can_still_be_used_is_no_fault():
    hot = device(1, problems=("GPU 1 is hot.",))
    for hidden in (device(1), hot):
        planned = host(facts(device(0), hidden, visible_devices=("GPU-0",)))
        assert ([gpu.index for gpu in planned.gpus], planned.warnings) == ([0], ())


LOST = device(
    1, memory_total_bytes=None, memory_free_bytes=None, problems=("GPU 1 is lost: reboot the host.",)
)


class TestAGpuThatIsLost:
    """One that Ollama does not see any more: planning with the others in silence would hide the loss."""

    lost: ClassVar = {**facts(device(0), LOST), "visible_devices": ["GPU-0"]}

    def test_is_an_error_by_default(self):
        with pytest.raises(
            ValueError, match=r"GPU 1 .* is lost: reboot the host; .*ollama_plan_on_gpu_fault"
        ):
            host(self.lost)

    def test_is_a_warning_where_it_may_be_excluded(self):
        planned = host(self.lost, on_gpu_fault="exclude")
        assert [gpu.index for gpu in planned.gpus] == [0]
        assert "is lost: reboot the host" in planned.warnings[0]


class TestAHostWhoseDriverDoesNotAnswer:
    """It has no GPU to plan for, which is not the same as a host without GPUs."""

    broken: ClassVar = {**facts(), "problems": ["The NVIDIA driver is not loaded: load it or reboot."]}

    def test_is_an_error_by_default(self):
        with pytest.raises(
            ValueError, match=r"driver is not loaded: load it or reboot; .*ollama_plan_on_gpu_fault"
        ):
            host(self.broken)

    def test_is_planned_for_the_cpu_with_a_warning_where_its_gpus_may_be_excluded(self):
        planned = host(self.broken, on_gpu_fault="exclude")
        assert planned.gpus == ()
        assert "driver is not loaded" in planned.warnings[0]


@pytest.mark.parametrize(
    ("values", "environment", "in_use"),
    [
        ({"vendor": "nvidia"}, {}, True),
        ({"vendor": "amd"}, {}, False),
        ({"vendor": "amd", "gfx_target": "gfx1151"}, {}, True),
        ({"vendor": "amd"}, {"OLLAMA_IGPU_ENABLE": "1"}, True),
        ({"vendor": "amd"}, {"OLLAMA_IGPU_ENABLE": "yes"}, True),
        ({"vendor": "amd"}, {"OLLAMA_IGPU_ENABLE": "'0'"}, False),
        ({"vendor": "nvidia"}, {"OLLAMA_IGPU_ENABLE": "0"}, False),
    ],
)
def test_integrated_gpus_count_only_where_ollama_uses_them(values, environment, in_use):
    planned = host(facts(device(0, integrated=True, **values)), environment=environment)
    assert bool(planned.gpus) is in_use
    assert bool(planned.warnings) is not in_use
    assert planned.estimated == ()


@pytest.mark.parametrize("is_taken", [True, False, None])
def test_a_gpu_that_is_used_by_another_library_than_its_vendors_makes_the_plan_an_estimate(is_taken):
    """Whether the running server took it or has said nothing of it."""
    environment = {"OLLAMA_VULKAN": "1"}
    found = host_from_facts(
        facts(device(0, vendor="intel", name="Arc A770")),
        on_gpu_fault="fail",
        environment=environment,
        managed_environment={},
        rules=rules("0.33.0"),
        said=None if is_taken is None else said(VULKAN_TAKEN) if is_taken else Said(),
    )
    assert [found.library_of(gpu) for gpu in found.gpus] == ["Vulkan"]
    (estimated,) = found.estimated
    assert estimated.startswith("GPU 0 (Arc A770, GPU-0): ")
    assert estimated.endswith("; the plan is an estimate")
    assert found.warnings == (estimated,)


def test_a_gpu_that_could_not_be_measured_is_named():
    planned = host(
        facts(unmeasured=(UnmeasuredGpu("0000:03:00.0", "intel", "0x56a0", "no source reads it"),))
    )
    assert planned.warnings[0] == (
        "GPU 0000:03:00.0 (intel) could not be measured and is not planned with: no source reads it"
    )
    # Ollama itself may use it.
    assert "OLLAMA_VULKAN=0" in planned.warnings[1]
    assert planned.estimated == planned.warnings[1:]


@pytest.mark.parametrize(
    ("limit_gib", "available_gib", "warned"), [(32, 32, True), (60, 60, True), (80, 60, True), (None, 60, False)]
)
def test_a_unit_with_a_limit_has_no_more_system_memory_than_that(limit_gib, available_gib, warned):
    limit = None if limit_gib is None else limit_gib * GIB
    planned = host(facts(system_memory_limit_bytes=limit))
    assert planned.system_memory_available_bytes == available_gib * GIB
    assert ("MemoryMax= or MemoryHigh= of its unit" in " ".join(planned.warnings)) is warned
    # Where there are GPUs, the models lie in their memory.
    assert host(facts(device(0), system_memory_limit_bytes=limit)).warnings == ()


def test_less_memory_is_less_on_every_gpu():
    less = host(
        facts(device(0, memory_free_bytes=3 * GIB, memory_ours_bytes=GIB), device(1))
    ).with_memory_changed(-GIB)
    assert [available_bytes(gpu) for gpu in less.gpus] == [3 * GIB, 22 * GIB]
    assert less.system_memory_available_bytes == 59 * GIB


def test_more_memory_is_no_more_than_there_is_in_all():
    more = host(facts(device(0, memory_free_bytes=3 * GIB), device(1))).with_memory_changed(64 * GIB)
    assert [available_bytes(gpu) for gpu in more.gpus] == [24 * GIB, 24 * GIB]
    assert more.system_memory_available_bytes == more.system_memory_total_bytes


def test_there_is_never_less_memory_than_none():
    none = host(facts(device(0), device(1))).with_memory_changed(-100 * GIB)
    assert [available_bytes(gpu) for gpu in none.gpus] == [0, 0]
    assert none.system_memory_available_bytes == 0


@pytest.mark.parametrize(("position", "free_gib"), [(0, [22, 23, 23]), (1, [23, 22, 23]), (2, [23, 23, 22])])
def test_less_memory_may_be_less_on_one_gpu_alone(position, free_gib):
    less = host(facts(device(0), device(1), device(2))).with_memory_changed(-GIB, position)
    assert [available_bytes(gpu) // GIB for gpu in less.gpus] == free_gib
    assert less.system_memory_available_bytes == 60 * GIB


def test_where_only_the_available_system_memory_is_known_no_more_is_counted_on():
    more = host({"devices": [], "system_memory_available_bytes": 4 * GIB}).with_memory_changed(GIB)
    assert more.system_memory_available_bytes == 4 * GIB


@pytest.mark.parametrize(
    ("total", "reserved", "usable"),
    [(24 * GIB, None, 24 * GIB), (24 * GIB, GIB, 23 * GIB), (GIB, 2 * GIB, 0), (None, None, 0), (None, GIB, 0)],
)
def test_programs_can_use_all_but_what_the_driver_keeps(total, reserved, usable):
    assert usable_bytes(device(memory_total_bytes=total, memory_reserved_bytes=reserved)) == usable


@pytest.mark.parametrize(
    ("malformed", "sentence"),
    [
        ([], "GPU facts must be a mapping with a list 'devices', found []"),
        ({"devices": "none"}, "GPU facts has 'none' as 'devices', expected a list"),
        ({"devices": [24]}, "GPU 0 must be a mapping, found 24"),
        (
            {"devices": [{"memory_total_bytes": "24G"}]},
            "GPU 0 has '24G' as 'memory_total_bytes', expected a size",
        ),
        ({"devices": [{"memory_total_bytes": -1}]}, "GPU 0 has -1 as 'memory_total_bytes', expected a size"),
        ({"devices": [{"memory_total_bytes": 1, "name": 7}]}, "a GPU has 7 as 'name', expected text"),
        ({"system_memory_total_bytes": True}, "GPU facts has True as 'system_memory_total_bytes'"),
        ({"devices_left_out": "x"}, "GPU facts has 'x' as 'devices_left_out', expected a number of GPUs"),
        ({"devices": {}}, "GPU facts has {} as 'devices', expected a list"),
    ],
)
def test_malformed_facts_are_refused_in_one_sentence(malformed, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        host(malformed)


@pytest.mark.parametrize("what", ["system_memory_total_bytes", "system_memory_available_bytes"])
def test_a_size_is_at_most_an_exbibyte(what):
    assert host({"devices": [], what: 1 << 60}).gpus == ()
    with pytest.raises(ValueError, match=rf"more than {1 << 60} as '{what}'"):
        host({"devices": [], what: (1 << 60) + 1})


class TestMoreGpusThanArePlanned:
    def test_of_those_that_are_described_1024_are_looked_at(self):
        fine = [{"memory_total_bytes": 24 * GIB}] * 1023
        with pytest.raises(ValueError, match="GPU 1023 must be a mapping, found 'x'"):
            host({"devices": [*fine, "x"]})
        assert len(host({"devices": [*fine, fine[0], "x"]}).gpus) == 64

    def test_the_rest_is_hidden_from_ollama_and_counted(self):
        planned = host(facts(*map(device, range(70))))
        assert [gpu.index for gpu in planned.gpus] == list(range(64))
        assert planned.warnings == (
            "6 GPUs are left out of the plan and hidden from Ollama: at most 64 are planned",
        )
        uuids = planned.environment["CUDA_VISIBLE_DEVICES"].split(",")
        assert uuids == [f"GPU-{number}" for number in range(64)]

    def test_those_that_the_host_did_not_tell_are_hidden_too(self):
        planned = host(facts(device(0), devices_left_out=5))
        assert planned.environment == {"CUDA_VISIBLE_DEVICES": "GPU-0"}
        assert planned.warnings[0].startswith("5 GPUs are left out of the plan and hidden")

    def test_fewer_than_none_are_none(self):
        assert host({"devices": [], "devices_left_out": -5}).warnings == ()

    def test_a_hundred_thousand_descriptions_are_soon_read(self):
        began = time.monotonic()
        planned = host({"devices": [{"memory_total_bytes": 24 * GIB}] * 100_000})
        assert (len(planned.gpus), planned.warnings[0][:10]) == (64, "99936 GPUs")
        assert time.monotonic() - began < 5


def said(*devices: ComputeDevice) -> Said:
    return Said(ServerLog(devices=devices))


NOTHING_TAKEN = ComputeDevice("cpu", "cpu", "", "cpu", "cpu", "", "", None, None)
VULKAN_TAKEN = ComputeDevice("0", "Vulkan", "", "Vulkan0", "", "", "0000:00:00.0", None, None)
FIRST_TAKEN = ComputeDevice("0", "CUDA", "", "CUDA0", "", "", "0000:01:00.0", None, None)


@pytest.mark.parametrize(
    ("devices", "planned", "left_out"),
    [((NOTHING_TAKEN,), [], [0, 1]), ((FIRST_TAKEN,), [0], [1]), ((), [], [0, 1])],
    ids=["no GPU", "one of two", "an empty list"],
)
def test_a_gpu_that_the_running_server_does_not_take_is_not_planned_with(devices, planned, left_out):
    gpus = [{"memory_total_bytes": 24 * GIB, "pci_bus_id": f"00000000:0{n}:00.0"} for n in (1, 2)]
    found = host_from_facts(
        {"devices": gpus},
        on_gpu_fault="fail",
        environment={},
        managed_environment={},
        rules=rules("0.33.0"),
        said=said(*devices),
    )
    assert [gpu.index for gpu in found.gpus] == planned
    assert [gpu.index for gpu in found.dropped] == left_out
    assert sum("is not used by the Ollama that runs" in warning for warning in found.warnings) == len(left_out)
    assert found.environment == {}


def test_a_gpu_that_the_running_server_takes_is_planned_with_whatever_the_rules_say():
    gpu = {"memory_total_bytes": 24 * GIB, "pci_bus_id": "0000:01:00.0", "integrated": True, "vendor": "amd"}
    keywords = {
        "on_gpu_fault": "fail",
        "environment": {},
        "managed_environment": {},
        "rules": rules("0.33.0"),
    }
    assert host_from_facts({"devices": [gpu]}, **keywords).gpus == ()
    assert len(host_from_facts({"devices": [gpu]}, **keywords, said=said(FIRST_TAKEN)).gpus) == 1


def test_a_faulty_gpu_is_a_fault_also_where_the_running_server_does_not_take_it():
    gpu = {"memory_total_bytes": 24 * GIB, "pci_bus_id": "0000:02:00.0", "problems": ["GPU 0 is lost."]}
    with pytest.raises(ValueError, match="GPU 0 is lost; repair it"):
        host_from_facts(
            {"devices": [gpu]},
            on_gpu_fault="fail",
            environment={},
            managed_environment={},
            rules=rules("0.33.0"),
            said=said(NOTHING_TAKEN),
        )
