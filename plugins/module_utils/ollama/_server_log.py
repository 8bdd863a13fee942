# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server's log says without debugging: the GPUs it took, what each load allocated, what spilled and was evicted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, field, replace
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._numbers import whole_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import short_name
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_config import (
    find_server_config,
    unquoted,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._settings import duration_ns
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import masked
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._placement_rules import PlacementRules

# What is kept of a log, whatever it says. A service can write what it likes.
MOST_DEVICES = 64
MOST_LOADS = 64
MOST_MODELS = 256
MOST_DROPS = 16
MOST_BUFFERS = 256
# No device has so much; more is no size, and no fact may be so large.
LARGEST_BYTES = 1 << 50
_MOST_CHARACTERS = 4096
_MOST_OF_A_REASON = 300
_MOST_OF_A_NAME = 128
# The command line of a runner and the environment are longer than other lines.
_MOST_OF_A_LONG_LINE = 65536

CPU = "cpu"
WEIGHTS, KV_CACHE, COMPUTE, OUTPUT = "weights", "kv_cache", "compute", "output"
PROJECTOR_COMPUTE, ADAPTER = "projector_compute", "adapter"

# Source: Go log/slog/text_handler.go: key=value, the value quoted where it must be.
_FIELD = re.compile(r'(?:^| )(?P<key>[A-Za-z][\w.]*)=(?P<value>"(?:[^"\\]|\\.)*"|[^ "]*)')
# Source: llama.cpp b10488: load_tensors (src/llama-model.cpp), llama_kv_cache, llama_memory_recurrent, sched_reserve
# (src/llama-context.cpp), reserve_compute_meta (tools/mtmd/clip.cpp), llama_adapter_lora_init_impl; tests/data/captures.
_BUFFER = re.compile(
    r"\b(?P<origin>\w+): +(?P<device>\S{1,64}) +(?P<kind>\w+) buffer size *= *(?P<size>[0-9]{1,12}(?:\.[0-9]{1,6})?) MiB"
)
_OFFLOADED = re.compile(r"offloaded (?P<some>[0-9]{1,6})/(?P<all>[0-9]{1,6}) layers to GPU")
# Source: llama.cpp b10488 src/llama.cpp (llama_model_load_from_file_impl), common/common.cpp (device_info).
_USING = re.compile(
    r"using device (?P<name>\S{1,64}) \(.{0,200}?\)(?: \((?P<id>[^()]{1,64})\))? - (?P<free>[0-9]{1,9}) MiB free"
)
_DEVICE_INFO = re.compile(
    r"  - (?P<name>\w{1,64}) *: .{0,200}\([0-9]{1,9} MiB, (?P<free>[0-9]{1,9}) MiB free\)"
)
_BUILD = re.compile(r"common_params_print_info: build (?P<build>[0-9]{1,9}) ")
_LISTENING = re.compile(r"Listening on \S+ \(version (?P<version>[^()]{1,80})\)")
# Source: llama.cpp common/log.cpp (LOG_COL_DEFAULT and others), which LLAMA_LOG_COLORS turns on.
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,16}m")
_SIZE = re.compile(r"(?P<number>[0-9]{1,12}(?:\.[0-9]{1,3})?) (?P<unit>B|KiB|MiB|GiB|TiB)\Z")
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_TIME = re.compile(r"(?P<date>\d{4}-\d\d-\d\d)T(?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d(?:\.\d{1,9})?)")
_BLOB = re.compile(r"sha256[-:][0-9a-f]{64}")
_GPU_DEVICE = re.compile(r"(?:CUDA|ROCm|HIP|Vulkan|SYCL|MUSA)[0-9]{1,3}\Z")

_KINDS = {
    "model": WEIGHTS,
    "KV": KV_CACHE,
    "RS": KV_CACHE,
    "compute": COMPUTE,
    "output": OUTPUT,
    "LoRA": ADAPTER,
}
# The projector's own graph, which the engine reserves after the model's.
_OF_A_PROJECTOR = frozenset(("reserve_compute_meta", "alloc_compute_meta", "clip_ctx"))

