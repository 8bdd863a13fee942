# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report says in numbers, as metrics in Prometheus' text format."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Tuple, Union

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._drift_causes import LAYERS, NOT_RUNNING
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._history import seconds_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._memory_bar import MOST_BYTES
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._states import NOT_SEEN, STATES

# Where it is better known what runs, the first: what Ollama read, then what the process was given.
RUNNING_LAYERS = ("server", "process")
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
_PLANNED_KINDS = ("weights", "kv_cache", "compute", "cuda_context")

Number = Union[int, float]
Sample = Tuple[Tuple[Any, ...], Any]


@dataclass(frozen=True)
class Metric:
    """One metric: `samples` gives of a host of the report the values of `labels`, after its name, with a number each.

    What is no number is not known and is left out. The numbers of a counter that have the same labels are added.
    """

    name: str
    labels: tuple[str, ...]
    samples: Callable[[Mapping[str, Any]], Iterable[Sample]]
    help: str

    @property
    def is_counter(self) -> bool:
        return self.name.endswith("_total")


def metrics(report: Mapping[str, Any]) -> Iterator[str]:
    """The metrics of a report that has each host's `since`, one by one, for a file that node_exporter reads.

    Every sample has the label `host`, so that the files of several fleets on one control node do not collide, and none is there
    twice, because one such sample makes node_exporter answer with an error instead of all its metrics.

    Source: https://prometheus.io/docs/instrumenting/exposition_formats/ and https://prometheus.io/docs/practices/naming/
    """
    at = seconds_of(report["generated_at"])
    for metric in METRICS:
        found: dict[tuple[str, ...], Number] = {}
        for host in report["hosts"]:
            for values, number in _samples(metric, {**host, "at": at}):
                labels = (host["name"], *(str(value) for value in values))
                if not _is_number(number) or (labels in found and not metric.is_counter):
                    continue
                found[labels] = found.get(labels, 0) + number
        if found:
            kind = "counter" if metric.is_counter else "gauge"
            lines = [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {kind}"]
            names = ("host", *metric.labels)
            lines += [f"{metric.name}{_labels(names, labels)} {number}" for labels, number in found.items()]
            yield "\n".join(lines) + "\n"


def _samples(metric: Metric, host: Mapping[str, Any]) -> list[Sample]:
    """Odd data of a host cost it this metric, and the others nothing."""
    try:
        return list(metric.samples(host))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return []


def escaped(value: str) -> str:
    """The value of a label as it stands between its quotes, with control characters as Python writes them."""
    value = _CONTROLS.sub(lambda found: repr(found.group())[1:-1], value)
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def running_value(host: Mapping[str, Any], variable: str, planned: Any) -> Any:
    """The value of a variable that runs on a host of the report; None where nobody has seen it, or it is none of ours."""
    if not _was_compared(host) or variable not in host["environment"]:
        return None
    if any(drift["cause"] == NOT_RUNNING for drift in host["drift"]):
        return None
    for drift in host["drift"]:
        if drift["variable"] == variable:
            for layer in RUNNING_LAYERS:
                if layer in drift["found"]:
                    return _whole(drift["found"][layer])
    return planned


def _labels(names: Iterable[str], values: Iterable[str]) -> str:
    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in zip(names, values)) + "}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MOST_BYTES


def _whole(text: Any) -> int | None:
    """Ten digits are more than any of these values has; others are no decimal digits for Ollama either."""
    text = str(text)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else None


def _was_compared(host: Mapping[str, Any]) -> bool:
    return bool(host["verified"]) and host["state"] not in NOT_SEEN


def _state(host: Mapping[str, Any]) -> Iterator[Sample]:
    return (((state,), int(host["state"] == state)) for state in STATES)


def _layers(host: Mapping[str, Any]) -> Iterator[Sample]:
    if _was_compared(host):
        differing = {layer for drift in host["drift"] for layer in drift["found"]}
        for layer in LAYERS:
            yield (layer,), int(layer not in differing)


def _drift(host: Mapping[str, Any]) -> Iterator[Sample]:
    causes = [drift["cause"] for drift in host["drift"]]
    return (((cause,), causes.count(cause)) for cause in dict.fromkeys(causes))


def _of_host(key: str) -> Callable[[Mapping[str, Any]], Iterable[Sample]]:
    return lambda host: [((), host[key])]


def _running(variable: str, key: str) -> Callable[[Mapping[str, Any]], Iterable[Sample]]:
    return lambda host: [((), running_value(host, variable, host[key]))]


def _plan_time(host: Mapping[str, Any]) -> Iterator[Sample]:
    if host["safe"] is not None:
        yield (), host["at"]


def _safe(host: Mapping[str, Any]) -> Iterator[Sample]:
    if host["safe"] is not None:
        yield (), int(bool(host["safe"]))


def _of_models(key: str) -> Callable[[Mapping[str, Any]], Iterable[Sample]]:
    return lambda host: [((model["name"],), model[key]) for model in host["models"]]


def _of_gpus(*kinds: str) -> Callable[[Mapping[str, Any]], Iterable[Sample]]:
    return lambda host: [
        ((gpu["index"], gpu["uuid"]), sum(gpu[f"{kind}_bytes"] for kind in kinds)) for gpu in host["gpus"]
    ]


def _planned_bytes(host: Mapping[str, Any]) -> Iterable[Sample]:
    return () if host["safe"] is None else _of_gpus(*_PLANNED_KINDS)(host)


