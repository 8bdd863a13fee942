# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a source of GPU facts gives when it is asked, and why it may give none."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._kernel_files import SystemMemory


@dataclass(frozen=True)
class SourceFacts:
    """What one source says of a host; versions are text, devices carry no owners of processes yet.

    `description` names the source as people are told of it.
    """

    description: str
    devices: tuple[GpuDevice, ...]
    driver_version: str | None = None
    nvml_version: str | None = None
    cuda_driver_version: str | None = None


# A source's function. It takes the host's memory, for GPUs that have none of their own, and where sysfs lies.
Read = Callable[[SystemMemory, Path], SourceFacts]


class SourceUnavailable(Exception):
    """The source has nothing to say here, and the next one is asked; the text is one sentence for people."""


class SourceRefused(Exception):
    """The vendor's driver does not answer, whoever asks; the text is one sentence for people, with what to do."""
