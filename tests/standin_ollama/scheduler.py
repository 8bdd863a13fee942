# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which models are loaded: one load at a time, a bounded queue, eviction and expiry, as Ollama does it."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import gotext, gpus, memory, placement, runner, store
from .config import Config, Fault
from .environment import Settings
from .store import Model

SOURCE = "sched.go:728"
LOADS_BY_DEFAULT = 3  # per GPU, or in all on a CPU host. Source: Ollama server/sched.go defaultModelsPerGPU
# Source: Ollama v0.33.0-rc2 server/sched.go, families that take no parallel value.
NOT_PARALLEL = (
    "lfm2", "lfm2moe", "mllama", "nemotron_h", "nemotron_h_moe", "nemotron_h_omni", "qwen35", "qwen35moe",
    "qwen3next", "qwen3vl", "qwen3vlmoe",
)  # fmt: skip
VISION_MINIMUM_CONTEXT = 2048


class Busy(Exception):
    """More requests wait than OLLAMA_MAX_QUEUE allows."""


class LoadFailed(Exception):
    """The runner would not start; the text is what the API answers."""


@dataclass(eq=False)
class Runner:
    """One loaded model."""

    model: Model
    options: Mapping[str, Any]
    context_length: int
    parallel: int
    placement: placement.Placement
    process: subprocess.Popen[bytes]
    port: int
    keep_alive_ns: int
    expires_ns: int
    in_use: int = 0
    generating: int = 0
    slots: threading.Semaphore = field(default_factory=threading.Semaphore)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None