# Where the discovery of GPUs says something. Source: ollama discover/ (v0.10 to v0.33.0-rc2).
_DISCOVERY_FILES = frozenset(
    (
        "amd.go",
        "amd_common.go",
        "amd_linux.go",
        "cpu_linux.go",
        "cuda_compat.go",
        "gpu.go",
        "llama_server.go",
        "native_probe.go",
        "runner.go",
        "types.go",
    )
)
_DROPPING = (
    *("dropping ", "skipping CUDA device", "skipping ROCm device", "failure during ", "filtering "),
    *("CUDA GPU is too old", "unsupported Radeon", "no compatible ", "error looking up "),
)
_HINTS_ONLY = frozenset(
    ("libDirs", "OLLAMA_LIBRARY_PATH", "extra_envs", "supported", "archs", "time", "level", "source", "msg")
)
# With these a load begins, and ends within moments. Source: llama.cpp b10488 tools/server/server.cpp.
_CONFIG = 'msg="server config"'
STARTING = 'msg="starting llama-server"'
LOADED_LINES = ("srv  llama_server: model loaded", "main: model loaded")
_STARTING = frozenset(("starting llama-server", "starting llama server", "starting runner"))
_FAILING = frozenset(("Load failed", "failed to load model metadata"))
# Of a model that was loaded; all are unloaded for it.
_OUT_OF_MEMORY = "runtime OOM detected; expiring loaded models to clear memory before next request"
_EVICTING = frozenset(
    (
        "llama-server model predicted to exceed available memory, evicting",
        "evicting all other loaded models for OOM retry",
        "llama-server load failed; evicting all other models and retrying once",
    )
)
# Before 0.30: "model requires more gpu memory than is currently available, evicting a model to make space", and of system
# memory, and of neither. Source: ollama llm/server.go (v0.11.11 to v0.24.0).
_EVICTING_BEFORE_0_30 = ", evicting a model to make space"
_KEEP_ALIVE_S = 300.0
# What of the environment says how the server treats models and GPUs; none of it is secret.
_SHOWN_SETTINGS = frozenset(
    (
        *("OLLAMA_NUM_PARALLEL", "OLLAMA_MAX_LOADED_MODELS", "OLLAMA_CONTEXT_LENGTH", "OLLAMA_KV_CACHE_TYPE"),
        *("OLLAMA_FLASH_ATTENTION", "OLLAMA_SCHED_SPREAD", "OLLAMA_KEEP_ALIVE", "OLLAMA_GPU_OVERHEAD"),
        *("OLLAMA_LLM_LIBRARY", "OLLAMA_VULKAN", "OLLAMA_IGPU_ENABLE", "HSA_OVERRIDE_GFX_VERSION"),
        *("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"),
        *("GGML_VK_VISIBLE_DEVICES", "LLAMA_ARG_FIT", "LLAMA_ARG_FIT_TARGET"),
    )
)


_TEXTS_OF_A_DEVICE = ("id", "library", "compute", "name", "description", "driver", "pci_id")


@dataclass(frozen=True)
class ComputeDevice:
    """One device that the server said it computes on; `library` is `cpu` where it has found no GPU. Sizes in bytes."""

    id: str
    library: str
    compute: str
    name: str
    description: str
    driver: str
    pci_id: str
    total_bytes: int | None
    available_bytes: int | None


@dataclass(frozen=True)
class LoggedBuffer:
    """What a runner said that it allocated on a device, by kind, all its lines together."""

    device: str
    kind: str
    size_bytes: int

    @property
    def is_on_gpu(self) -> bool:
        return bool(_GPU_DEVICE.match(self.device))


@dataclass(frozen=True)
class EngineDevice:
    """A GPU as a runner saw it when it was started: its number there, its PCI id where it said one, and what was free."""

    name: str
    pci_id: str
    free_bytes: int


