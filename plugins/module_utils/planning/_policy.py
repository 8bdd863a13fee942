# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operator asks of a plan: the models to keep loaded, the requests to serve, the limits to keep."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import short_name
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._settings import PARALLEL_MAX
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import (
    name_refusal,
    value_text,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import masked_environment

# Values that no host reaches; they catch a unit that was forgotten (GiB for bytes) or a slip of the keyboard.
MOST_MODELS = 1024
MOST_CONTEXT_LENGTH = 16 * 1024 * 1024
MOST_HEADROOM_BYTES = 1 << 40

LEAST_CONTEXT_LENGTH = 4096  # Ollama's smallest automatic context length (server/routes.go, v0.33.0-rc2)
DEFAULT_REQUESTS = 4

KV_CACHE_TYPES = ("f16", "q8_0", "q4_0")  # best quality first
QUANTISED_TYPES = KV_CACHE_TYPES[1:]
ON_MISFIT = ("fail", "subset")
ON_GPU_FAULT = ("fail", "exclude")
SPREAD = ("auto", "always", "never")


@dataclass(frozen=True)
class WantedModel:
    """A model to keep loaded: the least context length it must have, the requests in flight it must serve.

    `priority`: where not all models fit together, those of higher priority are kept first.
    """

    name: str
    context_length: int | None = None
    requests: int | None = None
    priority: int = 0


@dataclass(frozen=True)
class Policy:
    """How a plan is to be made; sizes in bytes, context lengths in tokens per request.

    `num_parallel`, `max_loaded_models` and `context_length` are the operator's own values: they win over
    what the search finds, and are checked. `use_measured_memory`: whether to plan with the memory that a benchmark
    measured runners to take, in place of the allowance for the CUDA context.
    """

    requests: int = DEFAULT_REQUESTS
    min_parallel: int = 1
    max_parallel: int = PARALLEL_MAX
    min_context_length: int = LEAST_CONTEXT_LENGTH
    max_context_length: int | None = None
    headroom_bytes: int = 0
    kv_cache_types: tuple[str, ...] = ("f16",)
    lower_context: bool = False
    spread: str = "auto"
    on_misfit: str = "fail"
    on_gpu_fault: str = "fail"
    num_parallel: int | None = None
    max_loaded_models: int | None = None
    context_length: int | None = None
    use_measured_memory: bool = False
    operator_environment: Mapping[str, str] = field(default_factory=dict)


def policy_from_dict(options: Mapping[str, Any]) -> Policy:
    """The policy that a mapping of options states; options that are absent or None have their defaults.

    Raises: ValueError in one sentence that names the option, the value found and the values possible.
    """
    given = {key: value for key, value in options.items() if value is not None}
    unknown = sorted(set(given) - set(Policy.__dataclass_fields__))
    if unknown:
        known = sorted(Policy.__dataclass_fields__)
        raise ValueError(f"unknown planning option '{unknown[0]}'{_nearest(unknown[0], known)}")
    policy = Policy(
        **{
            **given,
            "kv_cache_types": _kv_cache_types(given.get("kv_cache_types", Policy.kv_cache_types)),
            # No secret decides anything of a plan, and a plan is shown in many places: it never holds one.
            "operator_environment": masked_environment(
                _named_environment(given.get("operator_environment", {}), "operator_environment")
            ),
        }
    )
    for name in ("requests", "min_parallel", "max_parallel", "num_parallel"):
        _check_count(name, getattr(policy, name), PARALLEL_MAX)
    for name in ("min_context_length", "max_context_length", "context_length"):
        _check_count(name, getattr(policy, name), MOST_CONTEXT_LENGTH)
    _check_count("max_loaded_models", policy.max_loaded_models, MOST_MODELS)
    _check_count("headroom_bytes", policy.headroom_bytes, MOST_HEADROOM_BYTES, least=0)
    _check_choice("spread", policy.spread, SPREAD)
    _check_choice("on_misfit", policy.on_misfit, ON_MISFIT)
    _check_choice("on_gpu_fault", policy.on_gpu_fault, ON_GPU_FAULT)
    _check_order("min_parallel", policy.min_parallel, "max_parallel", policy.max_parallel)
    if policy.max_context_length is not None:
        _check_order(
            "min_context_length", policy.min_context_length, "max_context_length", policy.max_context_length
        )
    return policy


def wanted_from_list(items: Any) -> tuple[WantedModel, ...]:
    """The models that a list of names, or of mappings with a name, asks for; an empty list asks for none.

    Raises: ValueError in one sentence that names the entry and what is wrong with it.
    """
    if not isinstance(items, Sequence) or isinstance(items, (str, bytes)):
        raise ValueError(f"wanted models must be a list of names or mappings, found {items!r:.80}")
    wanted = tuple(_wanted(item) for item in items)
    names = [model.name for model in wanted]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"model '{twice[0]}' stands twice in the list of wanted models; name it once")
    return wanted


