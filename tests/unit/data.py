# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests read: where recorded data lies, the published models by name, the benchmarks as modules."""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import (
    ModelShape,
    shape_from_header,
)

CHECKOUT = Path(__file__).resolve().parents[2]
TESTS = CHECKOUT / "tests"
DATA = TESTS / "data"
CAPTURES = DATA / "captures"
HEADERS = DATA / "headers"
NEWER_HEADERS = DATA / "newer" / "headers"
SIMULATED_NVML = TESTS / "simulated_nvml"
PROFILES = SIMULATED_NVML / "profiles"

# The published models by the name of their file, e.g. gemma3_4b; beside them those of which newer builds were measured.
STEMS = sorted(path.stem for path in HEADERS.glob("*.json"))


def header(name: str) -> dict[str, Any]:
    """The header of a published model, named as Ollama names it or as its file is; a copy for each caller."""
    read: dict[str, Any] = json.loads(_text(name.replace(":", "_")))
    return read


@lru_cache(maxsize=None)
def shape(name: str) -> ModelShape:
    """A published model, named as Ollama names it or as its file is."""
    read = header(name)
    return shape_from_header(read, name=read["name"], digest=f"sha256-{name.replace(':', '_')}")


@lru_cache(maxsize=None)
def bench(program: str) -> ModuleType:
    """A program of tests/bench as a module."""
    folder = TESTS / "bench"
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location(f"bench_{program}", folder / f"{program}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[f"bench_{program}"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


@lru_cache(maxsize=None)
def _text(stem: str) -> str:
    folder = HEADERS if (HEADERS / f"{stem}.json").exists() else NEWER_HEADERS
    return (folder / f"{stem}.json").read_text()
