# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The newest engine that the rules were held against, and models for it; no registry, no tests, unless in CI."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

# Programs beside each other, not a package.
sys.path.insert(0, str(Path(__file__).parent))

import package  # found by the line above
import probe


@pytest.fixture(scope="session")
def engine() -> package.Engine:
    try:
        return package.engine([*package.KNOWN][-1])
    except package.Unreachable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no registry answers: {error}")


@pytest.fixture(scope="session")
def run(engine: package.Engine, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """`run(model, devices, points, VARIABLE=...)`: what the engine loaded, and what came of each point."""
    folder = tmp_path_factory.mktemp("models")

    def answer(
        model: str, devices: Sequence[probe.Device], points: Sequence[probe.Point], **variables: str
    ) -> tuple[probe.Loaded, list[probe.Outcome]]:
        header = json.loads(probe.header_path(model).read_text())
        path = probe.sparse_model(header, folder / f"{model.replace(':', '_')}.gguf")
        return probe.run_points(engine, path, points, probe.environment(engine, devices, **variables))

    return answer