def _of_loads(key: str) -> Callable[[Mapping[str, Any]], Iterable[Sample]]:
    """Of the loads of one model the last; what is more than the GPU has was not taken by anything."""

    def samples(host: Mapping[str, Any]) -> Iterable[Sample]:
        last: dict[tuple[Any, ...], Mapping[str, Any]] = {}
        for row in sorted(host["seen"], key=lambda row: str(row["when"])):
            if not row["is_absurd"]:
                last[row["model"], row["kind"], row["gpu"]] = row
        return [(labels, int(row[key])) for labels, row in last.items()]

    return samples


def _of_history(key: str) -> Callable[[Mapping[str, Any]], Iterable[Sample]]:
    return lambda host: [((one["model"],), one[key]) for one in host["history"]]


_GPU = ("gpu", "uuid")
_LOAD = ("model", "kind", "position")
# The position is that among the GPUs that the runner saw.
_LOAD_HELP = "for one kind of buffer of the model's last load, at one position among the runner's GPUs"
_START = "since the server was started, at least"

METRICS = (
    Metric(
        "gpufleet_host_state", ("state",), _state, "1 for the state that the host is in, 0 for the others."
    ),
    Metric(
        "gpufleet_host_state_since_timestamp_seconds",
        (),
        lambda host: [((), seconds_of(host["since"]))],
        "When a run first saw the host in this state.",
    ),
    Metric(
        "gpufleet_host_report_timestamp_seconds", (), _of_host("at"), "When the host was last reported on."
    ),
    Metric(
        "gpufleet_host_layer_in_sync",
        ("layer",),
        _layers,
        "1 where nothing that was compared in this layer differs from the plan.",
    ),
    Metric(
        "gpufleet_host_drifts",
        ("cause",),
        _drift,
        "How many things on the host are not as planned, by cause.",
    ),
    Metric("gpufleet_plan_timestamp_seconds", (), _plan_time, "When the host's plan was computed."),
    Metric("gpufleet_plan_safe", (), _safe, "1 where no planned model leaves GPU memory or evicts another."),
    Metric(
        "gpufleet_planned_num_parallel",
        (),
        _of_host("num_parallel"),
        "Requests at once for each model, as planned.",
    ),
    Metric(
        "gpufleet_running_num_parallel",
        (),
        _running("OLLAMA_NUM_PARALLEL", "num_parallel"),
        "Requests at once for each model, as the server runs.",
    ),
    Metric(
        "gpufleet_planned_max_loaded_models",
        (),
        _of_host("max_loaded_models"),
        "Models loaded at once, as planned.",
    ),
    Metric(
        "gpufleet_running_max_loaded_models",
        (),
        _running("OLLAMA_MAX_LOADED_MODELS", "max_loaded_models"),
        "Models loaded at once, as the server runs.",
    ),
    Metric(
        "gpufleet_planned_context_tokens",
        (),
        _of_host("context_length"),
        "Tokens of context for each request, as planned.",
    ),
    Metric(
        "gpufleet_running_context_tokens",
        (),
        _running("OLLAMA_CONTEXT_LENGTH", "context_length"),
        "Tokens of context for each request, as the server runs.",
    ),
    Metric(
        "gpufleet_model_planned_slots",
        ("model",),
        _of_models("num_parallel"),
        "Slots that the model is planned to have.",
    ),
    Metric(
        "gpufleet_model_planned_gpu_memory_bytes",
        ("model",),
        _of_models("gpu_memory_bytes"),
        "GPU memory that the model is planned to take.",
    ),
    Metric("gpufleet_gpu_memory_size_bytes", _GPU, _of_gpus("memory_total"), "Memory of the GPU."),
    Metric(
        "gpufleet_gpu_memory_planned_bytes",
        _GPU,
        _planned_bytes,
        "Memory that the models loaded at once are planned to take.",
    ),
    Metric("gpufleet_gpu_memory_others_bytes", _GPU, _of_gpus("others"), "Memory that other processes hold."),
    Metric(
        "gpufleet_gpu_memory_headroom_bytes",
        _GPU,
        _of_gpus("headroom"),
        "Memory that is to stay free, and does.",
    ),
    Metric(
        "gpufleet_gpu_memory_short_bytes",
        _GPU,
        _of_gpus("short"),
        "What is missing of the memory that is to stay free.",
    ),
    Metric(
        "gpufleet_gpu_memory_free_bytes",
        _GPU,
        _of_gpus("free"),
        "Memory that is free beyond the headroom, with the planned models loaded.",
    ),
    Metric(
        "gpufleet_load_predicted_bytes",
        _LOAD,
        _of_loads("predicted_bytes"),
        f"GPU memory foretold {_LOAD_HELP}.",
    ),
    Metric("gpufleet_load_seen_bytes", _LOAD, _of_loads("seen_bytes"), f"GPU memory seen {_LOAD_HELP}."),
    Metric(
        "gpufleet_load_prediction_error_bytes",
        _LOAD,
        _of_loads("difference_bytes"),
        f"By how much more was seen than foretold {_LOAD_HELP}.",
    ),
    Metric(
        "gpufleet_load_beyond_prediction",
        _LOAD,
        _of_loads("is_beyond"),
        f"1 where the prediction is further off than its basis allows {_LOAD_HELP}.",
    ),
    Metric(
        "gpufleet_model_loads_total",
        ("model",),
        _of_history("loads"),
        f"How often the model was loaded {_START}.",
    ),
    Metric(
        "gpufleet_model_evictions_total",
        ("model",),
        _of_history("evicted"),
        f"How often the model had to go for another {_START}.",
    ),
    Metric(
        "gpufleet_model_spills_total",
        ("model",),
        _of_history("spilled"),
        f"How often layers of the model were left to the CPU {_START}.",
    ),
    Metric(
        "gpufleet_model_load_failures_total",
        ("model",),
        _of_history("failed"),
        f"How often the model could not be loaded {_START}.",
    ),
)
