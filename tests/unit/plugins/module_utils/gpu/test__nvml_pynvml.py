# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import _nvml_pynvml
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml_binding import (
    BindingUnavailable,
    NvmlError,
)


@pytest.fixture
def installed(tmp_path: Path) -> Callable[..., Any]:
    """A module pynvml, beside what its folder tells of the installed distributions."""

    def install(*metadata: str, is_package: bool = False, **content: Any) -> Any:
        for name in metadata:
            (tmp_path / name).mkdir()
        module: Any = types.ModuleType("pynvml")
        module.__file__ = str(tmp_path / ("pynvml/__init__.py" if is_package else "pynvml.py"))
        if is_package:
            module.__path__ = [str(tmp_path / "pynvml")]
        vars(module).update(content)
        return module

    return install


def test_the_binding_names_its_package_and_version() -> None:
    version = metadata.version("nvidia-ml-py")
    assert _nvml_pynvml.PynvmlNvml().description == f"pynvml (nvidia-ml-py {version})"


DEPRECATED = "pynvml (deprecated package {}; nvidia-ml-py replaces it)"


@pytest.mark.parametrize(
    ("beside", "is_package", "description"),
    [
        (["nvidia_ml_py-13.580.82.dist-info"], False, "pynvml (nvidia-ml-py 13.580.82)"),
        (["nvidia_ml_py-12.535.133.egg-info"], False, "pynvml (nvidia-ml-py 12.535.133)"),
        (["nvidia_ml_py-12.535.133-py3.11.egg-info"], False, "pynvml (nvidia-ml-py 12.535.133)"),
        # The deprecated name brings the maintained package since version 12.
        (["pynvml-13.0.1.dist-info", "nvidia_ml_py-13.0.dist-info"], False, "pynvml (nvidia-ml-py 13.0)"),
        (["pynvml-11.5.3.dist-info"], True, DEPRECATED.format("pynvml")),
        (["pynvml-11.5.3.dist-info", "nvidia_ml_py-13.0.dist-info"], True, DEPRECATED.format("pynvml")),
        (["nvidia_ml_py3-7.352.0.dist-info"], False, DEPRECATED.format("nvidia-ml-py3")),
        ([], True, DEPRECATED.format("pynvml")),
        (["nvidia-ml-py.dist-info", "other-1.0.dist-info"], False, "pynvml"),
        ([], False, "pynvml"),
    ],
)
def test_a_module_is_named_for_the_distribution_that_brought_it(
    installed: Callable[..., Any], beside: list[str], is_package: bool, description: str
) -> None:
    assert _nvml_pynvml.describe(installed(*beside, is_package=is_package)) == description


@pytest.mark.parametrize("file", [None, "/no/such/folder/pynvml.py", "pynvml.py"])
def test_a_module_of_unknown_origin_has_no_version(file: str | None) -> None:
    assert _nvml_pynvml.describe(types.SimpleNamespace(__file__=file)) == "pynvml"


def test_a_binding_that_is_too_old_names_what_it_lacks(installed: Callable[..., Any]) -> None:
    old = installed("nvidia_ml_py3-7.352.0.dist-info", nvmlInit=lambda: None)
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