class Scheduler:
    """All loaded models of one server."""

    def __init__(self, settings: Settings, config: Config, program: Sequence[str]) -> None:
        self.settings = settings
        self.config = config
        self.program = program
        self.faults = config.active_faults(os.environ)
        self.random = random.Random(config.throughput.seed)
        self._changed = threading.Condition()
        self._loading = False
        self._requests = 0
        self._queue: deque[object] = deque()
        self._runners: list[Runner] = []
        threading.Thread(target=self._expire_forever, daemon=True).start()

    def visible_gpus(self) -> list[gpus.Gpu]:
        if self._of("drops_gpus"):
            return []
        return gpus.visible(gpus.read(), self.settings.visible_devices)

    def log_discovery(self) -> None:
        """What it says of GPUs that it does not take. Source: Ollama v0.33.0-rc2 discover/cuda_compat.go."""
        for fault in self._of("drops_gpus"):
            for gpu in gpus.visible(gpus.read(), self.settings.visible_devices):
                gotext.log(
                    "WARN", "cuda_compat.go:70", "NVIDIA driver too old", device=gpu.name, compute=gpu.compute_capability,
                    driver=fault.options.get("driver", 535), required_driver="570 or newer",
                )  # fmt: skip

    def default_context(self) -> int:
        return self.settings.context_length or placement.default_context(
            self.visible_gpus(), self.settings.gpu_overhead_bytes
        )

    def loaded(self) -> list[Runner]:
        """Loaded models, the one that stays longest first."""
        with self._changed:
            return sorted(self._runners, key=lambda item: -(self.expiry(item) // 10**9))

    def expiry(self, item: Runner) -> int:
        """When a runner will go, if nothing more is asked of it; nanoseconds since 1970."""
        if item.in_use:
            return time.time_ns() + item.keep_alive_ns
        return item.expires_ns

    @contextlib.contextmanager
    def use(self, model: Model, options: Mapping[str, Any], keep_alive_ns: int | None) -> Iterator[Runner]:
        """A loaded runner for one request. Raises: Busy, LoadFailed."""
        with self._in_flight():
            with self._turn():
                found = self._ready(model, options, keep_alive_ns)
            try:
                with socket.create_connection(("127.0.0.1", found.port), timeout=5):
                    yield found
            except ConnectionRefusedError as error:
                raise LoadFailed("llama-server process no longer running") from error
            finally:
                self._release(found)

    def unload(self, model: Model) -> None:
        """Let a model go as soon as nothing uses it."""
        with self._changed:
            for item in self._runners:
                if item.model.blob == model.blob:
                    item.keep_alive_ns, item.expires_ns = 0, time.time_ns()
        self._drop_expired()

    def stop(self) -> None:
        with self._changed:
            for item in list(self._runners):
                self._end(item)

    @contextlib.contextmanager
    def _in_flight(self) -> Iterator[None]:
        with self._changed:
            for fault in self._of("busy_above"):
                if self._requests >= int(fault.options.get("in_flight", 0)):
                    raise Busy
            self._requests += 1
        try:
            yield
        finally:
            with self._changed:
                self._requests -= 1

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        ticket = object()
        with self._changed:
            if (self._loading or self._queue) and len(self._queue) >= self.settings.max_queue:
                raise Busy
            self._queue.append(ticket)
            self._changed.wait_for(lambda: not self._loading and self._queue[0] is ticket)
            self._queue.popleft()
            self._loading = True
        try:
            yield
        finally:
            with self._changed:
                self._loading = False
                self._changed.notify_all()

    def _release(self, item: Runner) -> None:
        with self._changed:
            item.in_use -= 1
            item.expires_ns = time.time_ns() + item.keep_alive_ns
            self._changed.notify_all()
        self._drop_expired()

    def _expire_forever(self) -> None:
        while True:
            time.sleep(0.1)
            self._drop_expired()

    def _drop_expired(self) -> None:
        with self._changed:
            for item in list(self._runners):
                if not item.alive or (not item.in_use and item.expires_ns <= time.time_ns()):
                    self._end(item)

    def _end(self, item: Runner) -> None:
        with contextlib.suppress(ValueError):
            self._runners.remove(item)
        item.process.terminate()
        item.process.wait()
        for stream in (item.process.stdin, item.process.stdout):
            if stream is not None:
                stream.close()
        self._changed.notify_all()

    def _ready(self, model: Model, options: Mapping[str, Any], keep_alive_ns: int | None) -> Runner:
        wanted = self._runner_options(model, options)
        with self._changed:
            found = next(
                (item for item in self._runners if item.model.blob == model.blob and item.alive), None
            )
            if found is not None and not self._needs_reload(found, model, wanted):
                return self._taken(found, keep_alive_ns)
        if found is not None:
            self._evict(found)
        loaded = self._load(model, wanted)
        with self._changed:
            self._runners.append(loaded)
            return self._taken(loaded, keep_alive_ns)

    def _needs_reload(self, found: Runner, model: Model, wanted: Mapping[str, Any]) -> bool:
        """Source: Ollama v0.33.0-rc2 server/sched.go (needsReload)."""
        if (found.model.projector, found.model.adapter) != (model.projector, model.adapter):
            return True
        before, after = dict(found.options), dict(wanted)
        before["num_ctx"] = found.context_length
        after["num_ctx"] = self._asked_context(model, wanted)[1]
        if int(after.get("num_gpu", -1)) < 0:
            before.pop("num_gpu", None)
            after.pop("num_gpu", None)
        return before != after

    def _taken(self, item: Runner, keep_alive_ns: int | None) -> Runner:
        item.in_use += 1
        item.keep_alive_ns = self.settings.keep_alive_ns if keep_alive_ns is None else keep_alive_ns
        return item

    def _runner_options(self, model: Model, options: Mapping[str, Any]) -> dict[str, Any]:
        names = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread")
        merged = {**model.parameters, **{name: value for name, value in options.items() if value is not None}}
        return {name: merged[name] for name in names if name in merged}

    def _asked_context(self, model: Model, options: Mapping[str, Any]) -> tuple[int, int]:
        """The context length that is asked for, and the one that is given."""
        asked = int(options.get("num_ctx") or self.default_context())
        if "vision" in model.capabilities:
            asked = max(asked, VISION_MINIMUM_CONTEXT)
        trained = model.gguf.number("context_length")
        return asked, trained if trained and asked > trained else max(asked, 4)

    def _context_length(self, model: Model, options: Mapping[str, Any]) -> int:
        asked, given = self._asked_context(model, options)
        if asked > given:
            gotext.log(
                "WARN",
                "server.go:114",
                "requested context size too large for model",
                num_ctx=asked,
                n_ctx_train=given,
            )
        return given

    def _parallel(self, model: Model) -> int:
        family = str(model.config.get("model_family", ""))
        if "embedding" in model.capabilities:
            return 1
        if family in NOT_PARALLEL and self.settings.num_parallel > 1:
            message = "model architecture does not currently support parallel requests"
            gotext.log("WARN", "sched.go:525", message, architecture=family)
            return 1
        return self.settings.num_parallel

    def _max_loaded(self, gpu_count: int) -> int:
        return self.settings.max_loaded_models or LOADS_BY_DEFAULT * max(gpu_count, 1)

    def _evict(self, victim: Runner) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not victim.in_use or not victim.alive)
            self._end(victim)

    def _victim(self) -> Runner | None:
        with self._changed:
            order = sorted(
                self._runners, key=lambda item: (item.in_use > 0, item.keep_alive_ns, str(item.model.blob))
            )
            return order[0] if order else None

    def _load(self, model: Model, options: Mapping[str, Any]) -> Runner:
        context, parallel = self._context_length(model, options), self._parallel(model)
        predicted = memory.predicted_bytes(model.gguf, model.blob_bytes, context, parallel)
        while len(self.loaded()) >= self._max_loaded(len(self.visible_gpus())):
            gotext.log(
                "DEBUG", "sched.go:266", "max runners achieved, unloading one to make room", runner_count=len(self.loaded())
            )
            self._evict_one()
        while True:
            visible = self.visible_gpus()
            chosen = placement.choose(visible, predicted, self.settings.sched_spread)
            if not self.loaded() or not visible or placement.accepted(chosen, predicted):
                break
            gotext.log(
                "INFO", "sched.go:551", "llama-server model predicted to exceed available memory, evicting",
                predicted=gotext.human_size(predicted), predicted_num_ctx=context * parallel,
                available=gotext.human_size(sum(gpu.free_bytes for gpu in chosen)), system_limited=False,
            )  # fmt: skip
            self._evict_one()
        if int(options.get("num_gpu", -1)) == 0:
            chosen = ()
        return self._start(model, options, context, parallel, predicted, chosen, len(visible) > 1)

    def _evict_one(self) -> None:
        victim = self._victim()
        if victim is not None:
            gotext.log(
                "DEBUG", "sched.go:339", "resetting model to expire immediately to make room",
                **{"runner.name": victim.model.name, "runner.model": victim.model.blob},
            )  # fmt: skip
            self._evict(victim)

    def _start(
        self, model: Model, options: Mapping[str, Any], context: int, parallel: int, predicted: int,
        chosen: Sequence[gpus.Gpu], several_visible: bool,
    ) -> Runner:  # fmt: skip
        free = sum(gpu.free_bytes for gpu in chosen) if chosen else gpus.system_memory()[1]
        embedding = "embedding" in model.capabilities
        batch = int(options.get("num_batch", 0)) or (
            min(placement.EMBEDDING_BATCH, context)
            if embedding
            else placement.batch(context * parallel, predicted, free)
        )
        kv_type = self.settings.kv_cache_type
        sizes = memory.sizes(model, context, parallel, batch, kv_type, self.config.sizes)
        projector = str(model.projector) if model.projector else None
        margin = placement.FIT_MARGIN_BYTES + model.projector_bytes
        if self.settings.fit_target_mib.isdigit():
            margin = int(self.settings.fit_target_mib) * placement.MIB
        placed = placement.place(
            chosen, several_visible, sizes, model.gguf.number("block_count", 1),
            self.config.gpu_context_bytes, margin, self._spills(parallel),
        )  # fmt: skip
        port = _free_port()
        line = placement.arguments(
            blob=str(model.blob), port=port, context_total=context * parallel, parallel=parallel,
            batch_size=batch, flash_attention=self.settings.flash_attention, kv_cache_type=kv_type,
            projector=projector, adapter=str(model.adapter) if model.adapter else None,
            embedding=embedding, split_mode_none=placed.split_mode_none,
            on_cpu=not chosen, layers_on_gpu=int(options.get("num_gpu", -1)),
        )  # fmt: skip
        if not chosen:
            message = "disabling mmap for llama-server load by default"
            gotext.log("INFO", "sched.go:1147", message, model=model.blob, reason="cpu")
        gotext.log("INFO", "server.go:109", "using llama-server for model", model=model.blob)
        gotext.log("INFO", "llama_server.go:433", "starting llama-server", cmd=" ".join(line))
        total, available = gpus.system_memory()
        gotext.log(
            "INFO", "sched.go:613", "system memory", total=gotext.human_size(total), free=gotext.human_size(available),
            free_swap="0 B",
        )  # fmt: skip
        for gpu in chosen:
            gotext.log(
                "INFO", "sched.go:620", "gpu memory", id=gpu.index, library="CUDA",
                available=gotext.human_size(max(gpu.free_bytes - self.config.gpu_context_bytes, 0)),
                free=gotext.human_size(gpu.free_bytes), minimum=gotext.human_size(self.config.gpu_context_bytes), overhead="0 B",
            )  # fmt: skip
        gotext.log("INFO", "llama_server.go:1048", "loading model via llama-server", model=model.blob)
        gotext.log("INFO", "llama_server.go:1295", "waiting for llama-server to start responding")
        self._refuse(kv_type)
        time.sleep(self.config.load_seconds)
        held = {gpu.place: size for gpu, size in zip(placed.gpus, placed.held_bytes)}
        devices = ",".join(str(gpu.index) for gpu in placed.gpus)
        process = runner.start(self.program, line, held, port, devices)
        for line_of_engine in placement.buffer_lines(placed, sizes, self.config.gpu_context_bytes):
            gotext.write(line_of_engine)
        message = f"llama-server started in {self.config.load_seconds:.2f} seconds"
        gotext.log("INFO", "llama_server.go:1362", message)
        full = "/".join(store.full_name(model.name)[:3]) + f":{store.full_name(model.name)[3]}"
        gotext.log(
            "INFO", "images.go:381", "template selection", model=full, selected="none", renderer="", parser="",
            go_template="null", chat_template="null", harmony="null", renderer_parser="null",
        )  # fmt: skip
        gotext.log("INFO", SOURCE, "loaded runners", count=len(self.loaded()) + 1)
        return Runner(
            model=model, options=dict(options), context_length=context, parallel=parallel, placement=placed,
            process=process, port=port, keep_alive_ns=0, expires_ns=0, slots=threading.Semaphore(parallel),
        )  # fmt: skip

    def _refuse(self, kv_type: str) -> None:
        if kv_type.startswith("q") and self.settings.flash_attention == "off":
            line = "llama_init_from_model: quantized V cache requires flash_attn to be enabled"
            raise LoadFailed(f"llama-server process has terminated: exit status 1: {line}\n{line}")
        for fault in self._of("load_fails"):
            error = fault.options.get("error", "cudaMalloc failed: out of memory")
            raise LoadFailed(f"llama-server process has terminated: exit status 1: {error}")

    def _spills(self, parallel: int) -> bool:
        return any(parallel >= int(fault.options.get("parallel", 1)) for fault in self._of("spill"))

    def _of(self, action: str) -> list[Fault]:
        return [fault for fault in self.faults if fault.action == action]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