@dataclass(frozen=True)
class Launched:
    """How a runner was started, read from its command line; -1 and an empty text stand for what it does not say.

    context_total: in tokens, all slots together. blob: the name of the model's file.
    """

    blob: str
    context_total: int
    parallel: int
    batch: int
    kv_cache_type: str
    flash_attention: str
    num_gpu: int
    has_projector: bool
    is_projector_on_gpu: bool
    has_adapter: bool
    split_mode: str = ""


@dataclass(frozen=True)
class LoggedLoad:
    """One way in which a model was loaded, with what its latest load said; `count`: how often it was loaded so.

    layers: 0 where the engine said of none how many lie on GPUs. gpu_ids: of the devices that the server chose, as it
    numbers them.
    """

    launched: Launched
    when: str
    count: int
    layers_on_gpu: int
    layers: int
    gpu_ids: tuple[str, ...]
    devices: tuple[EngineDevice, ...]
    buffers: tuple[LoggedBuffer, ...]

    @property
    def is_spilled(self) -> bool:
        """Whether layers lie on the CPU that nobody has asked to be there."""
        return self.layers_on_gpu < self.layers and self.launched.num_gpu < 0

    def to_dict(self) -> dict[str, Any]:
        plain = asdict(self)
        launched = plain.pop("launched")
        lists = {name: list(plain[name]) for name in ("gpu_ids", "devices", "buffers")}
        return {**launched, **plain, **lists}


@dataclass(frozen=True)
class ModelHistory:
    """What became of a model since the server's start; every number is the least that it can be.

    name: as the server calls it, empty where it did not say. error: of its latest load that failed.
    """

    blob: str
    name: str = ""
    loads: int = 0
    evicted: int = 0
    spilled: int = 0
    failed: int = 0
    error: str = ""


@dataclass(frozen=True)
class ServerLog:
    """What a server has said since its start; None and empty for what is not in the log.

    devices: None where it did not say. drops: what it said about GPUs that it does not take, one sentence each.
    settings: what it made of the variables that decide on GPUs and models. engine_build: of llama.cpp.
    """

    version: str | None = None
    engine_build: int | None = None
    default_context_length: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[ComputeDevice, ...] | None = None
    drops: tuple[str, ...] = ()
    loads: tuple[LoggedLoad, ...] = ()
    models: tuple[ModelHistory, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "engine_build": self.engine_build,
            "default_context_length": self.default_context_length,
            "settings": dict(self.settings),
            "devices": None if self.devices is None else [asdict(device) for device in self.devices],
            "drops": list(self.drops),
            "loads": [load.to_dict() for load in self.loads],
            "models": [asdict(model) for model in self.models],
        }


def server_log_from_dict(plain: Mapping[str, Any]) -> ServerLog:
    """What `ServerLog.to_dict` has told.

    Raises: ValueError where it is of another form.
    """
    try:
        devices = plain.get("devices")
        return ServerLog(
            version=plain.get("version"),
            engine_build=plain.get("engine_build"),
            default_context_length=plain.get("default_context_length"),
            settings={str(name): str(value) for name, value in (plain.get("settings") or {}).items()},
            devices=None if devices is None else tuple(ComputeDevice(**one) for one in devices),
            drops=tuple(map(str, plain.get("drops") or ())),
            loads=tuple(map(_load_from_dict, plain.get("loads") or ())),
            models=tuple(ModelHistory(**one) for one in plain.get("models") or ()),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"what the server said is not in the form of ollama_host_info: {error}") from error


def _load_from_dict(plain: Mapping[str, Any]) -> LoggedLoad:
    launched = {name: plain[name] for name in Launched.__dataclass_fields__}
    others = {name: plain[name] for name in ("when", "count", "layers_on_gpu", "layers")}
    return LoggedLoad(
        launched=Launched(**launched),
        gpu_ids=tuple(map(str, plain["gpu_ids"])),
        devices=tuple(EngineDevice(**one) for one in plain["devices"]),
        buffers=tuple(LoggedBuffer(**one) for one in plain["buffers"]),
        **others,
    )


