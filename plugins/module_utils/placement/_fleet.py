# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts on which a demand is placed, as they were read or described, and which of them are alike."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, field, replace
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import GIB, MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._side_files import draft_bytes
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import name_key
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._cover import Group, Held
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._demand import FleetDemand
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._benchmarked import (
    measured_overhead,
    useful_slots,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._choice import (
    BETTER_WITH_LESS_BYTES,
    VARIATION_BYTES,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._host import available_bytes
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import (
    Demand,
    Experience,
    Inputs,
    read_inputs,
    read_models,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    LEAST_CONTEXT_LENGTH,
    WantedModel,
    policy_from_dict,
    unknown_model,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._said import said_from_info
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._seen import observed_from_list
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._seen_on_host import seen_on_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import (
    service_from_info,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import SchedulerModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server_settings import (
    settings_from_environment,
)

# What the words of one host may raise; they must not keep the others from being placed on.
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError)
# What a model has of its manifest and of the files beside it, so that it differs under one digest.
_OF_MANIFEST = frozenset(
    (
        "name",
        "family",
        "quantization",
        "projector_bytes",
        "adapter_bytes",
        "capabilities",
        "num_ctx",
        "tower",
        "parameters",
    )
)


@dataclass(frozen=True)
class Found:
    """What is known of a host before it is placed on.

    `inputs`: what `ollama_plan` would make its plan from, with the models that are demanded. `planned`: the models that it
    was to hold before. `values`: its variables over which demands are spread. `may_hold`: names of the demand.
    """

    inputs: Mapping[str, Any]
    may_hold: frozenset[str]
    planned: tuple[str, ...] = ()
    values: Mapping[str, str] | None = None


@dataclass(frozen=True)
class FleetHost:
    """A host with the inputs of its plan as it was read, and those with which sets are looked for on hosts like it.

    `useful`: of models that were measured on it the slots worth having; more of them do not count.
    """

    name: str
    exact: Inputs
    judged: Inputs
    may_hold: frozenset[str]
    values: Mapping[str, str]
    held: Held
    fingerprints: Mapping[str, str]
    useful: Mapping[str, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its GPUs, for people."""
        names = [gpu.name for gpu in self.exact.host.gpus]
        return ", ".join(
            f"{names.count(name)} x {name}" if names.count(name) > 1 else name
            for name in dict.fromkeys(names)
        )


@dataclass(frozen=True)
class Fleet:
    """The hosts, in groups of which each is of a kind. `left_out`: why others take no part, by host."""

    demands: tuple[FleetDemand, ...]
    hosts: Mapping[str, FleetHost]
    groups: tuple[Group, ...]
    kinds: tuple[FleetHost, ...]
    left_out: Mapping[str, str]


def read_fleet(
    demands: Sequence[FleetDemand], found: Mapping[str, Found], left_out: Mapping[str, str], *, may_pull: bool
) -> Fleet:
    """The fleet, checked against the demand. `may_pull`: whether hosts may be given models that they lack.

    Raises: ValueError in one sentence where no placement can be what is asked for.
    """
    models = _Models(demands, found)
    left_out = {**left_out, **models.left_out}
    demands = tuple(models.resolved(demand) for demand in demands)
    hosts: dict[str, FleetHost] = {}
    for name in models.of_host:
        try:
            host = _host(name, found[name], demands, models, may_pull=may_pull)
        except _UNREADABLE as error:
            left_out[name] = _reason(error)
            continue
        if not host.exact.host.gpus:
            left_out[name] = "it has no GPU that Ollama uses"
            continue
        hosts[name] = host
    if not hosts:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(left_out.items())[:3]) or "there is none"
        raise ValueError(f"no host can be placed on: {reasons}")
    for demand in demands:
        _check_spread(demand, hosts)
        if not any(demand.name in host.may_hold for host in hosts.values()):
            raise ValueError(_nowhere(demand, left_out))
    return grouped(demands, hosts, left_out)


def grouped(
    demands: Sequence[FleetDemand], hosts: Mapping[str, FleetHost], left_out: Mapping[str, str]
) -> Fleet:
    """The fleet of these hosts."""
    kinds: dict[str, int] = {}
    representatives: list[FleetHost] = []
    members: dict[tuple[int, frozenset[str], Held, tuple[tuple[str, str], ...]], list[str]] = {}
    for name, host in hosts.items():
        kind = kinds.setdefault(_kind(host), len(representatives))
        if kind == len(representatives):
            representatives.append(host)
        values = tuple(sorted(host.values.items()))
        members.setdefault((kind, host.may_hold, host.held, values), []).append(name)
    groups = tuple(
        Group(kind=kind, may_hold=may_hold, held=held, hosts=tuple(names), values=dict(values))
        for (kind, may_hold, held, values), names in members.items()
    )
    return Fleet(tuple(demands), hosts, groups, tuple(representatives), left_out)


class _Models:
    """The demanded models as hosts have them, or as they are described. `left_out`: hosts whose models are not to be believed."""

    def __init__(self, demands: Sequence[FleetDemand], found: Mapping[str, Found]) -> None:
        self._read: dict[str, tuple[str, SchedulerModel]] = {}
        self._names = {name_key(demand.name): demand.name for demand in demands}
        self._seen: set[str] = set()
        self._asked: dict[str, int] = {}
        self._context: dict[str, int] = {}
        self.unplannable: dict[str, str] = {}
        self.left_out: dict[str, str] = {}
        # Of each host those that it has or for which it is described, with what tells one file from another.
        self.of_host: dict[str, dict[str, tuple[str, SchedulerModel]]] = {}
        for host, one in found.items():
            try:
                self.of_host[host] = self._of(host, one)
            except _UNREADABLE as error:
                self.left_out[host] = _reason(error)
        self._leave_out_contradictions()
        self.copies = self._copies()
        # For hosts that lack a model: of several files under one name the one that most hosts have, so that no host alone
        # decides for the others; of equally many the larger one.
        self.anywhere = {name: _most_common(copies.values()) for name, copies in self.copies.items()}

    def _of(self, host: str, found: Found) -> dict[str, tuple[str, SchedulerModel]]:
        models = {}
        for raw in found.inputs.get("models") or ():
            name = self._names.get(name_key(str(raw.get("name", ""))), "") if isinstance(raw, Mapping) else ""
            if name:
                text = json.dumps({**raw, "name": name}, sort_keys=True)
                if text not in self._read:
                    try:
                        (model,) = read_models([{**raw, "name": name}])
                    except _UNREADABLE as error:
                        self.unplannable.setdefault(name, f"{host}: {_reason(error)}")
                        raise
                    self._read[text] = (str(len(self._read)), model)
                models[name] = self._read[text]
        for item in found.inputs.get("unplannable") or ():
            name = self._names.get(name_key(str(item.get("name", ""))), "")
            if name:
                self.unplannable.setdefault(name, str(item.get("reason", "")))
        self._seen.update(str(name) for name in found.inputs.get("installed") or ())
        return models

    def _copies(self) -> dict[str, dict[str, tuple[str, SchedulerModel]]]:
        """Of each model the copies, by host."""
        copies: dict[str, dict[str, tuple[str, SchedulerModel]]] = {}
        for host, models in self.of_host.items():
            for name, copy in models.items():
                copies.setdefault(name, {})[host] = copy
        return copies

    def _leave_out_contradictions(self) -> None:
        """Leaves out hosts that tell other numbers of a file than most hosts that have the same one, by its digest."""
        numbers: dict[str, str] = {}
        for name, copies in self._copies().items():
            by_digest: dict[str, dict[str, tuple[str, SchedulerModel]]] = {}
            for host, (fingerprint, model) in copies.items():
                if model.shape and model.shape.digest:
                    if fingerprint not in numbers:
                        numbers[fingerprint] = _numbers_of_file(model)
                    copy = (numbers[fingerprint], model)
                    by_digest.setdefault(model.shape.digest, {})[host] = copy
            for same in by_digest.values():
                (told, _model) = _most_common(same.values())
                for host in [host for host, copy in same.items() if copy[0] != told]:
                    self.left_out.setdefault(
                        host,
                        f"of model '{name}' it tells other numbers than {sum(copy[0] == told for copy in same.values())} "
                        "of the hosts that have the same file by its digest: pull the model again on it",
                    )
        for host in self.left_out:
            self.of_host.pop(host, None)

    def allows(self, name: str, model: SchedulerModel) -> bool:
        """Whether this copy can have the context of its resolved demand."""
        trained = model.context_length_trained
        return _allows(model, self._asked[name]) and not 0 < trained < self._context[name]

    def resolved(self, demand: FleetDemand) -> FleetDemand:
        """The demand with its context length.

        Raises: ValueError where nobody has the model, or it cannot have the context.
        """
        if demand.name not in self.anywhere:
            reason = self.unplannable.get(demand.name)
            if reason:
                raise ValueError(f"model '{demand.name}' is demanded but cannot be planned: {reason}")
            sentence = unknown_model(demand.name, self._seen or list(self.anywhere))
            raise ValueError(
                sentence.replace(
                    "is wanted but not installed", "is demanded, but no host has it and so none may pull it"
                )
            )
        asked = self._asked[demand.name] = demand.context_length
        copies = {host: model for host, (_file, model) in self.copies[demand.name].items()}
        if not any(_allows(model, asked) for model in copies.values()):
            host = max(copies, key=lambda host: _limit(copies[host]))
            most = _limit(copies[host])
            why, do = (
                ("and the model was trained for", f"ask for at most {most}")
                if most == copies[host].context_length_trained
                else (
                    "and the model's own num_ctx sets it to",
                    "ask for at most that, or make a model without it",
                )
            )
            raise ValueError(
                f"gpufleet_demand, model '{demand.name}': context_length is {asked}, {why} {most} on {host}, which no host "
                f"exceeds: {do}"
            )
        trained = self.anywhere[demand.name][1].context_length_trained
        context = asked or min(LEAST_CONTEXT_LENGTH, trained or LEAST_CONTEXT_LENGTH)
        self._context[demand.name] = context
        return replace(demand, context_length=context)


def _most_common(copies: Iterable[tuple[str, SchedulerModel]]) -> tuple[str, SchedulerModel]:
    """The copy that there are most of; of equally many the larger one, then the first."""
    given = list(copies)
    counts = Counter(key for key, _model in given)
    return max(given, key=lambda copy: (counts[copy[0]], copy[1].file_bytes))


def _numbers_of_file(model: SchedulerModel) -> str:
    """What a file says by itself, equal wherever its digest is: nothing of the manifest that names it."""
    if model.shape is None:
        return ""
    told = model.shape.to_dict()
    beside = model.shape.adapter_bytes + draft_bytes(model.shape)
    told.update(
        per_device_bytes=model.shape.per_device_bytes - beside, text_bytes=model.shape.text_bytes - beside
    )
    return json.dumps({key: value for key, value in told.items() if key not in _OF_MANIFEST}, sort_keys=True)


def _limit(model: SchedulerModel) -> int:
    """The longest context of a model in tokens, 0 where there is none."""
    return min((limit for limit in (model.context_length_trained, model.num_ctx) if limit), default=0)


def _allows(model: SchedulerModel, context_length: int) -> bool:
    return not 0 < _limit(model) < context_length


def _reason(error: Exception) -> str:
    if isinstance(error, ValueError):
        return str(error)
    return f"what was read of it is not what a host tells ({type(error).__name__}: {error!s:.200})"


def _host(
    name: str, found: Found, demands: Sequence[FleetDemand], models: _Models, *, may_pull: bool
) -> FleetHost:
    raw = found.inputs
    policy = policy_from_dict(raw.get("policy") or {})
    service = service_from_info(raw.get("service") or {})
    said = said_from_info(raw.get("server") or {})
    inputs = read_inputs(
        gpu=raw.get("gpu"),
        models=(),
        wanted=(),
        policy=policy,
        version=raw.get("version"),
        service=service,
        unplannable={},
        experience=Experience(said=said),
    )
    own = models.of_host[name]
    is_read = bool(raw.get("is_read"))
    known = dict(own) if is_read and not may_pull else {**models.anywhere, **own}
    may_hold = frozenset(
        name for name in found.may_hold if name in known and models.allows(name, known[name][1])
    )
    asked = tuple(
        Demand(known[demand.name][1], WantedModel(demand.name, context_length=demand.context_length))
        for demand in demands
        if demand.name in may_hold
    )
    exact = replace(inputs, demands=asked)
    gpu, measured = raw.get("gpu") or {}, raw.get("measured") or {}
    # What raises the memory that a plan of this host foretells raises it here.
    exact = replace(
        exact,
        observed=seen_on_host(exact, said, observed_from_list(raw.get("observed") or ())).observed,
        runner_overhead_bytes=(
            measured_overhead(exact, gpu, measured) if policy.use_measured_memory else None
        ),
    )
    running = settings_from_environment(service.running) if service.running else None
    loaded = {name_key(str(item.get("name", ""))) for item in raw.get("loaded") or ()}
    planned = {name_key(one) for one in found.planned}
    installed = {name_key(str(one)) for one in raw.get("installed") or ()}
    held = Held(
        models=frozenset(one.name for one in demands if name_key(one.name) in loaded | planned),
        installed=frozenset(one.name for one in demands if name_key(one.name) in installed),
        parallel=running.num_parallel if running else 0,
        context_length=running.context_length if running else 0,
    )
    return FleetHost(
        name=name,
        exact=exact,
        judged=_judged(exact) if is_read else exact,
        may_hold=may_hold,
        values=dict(found.values or {}),
        held=held,
        fingerprints={name: known[name][0] for name in may_hold},
        useful=useful_slots(exact, gpu, measured),
    )


def _judged(exact: Inputs) -> Inputs:
    """The inputs with a little less memory than was read, the same for hosts that differ by what readings vary.

    What is safe with less is not given up when the next reading is a little lower.
    """

    def less(gpu: GpuDevice) -> GpuDevice:
        free = max(0, available_bytes(gpu) - VARIATION_BYTES)
        step = BETTER_WITH_LESS_BYTES - VARIATION_BYTES
        return replace(gpu, memory_free_bytes=free // step * step, memory_ours_bytes=0)

    host = exact.host
    return replace(
        exact,
        host=replace(
            host,
            gpus=tuple(map(less, host.gpus)),
            system_memory_available_bytes=host.system_memory_available_bytes // GIB * GIB,
        ),
    )


def _kind(host: FleetHost) -> str:
    """What is equal for hosts that can hold the same."""
    inputs = host.judged
    gpus = [
        (
            gpu.vendor,
            gpu.name,
            gpu.memory_total_bytes,
            available_bytes(gpu),
            gpu.integrated,
            gpu.compute_capability,
            sorted(inputs.host.environment),
        )
        for gpu in inputs.host.gpus
    ]
    alike = (
        gpus,
        inputs.host.system_memory_available_bytes // MIB,
        sorted((key, repr(value)) for key, value in asdict(inputs.policy).items()),
        str(inputs.rules.version),
        sorted(inputs.environment.items()),
        sorted(inputs.explicit.items()),
        sorted(host.fingerprints.items()),
        sorted(host.useful.items()),
        sorted(map(repr, inputs.observed)),
        inputs.runner_overhead_bytes,
    )
    return repr(alike)


def _check_spread(demand: FleetDemand, hosts: Mapping[str, FleetHost]) -> None:
    if not demand.spread:
        return
    holders = [host for host in hosts.values() if demand.name in host.may_hold]
    if holders and not any(host.values.get(demand.spread) for host in holders):
        raise ValueError(
            f"gpufleet_demand, model '{demand.name}': spread is '{demand.spread}', and no host that may hold it has such a "
            "variable: set it for the hosts or their groups, such as the rack in which each stands"
        )


def _nowhere(demand: FleetDemand, left_out: Mapping[str, str]) -> str:
    missing = f"; left out are {', '.join(list(left_out)[:5])}" if left_out else ""
    return (
        f"gpufleet_demand, model '{demand.name}': no host that can be placed on may hold it{missing}: pull it on one of the "
        "hosts that its pattern names, or set gpufleet_placement_pull to let other hosts be given it"
    )
