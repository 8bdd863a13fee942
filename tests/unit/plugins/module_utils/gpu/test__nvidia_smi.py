# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import _nvidia_smi
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._kernel_files import SystemMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvidia_smi import NvidiaSmiFailed
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._source import SourceFacts
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA
from hypothesis import given
from hypothesis import strategies as st

NVIDIA_SMI = DATA / "nvidia_smi"
MIB = 1 << 20
SYSTEM = SystemMemory(total_bytes=128 << 30, available_bytes=100 << 30)


def parse(name: str) -> SourceFacts:
    return _nvidia_smi.parse((NVIDIA_SMI / f"{name}.xml").read_bytes(), SYSTEM)


def test_two_cards_with_processes() -> None:
    facts = parse("rtx3090_x2")
    first, second = facts.devices
    assert (facts.driver_version, facts.cuda_driver_version, facts.nvml_version) == (
        "570.133.20",
        "12.8",
        None,
    )
    assert (first.index, second.index) == (0, 1)
    assert (first.name, first.architecture) == ("NVIDIA GeForce RTX 3090", "Ampere")
    assert (first.pci_bus_id, first.display_attached, second.display_attached) == (
        "0000:01:00.0",
        True,
        False,
    )
    assert (first.memory_total_bytes, first.memory_reserved_bytes) == (24576 * MIB, 310 * MIB)
    assert (first.memory_used_bytes, first.memory_free_bytes) == (5121 * MIB, 19145 * MIB)
    assert [(p.pid, p.used_bytes) for p in first.processes] == [(900, 120 * MIB), (4711, 5000 * MIB)]
    assert second.processes == ()
    assert (first.mig_mode, first.ecc_enabled, first.problems, second.problems) == (None, None, (), ())


def test_mig_instances_have_their_memory_processes_and_older_names() -> None:
    parent, first, second = parse("h100_mig_2").devices
    assert (parent.mig_mode, parent.memory_total_bytes, parent.problems) == (True, 81559 * MIB, ())
    assert first.uuid == "MIG-GPU-00000000-0000-5000-8000-000000000003/1/0"
    assert first.mig_parent_uuid == parent.uuid
    assert (first.index, second.index) == (0, 1)
    assert (first.memory_total_bytes, first.memory_used_bytes) == (40448 * MIB, 298 * MIB)
    assert [process.pid for process in first.processes] == [77]
    assert second.processes == ()


def test_a_gpu_without_memory_of_its_own_has_the_systems() -> None:
    (gpu,) = parse("gb10").devices
    assert (gpu.memory_total_bytes, gpu.memory_free_bytes) == (128 << 30, 100 << 30)
    assert gpu.unified_memory
    assert gpu.pci_bus_id == "000f:01:00.0"


def test_a_gpu_whose_memory_nobody_tells_is_a_problem() -> None:
    facts = _nvidia_smi.parse((NVIDIA_SMI / "gb10.xml").read_bytes(), SystemMemory())
    assert facts.devices[0].problems == ("GPU 0 does not tell its memory",)


def test_faults_are_sentences() -> None:
    pending, failed, lost, retired = parse("faults").devices
    assert "waits for a reset" in pending.problems[0]
    assert "exchange it" in failed.problems[0]
    assert lost.problems[0].startswith("GPU 2 is lost")
    assert not lost.is_usable
    assert "waits for a reset" in retired.problems[0]


def document(gpu: str) -> bytes:
    return f'<nvidia_smi_log><gpu id="00000000:01:00.0">{gpu}</gpu></nvidia_smi_log>'.encode()


@pytest.mark.parametrize(
    "total",
    ["12288", "12288 MB", "-5 MiB", "99999999999999 MiB", "9999999999 MiB", "", "12 MiB extra", "ERR!"],
)
def test_sizes_that_make_no_sense_are_unknown(total: str) -> None:
    facts = _nvidia_smi.parse(
        document(f"<fb_memory_usage><total>{total}</total></fb_memory_usage>"), SystemMemory()
    )
    assert facts.devices[0].memory_total_bytes is None


@pytest.mark.parametrize("pid", ["", "x", "-1", "99999999999999"])
def test_processes_without_a_pid_are_left_out(pid: str) -> None:
    entry = f"<processes><process_info><pid>{pid}</pid></process_info></processes>"
    assert _nvidia_smi.parse(document(entry), SYSTEM).devices[0].processes == ()


def test_a_hundred_thousand_processes_are_read() -> None:
    entry = "<process_info><pid>7</pid><used_memory>1 MiB</used_memory></process_info>"
    facts = _nvidia_smi.parse(document(f"<processes>{entry * 100_000}</processes>"), SYSTEM)
    assert len(facts.devices[0].processes) == 100_000


BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE nvidia_smi_log [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<nvidia_smi_log>&b;</nvidia_smi_log>"""


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (b"", "no XML"),
        (b"No devices were found", "no XML"),
        (b"<nvidia_smi_log><gpu>", "no XML"),
        (b"\x00\xff\xfe", "no XML"),
        (b"<html/>", "XML of <html>, expected <nvidia_smi_log>"),
        (BOMB, "declares entities"),
        (b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><x>&f;</x>', "declares entities"),
        (b"<a>" * 1000, "nested too deeply"),
    ],
)
def test_what_is_no_such_xml_is_refused_in_one_sentence(output: bytes, message: str) -> None:
    with pytest.raises(NvidiaSmiFailed, match=message):
        _nvidia_smi.parse(output, SYSTEM)


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_being_refused(output: bytes) -> None:
    with pytest.raises(NvidiaSmiFailed):
        _nvidia_smi.parse(output, SYSTEM)


WHOLE = (NVIDIA_SMI / "h100_mig_2.xml").read_bytes()


@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=8))
def test_damaged_output_is_read_or_refused(place: int, damage: bytes) -> None:
    try:
        facts = _nvidia_smi.parse(WHOLE[:place] + damage + WHOLE[place + len(damage) :], SYSTEM)
    except NvidiaSmiFailed:
        return
    assert all(device.vendor == "nvidia" for device in facts.devices)


def program(folder: Path, script: str) -> tuple[str, ...]:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return (str(path),)


def test_the_program_is_run_and_read(tmp_path: Path) -> None:
    facts = _nvidia_smi.read_nvidia_smi(SYSTEM, program(tmp_path, f"cat '{NVIDIA_SMI}/rtx3090_x2.xml'"))
    assert len(facts.devices) == 2


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18",
            "status 18: Failed to init",
        ),
        ("exit 9", "exit status 9: without a word"),
        ("yes '<a>'", "more than 8 MiB"),
        ("echo", "no XML"),
    ],
)
def test_a_program_that_fails_is_told_in_one_sentence(tmp_path: Path, script: str, message: str) -> None:
    with pytest.raises(NvidiaSmiFailed, match=message):
        _nvidia_smi.read_nvidia_smi(SYSTEM, program(tmp_path, script))


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NvidiaSmiFailed, match="cannot be run"):
        _nvidia_smi.read_nvidia_smi(SYSTEM, (str(tmp_path / "nvidia-smi"),))