def read_server_log(*parts: Iterable[str]) -> ServerLog:
    """What the lines of one start of a server say; lines of other programs among them say nothing.

    parts: the oldest first; what was written between two of them is not known.
    """
    reading = _Reading()
    for part in parts:
        reading.begin_part()
        for line in part:
            if _CONFIG in line:
                # A script may start one server after another.
                reading = _Reading()
            reading.take(line)
    return reading.result()


def buffer_line(line: str) -> tuple[str, str, str, float] | None:
    """Origin, device, kind and MiB of a line that tells of a buffer; None for any other line."""
    match = _BUFFER.search(line[:_MOST_CHARACTERS])
    return match and (match["origin"], match["device"], match["kind"], float(match["size"]))


def size_of_text(text: str) -> int | None:
    """Bytes of a size as Ollama prints it, such as `12.0 GiB`; None where it is none, or more than any device has.

    Source: ollama format/bytes.go (HumanBytes2).
    """
    match = _SIZE.match(text)
    size_bytes = float(match["number"]) * _UNITS[match["unit"]] if match else math.inf
    return round(size_bytes) if size_bytes <= LARGEST_BYTES else None


class _Load:
    """A load that the log is telling of."""

    def __init__(self, launched: Launched, when: str, at_s: float | None) -> None:
        self.launched, self.when, self.at_s = launched, when, at_s
        self.context = 0
        self.layers = (0, 0)
        self.gpu_ids: list[str] = []
        self.devices: dict[str, EngineDevice] = {}
        self.sizes: dict[tuple[str, str, str, int], float] = {}

    def take_asked(self, layers: int | None) -> None:
        """How many layers are to lie on GPUs, which before 0.30 a runner's command line does not say."""
        if layers is not None and self.launched.num_gpu < 0:
            self.launched = replace(self.launched, num_gpu=layers)

    def take_engine_line(self, line: str) -> None:
        if "buffer size" in line:
            self._take_buffer(line)
        elif "constructing llama_context" in line:
            self.context += 1
        elif "common_fit_params:" in line:
            # What was counted before is what the engine tried, not what it took.
            self.sizes.clear()
            self.context = 0
        elif "offloaded " in line:
            match = _OFFLOADED.search(line)
            if match:
                # A draft model has layers of its own.
                self.layers = (self.layers[0] + int(match["some"]), self.layers[1] + int(match["all"]))
        else:
            self._take_device(line)

    def _take_buffer(self, line: str) -> None:
        found = buffer_line(line)
        if not found or found[2] not in _KINDS or len(self.sizes) >= MOST_BUFFERS:
            return
        origin, device, name, size = found
        if size * MIB * MOST_BUFFERS > LARGEST_BYTES:
            return
        kind = PROJECTOR_COMPUTE if origin in _OF_A_PROJECTOR else _KINDS[name]
        key = (kind, origin, device, self.context)
        # A context's compute buffer is reserved again, its other buffers add up.
        former = 0.0 if kind in (COMPUTE, PROJECTOR_COMPUTE) else self.sizes.get(key, 0.0)
        self.sizes[key] = former + size

    def _take_device(self, line: str) -> None:
        match = _USING.search(line)
        found = match or _DEVICE_INFO.search(line)
        if not found or not _GPU_DEVICE.match(found["name"]) or len(self.devices) >= MOST_DEVICES:
            return
        pci_id = (match["id"] or "") if match else ""
        known = self.devices.get(found["name"])
        if known is None or (pci_id and not known.pci_id):
            free = int(found["free"]) * MIB
            self.devices[found["name"]] = EngineDevice(found["name"], pci_id, free)

    def buffers(self) -> tuple[LoggedBuffer, ...]:
        sums: dict[tuple[str, str], float] = {}
        for (kind, _origin, device, _context), size in self.sizes.items():
            sums[device, kind] = sums.get((device, kind), 0.0) + size
        return tuple(LoggedBuffer(device, kind, round(size * MIB)) for (device, kind), size in sums.items())

    def result(self, count: int) -> LoggedLoad:
        return LoggedLoad(
            launched=self.launched,
            when=self.when,
            count=count,
            layers_on_gpu=self.layers[0],
            layers=self.layers[1],
            gpu_ids=tuple(self.gpu_ids),
            devices=tuple(self.devices.values()),
            buffers=self.buffers(),
        )