def environment_from_dict(values: Any, what: str) -> dict[str, str]:
    """An environment as text to text, as the service will have it.

    Raises: ValueError when it is no mapping or a value is no scalar.
    """
    if not isinstance(values, Mapping):
        raise ValueError(
            f"{what} must be a mapping of variable names to values, found {type(values).__name__}"
        )
    return {str(name): value_text(str(name), value) for name, value in values.items()}


def _named_environment(values: Any, what: str) -> dict[str, str]:
    """An environment that is to be set.

    Raises: ValueError as `environment_from_dict`, and for a name that no variable can have.
    """
    for name in values if isinstance(values, Mapping) else ():
        refused = name_refusal(str(name))
        if refused:
            raise ValueError(f"{what}: {refused}")
    return environment_from_dict(values, what)


def unknown_model(name: str, installed: Iterable[str]) -> str:
    """The sentence for a wanted model that is not installed, with the nearest name that is."""
    names = sorted(installed)
    listed = f"{', '.join(names[:8])}{', …' if len(names) > 8 else ''}" if names else "none"
    hint = _nearest(name, names) or f"; installed: {listed}"
    return (
        f"model '{name}' is wanted but not installed{hint}; otherwise pull it (site.yml does with gpufleet_pull: true), "
        "or describe it in ollama_plan_model_descriptions"
    )


def _wanted(item: Any) -> WantedModel:
    if isinstance(item, str):
        item = {"name": item}
    if not isinstance(item, Mapping):
        raise ValueError(f"a wanted model must be a name or a mapping with a name, found {item!r:.80}")
    name = item.get("name")
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"a wanted model needs a name, found {dict(item)!r:.80}")
    known = sorted(WantedModel.__dataclass_fields__)
    for key in item:
        if key not in known:
            raise ValueError(f"wanted model '{name}' has an unknown key '{key}'{_nearest(str(key), known)}")
    where = f"wanted model '{name}': "
    model = WantedModel(
        name=short_name(name),
        context_length=_integer(where + "context_length", item.get("context_length")),
        requests=_integer(where + "requests", item.get("requests")),
        priority=_integer(where + "priority", item.get("priority")) or 0,
    )
    _check_count(where + "context_length", model.context_length, MOST_CONTEXT_LENGTH)
    _check_count(where + "requests", model.requests, PARALLEL_MAX)
    return model


def _integer(name: str, value: Any) -> int | None:
    """An integer, also where it came as text, as values of the command line do."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    try:
        return int(str(value))
    except ValueError:
        raise ValueError(f"{name} must be a whole number, found {value!r:.80}") from None


def _kv_cache_types(types: Any) -> tuple[str, ...]:
    if isinstance(types, str) or not isinstance(types, Sequence) or not types:
        raise ValueError(
            f"kv_cache_types must be a list with at least one of {', '.join(KV_CACHE_TYPES)}, "
            f"found {types!r:.80}"
        )
    for kv_cache_type in types:
        _check_choice("kv_cache_types", kv_cache_type, KV_CACHE_TYPES)
    return tuple(sorted(set(types), key=KV_CACHE_TYPES.index))


def _check_count(name: str, value: int | None, most: int, least: int = 1) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}, found {value!r:.80}")


def _check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, found {value!r:.80}")


def _check_order(low_name: str, low: int, high_name: str, high: int) -> None:
    if low > high:
        raise ValueError(f"{low_name} is {low}, above {high_name}, which is {high}")


def _nearest(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""
