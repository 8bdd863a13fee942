# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib
import sys
import types
from importlib import metadata
from typing import Any

import pynvml
import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import _nvml_pynvml
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml_binding import (
    BindingUnavailable,
    NvmlError,
)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says which distributions are installed: name and version."""

    def say(distributions: dict[str, str]) -> None:
        def version(name: str) -> str:
            if name not in distributions:
                raise metadata.PackageNotFoundError(name)
            return distributions[name]

        monkeypatch.setattr(metadata, "version", version)

    return say


def test_the_binding_names_its_package_and_version() -> None:
    version = metadata.version("nvidia-ml-py")
    assert _nvml_pynvml.PynvmlNvml().description == f"pynvml (nvidia-ml-py {version})"


@pytest.mark.parametrize("name", ["pynvml", "nvidia-ml-py3"])
def test_a_deprecated_package_is_said_to_be_so(installed: Any, name: str) -> None:
    installed({name: "11.5.3"})
    description = _nvml_pynvml.describe(pynvml)
    assert description == f"pynvml (deprecated package {name}; nvidia-ml-py replaces it)"


def test_the_deprecated_package_is_recognised_behind_the_maintained_one(installed: Any) -> None:
    installed({"nvidia-ml-py": "13.0", "pynvml": "11.5.3"})
    package = types.ModuleType("pynvml")
    package.__path__ = ["/usr/lib/python3/dist-packages/pynvml"]
    assert "deprecated" in _nvml_pynvml.describe(package)


def test_a_module_of_unknown_origin_has_no_version(installed: Any) -> None:
    installed({})
    assert _nvml_pynvml.describe(pynvml) == "pynvml"


def test_a_binding_that_is_too_old_names_what_it_lacks(installed: Any) -> None:
    installed({"nvidia-ml-py3": "7.352.0"})
    old = types.SimpleNamespace(nvmlInit=lambda: None)
    with pytest.raises(BindingUnavailable, match=r"nvidia-ml-py3.* is too old: it has no nvmlMemory_v2"):
        _nvml_pynvml.PynvmlNvml(old)


def test_no_module_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(BindingUnavailable, match="this Python has no module pynvml"):
        _nvml_pynvml.PynvmlNvml()


@pytest.mark.parametrize(
    "error", [ImportError("libpython is gone", name="_ctypes"), SyntaxError("invalid syntax")]
)
def test_a_broken_module_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(_name: str) -> None:
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(BindingUnavailable, match="is broken") as broken:
        _nvml_pynvml.PynvmlNvml()
    assert str(error) in str(broken.value)


class FakeError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__("an error")
        self.value = value


def fake(**functions: Any) -> Any:
    """A binding with what is needed, and the given functions."""
    needed = dict.fromkeys(_nvml_pynvml.NEEDED, 0)
    return types.SimpleNamespace(**{**needed, "NVMLError": FakeError, **functions})


def test_a_library_that_pynvml_cannot_find_leaves_the_host_to_other_sources() -> None:
    def fail() -> None:
        raise FakeError(12)

    with pytest.raises(BindingUnavailable, match=r"cannot load libnvidia-ml\.so\.1"):
        _nvml_pynvml.PynvmlNvml(fake(nvmlInit=fail)).start()


def test_a_function_that_an_old_binding_lacks_is_an_error_of_nvml() -> None:
    with pytest.raises(NvmlError, match="has no nvmlDeviceGetArchitecture"):
        _nvml_pynvml.PynvmlNvml(fake()).architecture(None)


def test_text_of_old_bindings_comes_as_bytes() -> None:
    assert _nvml_pynvml.PynvmlNvml(fake(nvmlDeviceGetName=lambda _: b"Tesla K80")).name(None) == "Tesla K80"
