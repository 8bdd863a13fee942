# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets to place on: hosts by the size of their GPUs, with published models; the planner asked once for all tests."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import ClassVar

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import short_name
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement import _place
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._demand import demands_from_list
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._fleet import Found, read_fleet
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._place import Limits, place
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._prover import Prover
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._highs import solver
from ansible_collections.gpufleet.ollama.tests.unit.data import shape

GIB = 1 << 30
LIMITS = Limits(clock=time.monotonic)


class RememberingProver(Prover):
    """The planner, asked once for each host, set and parallel value, however many fleets there are."""

    answers: ClassVar[dict[object, object]] = {}

    def _once(self, key: object, ask):
        known = (self._key, key)
        if known not in self.answers:
            self.answers[known] = ask()
        return self.answers[known]

    @property
    def _key(self) -> object:
        demands = tuple((one.model.key, one.model.num_ctx, one.wanted) for one in self._inputs.demands)
        inputs = self._inputs
        raised = (inputs.observed, inputs.runner_overhead_bytes)
        return (inputs.host.gpus, demands, repr(inputs.policy), str(inputs.rules.version), raised)

    def is_safe(self, names: Collection[str], parallel: int) -> bool:
        return self._once(
            (frozenset(names), parallel), lambda: super(RememberingProver, self).is_safe(names, parallel)
        )

    def proof(self, names: Collection[str], parallel: int):
        key = ("proof", frozenset(names), parallel)
        return self._once(key, lambda: super(RememberingProver, self).proof(names, parallel))


@pytest.fixture
def remembering(monkeypatch):
    """Lets placements ask the planner once for all of them."""
    monkeypatch.setattr(_place, "Prover", RememberingProver)


@pytest.fixture(scope="session")
def host():
    """`host(24, 12, has=[...], loaded=[...], parallel=4)` is what is known of a host with GPUs of so many GiB.

    It may be given every model of `models`; what it `has` is installed there.
    """

    def found(
        *gpus_gib,
        models=(),
        has=None,
        loaded=(),
        planned=(),
        parallel=0,
        context=0,
        may_hold=None,
        values=None,
        free_gib=None,
        is_read=False,
        measured=None,
        observed=(),
        server=None,
        **policy,
    ):
        running = (
            {"OLLAMA_NUM_PARALLEL": str(parallel), "OLLAMA_CONTEXT_LENGTH": str(context)} if parallel else {}
        )
        described = models if has is None or not is_read else has
        return Found(
            inputs={
                "gpu": {
                    "system_memory_total_bytes": 256 * GIB,
                    "devices": [
                        {
                            "name": f"GPU of {size} GiB",
                            "memory_total_bytes": size * GIB,
                            "memory_free_bytes": int((size if free_gib is None else free_gib) * GIB),
                            "compute_capability": "8.6",
                        }
                        for size in gpus_gib
                    ],
                },
                "models": [shape(name).to_dict() for name in described],
                "version": "0.33.0",
                "policy": policy,
                "service": {"process_environment": running},
                "installed": list(has or ()),
                "loaded": [{"name": name, "context_length": context} for name in loaded],
                "measured": measured or {},
                "observed": list(observed),
                "server": server or {},
                "is_read": is_read,
            },
            may_hold=frozenset(
                short_name(shape(name).name) for name in (models if may_hold is None else may_hold)
            ),
            planned=tuple(planned),
            values=values,
        )

    return found


@pytest.fixture
def placed(remembering, host):
    """`placed({'a': [24]}, [{'name': 'gemma3:4b', 'requests': 4}], survive=True)` is the placement on such hosts.

    A host is a list of GPUs in GiB or a dictionary with `gpus` and what the fixture `host` takes.
    """

    def make(hosts, demand, *, survive=False, left_out=None, may_pull=True, limits=LIMITS):
        names = [one["name"] for one in demand]
        found = {}
        for name, one in hosts.items():
            options = dict(one) if isinstance(one, dict) else {"gpus": one}
            found[name] = host(*options.pop("gpus"), models=options.pop("models", names), **options)
        fleet = read_fleet(demands_from_list(demand), found, left_out or {}, may_pull=may_pull)
        return place(fleet, solver(), limits, survive=survive)

    return make
