# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings Ollama reads from its environment, checked as Ollama itself would parse them.

Ollama falls back silently: a number that does not parse means the default, a boolean that does not parse
means true, a name it does not know is ignored. Each of these is a sentence here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Tuple

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._go_text import (
    INT64_MAX,
    duration_text,
    parse_bool,
    parse_duration_ns,
    parse_int,
    parse_uint,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._values import address, cleaned
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import masked
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._version import parse as parse_version

BOOLEAN = "boolean"
TRISTATE = "boolean or nothing"
NUMBER = "number"
BYTES = "bytes"
DURATION = "duration"
LOG_LEVEL = "log level"
CACHE_TYPE = "cache type"
HOST = "address"
MEBIBYTES_LIST = "MiB for each device"
SWITCH = "on or off"
TEXT = "text"

Release = Tuple[int, int, int]

# Source: llama.cpp src/llama-impl.h and common/arg.cpp (b10488): at most LLAMA_MAX_SEQ sequences.
PARALLEL_MAX = 256
# Source: llama.cpp include/llama.h: n_ctx is a uint32_t, Ollama's NumCtx an int (32 bits are ample).
CONTEXT_LENGTH_MAX = (1 << 31) - 1
# Source: Ollama up to 0.24 fs/ggml/ggml.go (SupportsKVCacheType).
_CACHE_TYPES_OF_OLLAMA = ("f16", "q8_0", "q4_0")
# Source: llama.cpp common/arg.cpp (b10488), kv_cache_types.
_CACHE_TYPES_OF_LLAMA_CPP = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
_LLAMA_SERVER: Release = (0, 30, 0)
# A size below it was meant in another unit.
_LEAST_BYTES = 1024 * 1024
# Names that are no more alike have nothing in common but their prefix.
_NEAR = 0.79


@dataclass(frozen=True)
class Setting:
    """A setting Ollama knows: kind of value, least and greatest number, and the releases that read it.

    since: the first that reads it. gone: the first that does not any more. None: no such release is known.
    """

    kind: str
    least: int = 0
    greatest: int | None = None
    since: Release | None = None
    gone: Release | None = None


# Source: Ollama envconfig/config.go (AsMap) of 0.33.0-rc2, and of 0.5 to 0.24 for those marked as gone.
KNOWN: Mapping[str, Setting] = {
    "OLLAMA_AUTH": Setting(BOOLEAN),
    "OLLAMA_CONTEXT_LENGTH": Setting(NUMBER, greatest=CONTEXT_LENGTH_MAX),
    "OLLAMA_DEBUG": Setting(LOG_LEVEL),
    "OLLAMA_DEBUG_LOG_REQUESTS": Setting(BOOLEAN),
    "OLLAMA_EDITOR": Setting(TEXT),
    "OLLAMA_FLASH_ATTENTION": Setting(BOOLEAN),
    "OLLAMA_GO_TEMPLATE": Setting(BOOLEAN, since=_LLAMA_SERVER),
    "OLLAMA_GPU_OVERHEAD": Setting(BYTES),
    "OLLAMA_HOST": Setting(HOST),
    "OLLAMA_IGPU_ENABLE": Setting(TRISTATE, since=_LLAMA_SERVER),
    "OLLAMA_INTEL_GPU": Setting(BOOLEAN, gone=_LLAMA_SERVER),
    "OLLAMA_KEEP_ALIVE": Setting(DURATION),
    "OLLAMA_KV_CACHE_TYPE": Setting(CACHE_TYPE),
    "OLLAMA_LLM_LIBRARY": Setting(TEXT),
    "OLLAMA_LOAD_TIMEOUT": Setting(DURATION),
    "OLLAMA_MAX_LOADED_MODELS": Setting(NUMBER),
    "OLLAMA_MAX_QUEUE": Setting(NUMBER, least=1),
    "OLLAMA_MAX_TRANSFER_STREAMS": Setting(NUMBER, least=1),
    "OLLAMA_MODELS": Setting(TEXT),
    "OLLAMA_MULTIUSER_CACHE": Setting(BOOLEAN, gone=_LLAMA_SERVER),
    "OLLAMA_NEW_ENGINE": Setting(BOOLEAN, gone=_LLAMA_SERVER),
    "OLLAMA_NOHISTORY": Setting(BOOLEAN),
    "OLLAMA_NOPRUNE": Setting(BOOLEAN),
    "OLLAMA_NO_CLOUD": Setting(BOOLEAN),
    "OLLAMA_NUM_PARALLEL": Setting(NUMBER, least=1, greatest=PARALLEL_MAX),
    "OLLAMA_ORIGINS": Setting(TEXT),
    "OLLAMA_REMOTES": Setting(TEXT),
    "OLLAMA_SCHED_SPREAD": Setting(BOOLEAN),
    "OLLAMA_VULKAN": Setting(BOOLEAN),
    "LLAMA_ARG_FIT": Setting(SWITCH, since=_LLAMA_SERVER),
    "LLAMA_ARG_FIT_TARGET": Setting(MEBIBYTES_LIST, since=_LLAMA_SERVER),
    "CUDA_VISIBLE_DEVICES": Setting(TEXT),
    "HIP_VISIBLE_DEVICES": Setting(TEXT),
    "ROCR_VISIBLE_DEVICES": Setting(TEXT),
    "GGML_VK_VISIBLE_DEVICES": Setting(TEXT),
    "GPU_DEVICE_ORDINAL": Setting(TEXT),
    "HSA_OVERRIDE_GFX_VERSION": Setting(TEXT),
    "HTTP_PROXY": Setting(TEXT),
    "HTTPS_PROXY": Setting(TEXT),
    "NO_PROXY": Setting(TEXT),
    "http_proxy": Setting(TEXT),
    "https_proxy": Setting(TEXT),
    "no_proxy": Setting(TEXT),
}
# What Ollama reads besides, in its client, its agent and its cloud, or sets for its own processes: no settings of the server.
# Source: every "OLLAMA_..." in the Go files of 0.24.0 and 0.33.0-rc2.
READ_BESIDES = frozenset(
    (
        "OLLAMA_AGENT_DISABLE_SHELL",
        "OLLAMA_AGENT_DISABLE_WEBSEARCH",
        "OLLAMA_API_KEY",
        "OLLAMA_APP_DB_PATH",
        "OLLAMA_CLOUD_BASE_URL",
        "OLLAMA_CORS",
        "OLLAMA_DOT_COM_URL",
        "OLLAMA_EXPERIMENT",
        "OLLAMA_LAUNCH_DSH_API_KEY",
        "OLLAMA_LIBRARY_PATH",
        "OLLAMA_REGISTRY_MAXSTREAMS",
        "OLLAMA_SKILLS",
    )
)
# Names that users set and that no Ollama ever read, with what does the work instead.
NEVER_EXISTED: Mapping[str, str] = {
    "OLLAMA_USE_GPU": "Ollama uses the GPUs it sees; CUDA_VISIBLE_DEVICES chooses among them",
    "OLLAMA_NUM_GPU": "num_gpu is a parameter of a request or a Modelfile",
    "OLLAMA_NUM_GPUS": "num_gpu is a parameter of a request or a Modelfile",
    "OLLAMA_NUM_BATCH": "num_batch is a parameter of a request or a Modelfile",
    "OLLAMA_BATCH_SIZE": "num_batch is a parameter of a request or a Modelfile",
    "OLLAMA_MAX_CONTEXT": "the default context length is OLLAMA_CONTEXT_LENGTH",
    "OLLAMA_MAX_VRAM": "LLAMA_ARG_FIT_TARGET (MiB) keeps GPU memory free from Ollama 0.30 on",
    "OLLAMA_GPU_RUNNER": "OLLAMA_LLM_LIBRARY chooses a library, such as cuda_v12",
    "OLLAMA_TMPDIR": "it no longer unpacks anything",
    "OLLAMA_RUNNERS_DIR": "it no longer unpacks anything",
    "OLLAMA_GPU_LAYERS": "num_gpu is a parameter of a request or a Modelfile",
    "OLLAMA_NUM_THREAD": "num_thread is a parameter of a request or a Modelfile",
    "OLLAMA_NUM_THREADS": "num_thread is a parameter of a request or a Modelfile",
    "OLLAMA_NUM_CTX": "the default context length is OLLAMA_CONTEXT_LENGTH",
    "OLLAMA_GPU_MEMORY_FRACTION": "LLAMA_ARG_FIT_TARGET (MiB) keeps GPU memory free from Ollama 0.30 on",
    "OLLAMA_PORT": "OLLAMA_HOST holds address and port",
    "OLLAMA_CACHE_TYPE": "the KV cache's type is OLLAMA_KV_CACHE_TYPE",
}


def problems(environment: Mapping[str, str], version: str = "", also_known: Iterable[str] = ()) -> list[str]:
    """One sentence for each setting that Ollama would ignore or take for something else, sorted by name.

    `also_known`: names of OLLAMA_ settings that this table does not have yet and that are let through.
    """
    release = parse_version(version).release if version else None
    allowed = set(also_known)
    found = []
    for name in sorted(environment):
        if name in allowed:
            continue
        problem = _problem(name, environment[name], release, version)
        if problem:
            found.append(problem)
    return found


def _problem(name: str, value: str, release: Release | None, version: str) -> str | None:
    setting = KNOWN.get(name)
    if setting is None:
        return _unknown(name) if name.upper().startswith("OLLAMA_") else None
    if release and setting.since and release < setting.since:
        return (
            f"{name}: Ollama {version} does not read it yet, {_dotted(setting.since)} is the first that does"
        )
    if release and setting.gone and release >= setting.gone:
        return f"{name}: Ollama {version} does not read it any more: remove it"
    text = cleaned(value)
    if not text:
        return None
    return _value_problem(name, setting, text, release)


def _unknown(name: str) -> str:
    if name in NEVER_EXISTED:
        return f"{name} is no setting of Ollama, which would ignore it: {NEVER_EXISTED[name]}"
    import difflib  # takes a millisecond to load, and most hosts have no such name

    still_read = [known for known, setting in KNOWN.items() if setting.gone is None]
    nearest = difflib.get_close_matches(name.upper(), still_read, n=1, cutoff=_NEAR)
    hint = f"did you mean {nearest[0]}?" if nearest else "'ollama serve --help' lists them"
    return f"{name} is no setting of Ollama, which would ignore it: {hint}"


def _value_problem(name: str, setting: Setting, text: str, release: Release | None) -> str | None:
    if setting.kind in (NUMBER, BYTES):
        return _number_problem(name, setting, text)
    if setting.kind in (BOOLEAN, TRISTATE) and parse_bool(text) is None:
        return f"{name}={text} is no boolean, and Ollama would take it for true: write true or false"
    if setting.kind == LOG_LEVEL and parse_bool(text) is None and parse_int(text) is None:
        return f"{name}={text} is no log level, and Ollama would ignore it: write false, true or 2 (trace)"
    if setting.kind == DURATION and duration_ns(text) is None:
        return (
            f"{name}={text} is no duration, and Ollama would take its default: "
            "write a number with a unit such as 30s, 5m or 24h, or seconds as a whole number"
        )
    if setting.kind == CACHE_TYPE:
        types = _CACHE_TYPES_OF_OLLAMA if release and release < _LLAMA_SERVER else _CACHE_TYPES_OF_LLAMA_CPP
        if text.lower() not in types:
            return f"{name}={text} is no type of KV cache: choose one of {', '.join(types)}"
    if setting.kind == HOST:
        return _host_problem(name, text)
    if setting.kind == MEBIBYTES_LIST and any(parse_uint(part) is None for part in re.split("[,/]", text)):
        return f"{name}={text} is no list of whole MiB: write one number, or one for each GPU like 1024,2048"
    if setting.kind == SWITCH and text not in _SWITCH_TEXTS:
        return f"{name}={text} is neither on nor off: write on or off"
    return None


def _host_problem(name: str, text: str) -> str | None:
    found, shown = address(text), masked(name, text)
    if found.refused_port is not None:
        return (
            f"{name}={shown} has no valid port, and Ollama would take its default: write it like 0.0.0.0:11434"
        )
    if not found.can_be_listened_on:
        return f"{name}={shown} is no address, and Ollama would not start: write it like 0.0.0.0:11434 or [::1]:11434"
    return None


# Source: llama.cpp common/arg.cpp (b10488), is_truthy and is_falsey.
_SWITCH_TEXTS = frozenset(("on", "enabled", "1", "true", "off", "disabled", "0", "false"))


def _number_problem(name: str, setting: Setting, text: str) -> str | None:
    number = parse_uint(text)
    unit = "bytes, a whole number without a unit" if setting.kind == BYTES else "a whole number"
    if number is None:
        return f"{name}={text} does not parse, and Ollama would take its default: write {unit}"
    if number < setting.least:
        return f"{name}={text} is too small: the least value that makes sense is {setting.least}"
    if setting.kind == BYTES and 0 < number < _LEAST_BYTES:
        return f"{name}={text} is {number} bytes, next to nothing: write the size in bytes, 512 MiB are {512 * 1024**2}"
    if setting.greatest is not None and number > setting.greatest:
        return f"{name}={text} is too large: the engine takes at most {setting.greatest}"
    return None


def _dotted(release: Release) -> str:
    return ".".join(str(number) for number in release)


def duration_ns(text: str) -> int | None:
    """A duration as Ollama reads it: Go's notation, or whole seconds; None when it is neither.

    Seconds beyond 292 years wrap around, as Go's numbers of 64 bits do.
    """
    nanoseconds = parse_duration_ns(text)
    if nanoseconds is not None:
        return nanoseconds
    seconds = parse_int(text)
    return None if seconds is None else (seconds * 1_000_000_000 + (1 << 63)) % (1 << 64) - (1 << 63)


def as_printed(name: str, value: str) -> str | None:
    """The value as the `server config` line shows it when Ollama took it; None when that cannot be told.

    Source: Ollama envconfig/config.go (Values) of 0.33.0-rc2.
    """
    setting = KNOWN.get(name)
    text = cleaned(value)
    if setting is None or not text or name in ("OLLAMA_ORIGINS", "OLLAMA_REMOTES", "OLLAMA_NO_CLOUD"):
        return None
    if setting.kind == BOOLEAN:
        parsed = parse_bool(text)
        return "false" if parsed is False else "true"
    if setting.kind in (NUMBER, BYTES):
        number = parse_uint(text)
        return None if number is None else str(number)
    if setting.kind == DURATION:
        nanoseconds = duration_ns(text)
        if nanoseconds is None:
            return None
        endless = nanoseconds < 0 or (nanoseconds == 0 and name == "OLLAMA_LOAD_TIMEOUT")
        return duration_text(INT64_MAX if endless else nanoseconds)
    if setting.kind == HOST:
        return address(value).url
    if setting.kind == LOG_LEVEL:
        return None  # printed as a level's name, by rules that changed between releases
    return text
