# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import _nvml_ctypes
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml_binding import (
    FUNCTION_NOT_FOUND,
    BindingUnavailable,
    NvmlError,
)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (_nvml_ctypes._PciInfo, pynvml.nvmlPciInfo_t),
        (_nvml_ctypes._Memory, pynvml.c_nvmlMemory_t),
        (_nvml_ctypes._MemoryV2, pynvml.c_nvmlMemory_v2_t),
        (_nvml_ctypes._Process, pynvml.c_nvmlProcessInfo_v3_t),
    ],
)
def test_structs_have_the_layout_of_nvidias_own_binding(ours: Any, theirs: Any) -> None:
    def layout(struct: Any) -> list[tuple[int, int]]:
        fields = [getattr(struct, field[0]) for field in struct._fields_]
        return [(field.offset, field.size) for field in fields]

    assert ctypes.sizeof(ours) == ctypes.sizeof(theirs)
    assert layout(ours) == layout(theirs)


def test_constants_are_those_of_nvidias_own_binding() -> None:
    assert pynvml.nvmlMemory_v2 == _nvml_ctypes.MEMORY_V2
    assert _nvml_ctypes.UNCORRECTED == pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
    assert _nvml_ctypes.SINCE_DRIVER_LOAD == pynvml.NVML_VOLATILE_ECC
    assert _nvml_ctypes.TEXT_BYTES >= pynvml.NVML_DEVICE_UUID_V2_BUFFER_SIZE


def test_a_library_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(BindingUnavailable, match=r"libno-such-library\.so cannot be loaded"):
        _nvml_ctypes.CtypesNvml("libno-such-library.so")


def test_a_file_that_is_no_library_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_text("not a library")
    with pytest.raises(BindingUnavailable, match="cannot be loaded"):
        _nvml_ctypes.CtypesNvml(str(tmp_path / "lib.so"))


def test_a_function_that_the_driver_lacks_is_an_error_of_nvml(nvml: Callable[[Any], Path]) -> None:
    nvml("rtx3060_12gb")
    library = _nvml_ctypes.CtypesNvml()
    with pytest.raises(NvmlError) as failed:
        library._call("nvmlNoSuchFunction")
    assert failed.value.code == FUNCTION_NOT_FOUND


def test_a_list_that_never_fits_is_given_up(
    monkeypatch: pytest.MonkeyPatch, nvml: Callable[[Any], Path]
) -> None:
    description = {
        "driver_version": "1",
        "devices": [{"processes": [{"pid": pid, "used_bytes": 1} for pid in range(1, 100)]}],
    }
    nvml(description)
    monkeypatch.setattr(_nvml_ctypes, "MAXIMUM_PROCESSES", 10)
    library = _nvml_ctypes.CtypesNvml()
    library.start()
    try:
        with pytest.raises(NvmlError, match="Insufficient Size"):
            library.compute_processes(library.device(0))
    finally:
        library.stop()