class _Reading:
    """What the lines read so far have said."""

    def __init__(self) -> None:
        self.version: str | None = None
        self.build: int | None = None
        self.default_context: int | None = None
        self.settings: dict[str, str] = {}
        self.devices: list[ComputeDevice] | None = None
        self.drops: dict[str, None] = {}
        self.load: _Load | None = None
        self.loads: dict[Launched, LoggedLoad] = {}
        self.models: dict[str, ModelHistory] = {}
        self.loaded: dict[str, float | None] = {}  # blob to the time of its latest load
        self.is_evicting = False
        self.victims: list[str] = []

    def begin_part(self) -> None:
        """Who is loaded is not known where lines are missing."""
        self.load, self.is_evicting = None, False
        self.loaded.clear()
        self.victims.clear()

    def take(self, line: str) -> None:
        if "\x1b" in line:
            line = _COLOUR.sub("", line)
        if "msg=" not in line or "source=" not in line:
            if self.load:
                self._take_engine_line(self.load, line)
        elif _CONFIG in line:
            config = find_server_config([line[:_MOST_OF_A_LONG_LINE]]) or {}
            self.settings = {
                name: masked(name, config[name])[:_MOST_OF_A_NAME]
                for name in sorted(_SHOWN_SETTINGS & set(config))
            }
        else:
            self._take_record(line)

    def _take_engine_line(self, load: _Load, line: str) -> None:
        if "print_info: build " in line:
            self._take_build(line)
        else:
            load.take_engine_line(line[:_MOST_CHARACTERS])

    def _take_build(self, line: str) -> None:
        match = _BUILD.search(line[:_MOST_CHARACTERS])
        if match:
            self.build = int(match["build"])

    def _take_record(self, line: str) -> None:
        fields = _fields(line)
        message = fields.get("msg", "")
        if message in _STARTING:
            self._begin(fields)
        elif message == "inference compute":
            self._take_compute(fields)
        elif message == "vram-based default context":
            self.default_context = whole_number(fields.get("default_num_ctx"))
            if self.devices is None and size_of_text(fields.get("total_vram", "")) == 0:
                # It has found none, and has not said so line by line.
                self.devices = []
        elif message == "gpu memory" and self.load and len(self.load.gpu_ids) < MOST_DEVICES:
            self.load.gpu_ids.append(fields.get("id", "")[:_MOST_OF_A_NAME])
        elif message == "loaded runners":
            self._end(whole_number(fields.get("count")), fields)
        elif message in _FAILING:
            self._fail(fields)
        elif message == _OUT_OF_MEMORY:
            self._fail(fields)
            self.loaded.clear()
        elif message.startswith("offloaded ") and self.load:
            self.load.take_engine_line(message)
        elif message == "loading model" and self.load:
            self.load.take_asked(whole_number(fields.get("requested")))
        elif message == "template selection":
            self._name(fields)
        elif message in _EVICTING or message.endswith(_EVICTING_BEFORE_0_30):
            self.is_evicting = True
        elif message == "resetting model to expire immediately to make room":
            self._take_victim(fields)
        elif message.startswith("Listening on "):
            match = _LISTENING.match(message)
            self.version = match["version"] if match else self.version
        else:
            self._take_drop(fields)

    # The GPUs

    def _take_compute(self, fields: Mapping[str, str]) -> None:
        if self.devices is None:
            self.devices = []
        if len(self.devices) < MOST_DEVICES:
            text = {name: fields.get(name, "")[:_MOST_OF_A_NAME] for name in _TEXTS_OF_A_DEVICE}
            self.devices.append(
                ComputeDevice(
                    id=text["id"],
                    library=text["library"],
                    compute=text["compute"],
                    name=text["name"],
                    description=text["description"],
                    driver=text["driver"],
                    pci_id=text["pci_id"],
                    total_bytes=size_of_text(fields.get("total", "")),
                    available_bytes=size_of_text(fields.get("available", "")),
                )
            )

    def _take_drop(self, fields: Mapping[str, str]) -> None:
        message = fields.get("msg", "")
        source = fields.get("source", "").partition(":")[0]
        if self.devices is not None or source not in _DISCOVERY_FILES or len(self.drops) >= MOST_DROPS:
            return
        if fields.get("level") in ("WARN", "ERROR") or any(one in message for one in _DROPPING):
            told = ", ".join(
                f"{name}={value}" for name, value in fields.items() if value and name not in _HINTS_ONLY
            )
            self.drops[_reason(f"{message} ({told})" if told else message)] = None

    # The loads

    def _begin(self, fields: Mapping[str, str]) -> None:
        launched = _launched(fields.get("cmd", ""))
        self.load = (
            _Load(launched, fields.get("time", "")[:40], _seconds(fields.get("time", "")))
            if launched
            else None
        )

    def _end(self, count: int | None, fields: Mapping[str, str]) -> None:
        load, self.load = self.load, None
        if load is None:
            return
        blob = load.launched.blob
        now = _seconds(fields.get("time", ""))
        self._evict(blob, count, load.at_s)
        while len(self.loaded) >= MOST_MODELS:
            del self.loaded[next(iter(self.loaded))]
        self.loaded[blob] = now
        former = self.loads.pop(load.launched, None)
        if former is None and len(self.loads) >= MOST_LOADS:
            del self.loads[next(iter(self.loads))]
        ended = self.loads[load.launched] = load.result(former.count + 1 if former else 1)
        self._count(blob, loads=1, spilled=int(ended.is_spilled))

    def _fail(self, fields: Mapping[str, str]) -> None:
        load, self.load = self.load, None
        blob = _file_of(fields.get("model", "")) or (load.launched.blob if load else "")
        if blob:
            self._count(blob, failed=1, error=_reason(fields.get("error", "")))

    def _name(self, fields: Mapping[str, str]) -> None:
        """Source: ollama server/images.go, logTemplateSelection, called by sched.go before `loaded runners` (v0.33.0-rc2)."""
        if self.load and fields.get("model"):
            self._count(self.load.launched.blob, name=short_name(fields["model"])[:_MOST_OF_A_NAME])

    def _take_victim(self, fields: Mapping[str, str]) -> None:
        """With debugging on the server names what it evicts, be it to load the same model anew."""
        blob = _file_of(fields.get("runner.model", ""))
        if blob and len(self.victims) < MOST_MODELS:
            self.victims.append(blob)

    def _evict(self, blob: str, count: int | None, at_s: float | None) -> None:
        """Counts who had to go for this load, as far as that is sure.

        Without debugging the server tells only how many runners there are now. Who is gone was evicted where an eviction
        was announced, where as many were loaded as may be, and where its time cannot have run out.
        Source: ollama server/sched.go, processPending() and findRunnerToUnload() (v0.33.0-rc2).
        """
        told, self.victims = self.victims, []
        announced, self.is_evicting = self.is_evicting, False
        self.loaded.pop(blob, None)
        for victim in told:
            if victim != blob:
                self._count(victim, evicted=1)
            self.loaded.pop(victim, None)
        gone = 0 if count is None else len(self.loaded) + 1 - count
        is_full = count is not None and count >= self._most_loaded()
        # Of those that may live as long, the one of the lowest path goes first.
        for victim in sorted(self.loaded)[: max(gone, 0)]:
            since = self.loaded.pop(victim)
            is_young = since is not None and at_s is not None and 0 <= at_s - since < self._keep_alive_s()
            if not told and (announced or (is_full and is_young)):
                self._count(victim, evicted=1)

    def _most_loaded(self) -> int:
        gpus = [device for device in self.devices or () if device.library != CPU]
        told = whole_number(self.settings.get("OLLAMA_MAX_LOADED_MODELS"))
        return told or PlacementRules().models_per_gpu * max(len(gpus), 1)

    def _keep_alive_s(self) -> float:
        nanoseconds = duration_ns(self.settings.get("OLLAMA_KEEP_ALIVE", ""))
        if nanoseconds is None:
            return _KEEP_ALIVE_S
        return float("inf") if nanoseconds < 0 else nanoseconds / 1e9

    def _count(self, blob: str, *, name: str = "", error: str = "", **counts: int) -> None:
        known = self.models.get(blob) or ModelHistory(blob)
        if blob not in self.models and len(self.models) >= MOST_MODELS:
            return
        numbers = {
            key: getattr(known, key) + counts.get(key, 0) for key in ("loads", "evicted", "spilled", "failed")
        }
        self.models[blob] = ModelHistory(blob, name=name or known.name, error=error or known.error, **numbers)

    def result(self) -> ServerLog:
        return ServerLog(
            version=self.version,
            engine_build=self.build,
            default_context_length=self.default_context,
            settings=self.settings,
            devices=None if self.devices is None else tuple(self.devices),
            drops=tuple(self.drops),
            loads=tuple(self.loads.values()),
            models=tuple(self.models.values()),
        )


