# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rules a version of Ollama follows: a row for each release that changed one."""

from __future__ import annotations

from dataclasses import field, replace
from enum import Enum
from functools import lru_cache

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import GIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions import _families as families
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import (
    EngineBuild,
    pin_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_rules import rules_name
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._gpu_rules import GpuRules, gpu_rules
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._placement_rules import PlacementRules
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._version import Version, parse


class Era(Enum):
    """How a range of Ollama versions sizes a model before it loads it."""

    FORMULA = "formula"
    GO_ENGINE = "go_engine"
    LLAMA_SERVER = "llama_server"


@dataclass(frozen=True)
class KnownBug:
    """A bug of Ollama that changes where models end up, by its address in the tracker."""

    issue: str


@dataclass(frozen=True)
class VersionRules:
    """What one version of Ollama does: a row of this file, for the version that was asked about.

    `engine_build`: the engine that it pins, or the nearest known; None before 0.30. `warnings`: one sentence each.
    """

    version: Version
    era: Era
    has_context_tiers: bool = False
    engine_build: EngineBuild | None = None
    placement: PlacementRules = field(default_factory=PlacementRules)
    bugs: tuple[KnownBug, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """By which rules memory is foretold: the engine's build and Ollama's version."""
        return rules_name(self.engine_build, self.version) if self.engine_build else f"Ollama {self.version}"

    def default_context_length(self, total_vram_bytes: int) -> int:
        """Context length per request that Ollama chooses when nothing sets one.

        It depends on the memory of all GPUs together, less the overhead per GPU, and ignores the
        parallel value.

        Source: ollama server/routes.go, "vram-based default context" (0.15.5 to 0.33.0-rc2).
        """
        if not self.has_context_tiers:
            return CONTEXT_DEFAULT
        for least_bytes, context_length in CONTEXT_TIERS:
            if total_vram_bytes >= least_bytes:
                return context_length
        return CONTEXT_DEFAULT

    def forces_single_slot(self, family: str) -> bool:
        """Whether this version runs a model of that family (manifest `model_family`) with one slot only."""
        return families.family(family).has_single_slot(self.version.release)

    @property
    def gpus(self) -> GpuRules:
        """Which GPUs this version takes."""
        return gpu_rules(self.version.release)

    def has_bug(self, bug: KnownBug) -> bool:
        return bug in self.bugs


# What a plain `go build` calls itself. Source: ollama v0.33.0-rc2, version/version.go.
DEVELOPMENT = (0, 0, 0)
CONTEXT_DEFAULT = 4096
CONTEXT_TIERS = ((47 * GIB, 262144), (23 * GIB, 32768))

# A model placed alone on a GPU other than the first is not counted there: once every GPU has a model, Ollama takes that
# GPU for empty and stacks further models on it until they spill to the CPU.
RENUMBERED_DEVICE_BUG = KnownBug("https://github.com/ollama/ollama/issues/18349")

# Without a GPU a model is never wholly on one, for which every further one evicts the others.
# Source: ollama llm/server.go, createLayout and verifyLayout (0.12.7 to 0.13.0), commit 5317202c3.
CPU_EVICTION_BUG = KnownBug("https://github.com/ollama/ollama/issues/13227")


# One row for each release that changed a rule, the oldest first: each says what it changed of the one before.
_0_10 = VersionRules(Version(0, 10, 0), Era.FORMULA)
_0_11_11 = replace(_0_10, version=Version(0, 11, 11), era=Era.GO_ENGINE)
_0_12_7 = replace(_0_11_11, version=Version(0, 12, 7), bugs=(CPU_EVICTION_BUG,))
_0_13_1 = replace(_0_12_7, version=Version(0, 13, 1), bugs=())
_0_15_5 = replace(_0_13_1, version=Version(0, 15, 5), has_context_tiers=True)
_0_30 = replace(
    _0_15_5,
    version=Version(0, 30, 0),
    era=Era.LLAMA_SERVER,
    bugs=(RENUMBERED_DEVICE_BUG,),
    placement=PlacementRules(
        projector_above_bytes=10 * GIB, projector_on_integrated=False, projector_pads_fit=False
    ),
)
_0_30_11 = replace(
    _0_30, version=Version(0, 30, 11), placement=replace(_0_30.placement, projector_above_bytes=0)
)
_0_31_2 = replace(_0_30_11, version=Version(0, 31, 2), placement=PlacementRules())
ROWS = (_0_10, _0_11_11, _0_12_7, _0_13_1, _0_15_5, _0_30, _0_30_11, _0_31_2)
NEWEST_KNOWN = (0, 33)


@lru_cache(maxsize=64)
def rules(text: str | Version) -> VersionRules:
    """The rules that this version of Ollama follows.

    A version newer than the newest known one gets the newest known rules and a warning.

    Raises: ValueError when the text is no version, or names one older than 0.10.0.
    """
    version = parse(text)
    if version.release == DEVELOPMENT:
        raise ValueError(
            f"Ollama {version} cannot be planned: a build of one's own calls itself so, whatever it was built from; set "
            "ollama_plan_version to that, for example 0.33.0."
        )
    reached = [row for row in ROWS if version.release >= row.version.release]
    if not reached:
        raise ValueError(
            f"Ollama {version} cannot be planned: the oldest known is {ROWS[0].version}; upgrade it."
        )
    pin = pin_of(version.release)
    return replace(
        reached[-1],
        version=version,
        engine_build=pin.build if pin else None,
        warnings=_warnings(version),
    )


def _warnings(version: Version) -> tuple[str, ...]:
    if version.release[:2] <= NEWEST_KNOWN:
        return ()
    newest = _dotted(NEWEST_KNOWN)
    return (
        f"Ollama {version} is newer than {newest}, the newest version whose rules are known; "
        f"it is planned by the rules of {newest}, so check the first load on each kind of host.",
    )


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in numbers)