def _fields(line: str) -> dict[str, str]:
    """The fields of a line of Go's slog; of two with one key the first."""
    limit = _MOST_OF_A_LONG_LINE if 'msg="starting' in line else _MOST_CHARACTERS
    fields: dict[str, str] = {}
    for match in _FIELD.finditer(line[:limit]):
        value = match["value"]
        fields.setdefault(match["key"], unquoted(value[1:-1]) if value.startswith('"') else value)
    return fields


def _launched(command: str) -> Launched | None:
    """What the command line of a runner says; None where it names no model."""
    # A path may hold spaces; behind the model comes always an option.
    model = re.search(r" --model (?P<path>.{1,4096}?)(?= --|\Z)", command)
    if model is None:
        return None

    def text(*names: str) -> str:
        match = re.search(rf" (?:{'|'.join(names)}) (\S{{1,64}})", command)
        return match[1] if match else ""

    def number(*names: str) -> int:
        value = whole_number(text(*names))
        return -1 if value is None else value

    has_projector = " --mmproj " in command
    return Launched(
        blob=_file_of(model["path"]),
        context_total=number("-c", "--ctx-size"),
        parallel=number("-np", "--parallel"),
        batch=number("-b", "--batch-size"),
        kv_cache_type=text("--cache-type-k"),
        flash_attention=text("--flash-attn"),
        num_gpu=number("-ngl", "--n-gpu-layers"),
        has_projector=has_projector,
        is_projector_on_gpu=has_projector and " --no-mmproj-offload" not in command,
        has_adapter=" --lora " in command,
        split_mode=text("--split-mode"),
    )


def _file_of(path: str) -> str:
    """The name of a model's file, by which it is told from others."""
    match = _BLOB.search(path)
    return match[0].replace(":", "-") if match else path.rpartition("/")[2][:_MOST_OF_A_NAME]


def _reason(text: str) -> str:
    """A text for a reader, without credentials and on one line; it is cut after it was masked."""
    return " ".join(masked("", text).split())[:_MOST_OF_A_REASON]


def _seconds(time: str) -> float | None:
    """Seconds of a time in a log, to be told from others of the same log; its days count, its zone does not."""
    match = _TIME.match(time)
    if match is None:
        return None
    year, month, day = map(int, match["date"].split("-"))
    days = (year * 12 + month) * 31 + day
    return days * 86400 + int(match["h"]) * 3600 + int(match["m"]) * 60 + float(match["s"])
