# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which models are safe together under given settings: none spills, none evicts another, the headroom stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from math import comb, factorial

from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._engine import MemoryEngine
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._host import Host, available_bytes
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._least import LeastMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._memory import (
    CUDA_CONTEXT_BYTES,
    DEFAULT_BATCH,
    LoadSettings,
    estimate,
    host_estimate,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._placement import (
    LOAD_PERCENT,
    Options,
    SchedulerModel,
    decide,
    effective_context,
    predicted_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._scheduler import (
    LoadOutcome,
    SchedulerGpu,
    Server,
    start_server,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._server_settings import (
    DEFAULT_FIT_TARGET_BYTES,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._setting import (
    Setting,
    has_single_slot,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._versions import Era

GIB = 1 << 30

# Every order of loading is tried where that takes at most so many loads; beyond them a bound decides.
MOST_SIMULATED_LOADS = 64

# The largest GPU that is thought of when asking which one would do.
MOST_GPU_BYTES = 1024 * GIB

_LIBRARY_OF_VENDOR = {"nvidia": "CUDA", "amd": "ROCm"}
_OTHER_LIBRARY = "Vulkan"


@dataclass(frozen=True)
class Verdict:
    """Whether models are safe together; `order` is the one that was looked at, `reason` why they are not."""

    is_safe: bool
    order: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class _Peak:
    """The most that a model takes on one GPU, whatever is loaded beside it. Sizes in bytes."""

    model: SchedulerModel
    options: Options
    used_bytes: int
    to_stay_free_bytes: int


@dataclass(frozen=True)
class _Alone:
    """What became of a model that was loaded while nothing else was."""

    outcome: LoadOutcome
    verdict: Verdict
    peak: _Peak | None = None


class Judge:
    """Judges settings for the models of a host, and remembers what it has found."""

    def __init__(
        self,
        host: Host,
        models: Sequence[SchedulerModel],
        *,
        version: str,
        environment: Mapping[str, str],
        headroom_bytes: int,
        runner_overhead_bytes: int | None = None,
        engine: MemoryEngine | None = None,
    ) -> None:
        self.host = host
        self.models = tuple(models)
        self.version = version
        self.headroom_bytes = headroom_bytes
        # What each runner takes of each GPU besides its buffers, where that was measured.
        self.runner_overhead_bytes = (
            CUDA_CONTEXT_BYTES if runner_overhead_bytes is None else runner_overhead_bytes
        )
        self._environment = dict(environment)
        self._gpus = tuple(scheduler_gpu(gpu) for gpu in host.gpus)
        self._engine = engine or MemoryEngine()
        self._servers: dict[Setting, Server] = {}
        self._alone: dict[tuple[str, Setting], _Alone] = {}
        self._least_memories: dict[str, LeastMemory] = {}
        self._least: dict[tuple[str, Setting], int] = {}

    def on(self, host: Host) -> Judge:
        """A judge for the same models on another host."""
        return Judge(
            host,
            self.models,
            version=self.version,
            environment=self._environment,
            headroom_bytes=self.headroom_bytes,
            runner_overhead_bytes=self.runner_overhead_bytes,
            engine=self._engine,
        )

    def server(self, setting: Setting) -> Server:
        """A server with these settings that has loaded nothing, and that no number of models makes evict."""
        server = self._servers.get(setting)
        if server is None:
            server = self._servers[setting] = start_server(
                self.version,
                {**self._environment, **setting.environment(len(self.models) + 1)},
                self._gpus,
                self.host.system_memory_available_bytes,
                cuda_context_bytes=self.runner_overhead_bytes,
                engine=self._engine,
            )
        return server

    def runners(self, models: Iterable[SchedulerModel], setting: Setting) -> tuple[SchedulerModel, ...]:
        """One model for each blob, the largest file first; of tags that share a blob the one that takes most.

        Of tags that share a blob one is loaded at a time. Where one has most context and another most beside the file,
        that other is judged with the context of the first. The largest file first finds soonest what does not fit.
        """
        by_blob: dict[str, SchedulerModel] = {}
        for model in models:
            known = by_blob.get(model.key)
            by_blob[model.key] = model if known is None else _heavier(known, model, setting)
        return tuple(sorted(by_blob.values(), key=lambda model: (-model.file_bytes, model.name)))

    def is_hopeless(self, models: Sequence[SchedulerModel], setting: Setting, loaded: int) -> bool:
        """Whether the largest of these models alone, or the `loaded` smallest together, exceed all GPU memory.

        Looks at their least memory only. What is hopeless stays so with more requests and with more context.
        """
        if not self._knows_least(setting):
            return False
        room = self._room_bytes(setting)
        least = sorted(self._least_bytes(model, setting) for model in self.runners(models, setting))
        return bool(least) and (least[-1] > room or sum(least[:loaded]) > room)

    def _rules_out(self, runners: Sequence[SchedulerModel], count: int, setting: Setting) -> bool:
        """Whether not any `count` of these models are safe together, as far as their least memory tells."""
        if not self._knows_least(setting):
            return False
        least = sorted((self._least_bytes(model, setting) for model in runners), reverse=True)
        if sum(least[:count]) > self._room_bytes(setting):
            return True
        if count < 2 or self._simulates(len(runners), count):
            return False
        if len(self._gpus) > 1:
            return setting.spread or count > len(self._gpus) or self._exceeds_a_gpu(runners, count, setting)
        return self._exceeds_beside_others(runners, count, setting)

    def _exceeds_a_gpu(self, runners: Sequence[SchedulerModel], count: int, setting: Setting) -> bool:
        """Whether the bound for several GPUs fails by least memory: see _bound()."""
        free = sorted((gpu.free_bytes for gpu in self._gpus), reverse=True)[count - 1]
        return any(
            self._exceeds(model, self._least_bytes(model, setting), free, setting) for model in runners
        )

    def _exceeds_beside_others(self, runners: Sequence[SchedulerModel], count: int, setting: Setting) -> bool:
        """Whether the bound for one GPU fails by least memory: see _bound_on_one_gpu()."""
        least = {model.name: self._least_bytes(model, setting) for model in runners}
        largest = sorted(least.values(), reverse=True)
        for model in runners:
            own = least[model.name]
            others = sum(largest[: count - 1]) if own < largest[count - 2] else sum(largest[:count]) - own
            if self._exceeds(model, own, self._gpus[0].free_bytes - others, setting):
                return True
        return False

    def _exceeds(self, model: SchedulerModel, least_bytes: int, free_bytes: int, setting: Setting) -> bool:
        """Whether a model is too large for so much free memory, or Ollama predicts that it is."""
        server = self.server(setting)
        if least_bytes + self.margin_bytes(server) + self.headroom_bytes > free_bytes:
            return True
        usable = free_bytes - server.cuda_context_bytes
        return self._predicted_bytes(model, setting) > usable * LOAD_PERCENT // 100

    def _knows_least(self, setting: Setting) -> bool:
        return bool(self._gpus) and self.server(setting).rules.era is Era.LLAMA_SERVER

    def _room_bytes(self, setting: Setting) -> int:
        """All that models may take of the GPUs together, at the most."""
        return sum(gpu.free_bytes for gpu in self._gpus) - self.margin_bytes(self.server(setting))

    def _least_bytes(self, model: SchedulerModel, setting: Setting) -> int:
        """What a model takes at the least, CUDA contexts included."""
        contexts_bytes = self.server(setting).cuda_context_bytes * (len(self._gpus) if setting.spread else 1)
        if model.shape is None:
            return contexts_bytes
        key = (model.name, setting)
        known = self._least.get(key)
        if known is None:
            memory = self._least_memories.get(model.name)
            if memory is None:
                memory = self._least_memories[model.name] = LeastMemory(model.shape)
            known = self._least[key] = memory.bytes(
                _context(model, setting), self._slots(model, setting), setting.kv_cache_type
            )
        return known + contexts_bytes

    def _predicted_bytes(self, model: SchedulerModel, setting: Setting) -> int:
        """What Ollama predicts for a model, without the surcharge of a batch."""
        return predicted_bytes(model, _context(model, setting), self._slots(model, setting))

    def _slots(self, model: SchedulerModel, setting: Setting) -> int:
        return 1 if has_single_slot(model, self.server(setting).rules) else setting.parallel

    # Questions

    def alone(self, model: SchedulerModel, setting: Setting) -> Verdict:
        """Whether the model is safe with nothing beside it."""
        return self._loaded_alone(model, setting).verdict

    def alone_outcome(self, model: SchedulerModel, setting: Setting) -> LoadOutcome:
        """What becomes of the model when nothing else is loaded."""
        return self._loaded_alone(model, setting).outcome

    def any_order(self, models: Sequence[SchedulerModel], setting: Setting) -> Verdict:
        """Whether these models are safe together in whatever order they are loaded.

        Where the bound says no, every order of a few models is simulated.
        """
        models = self.runners(models, setting)
        if len(models) < 2:
            return self.alone(models[0], setting) if models else Verdict(True)
        bound = self._bound(models, len(models), setting)
        if bound.is_safe or _loads_of_all_orders(len(models)) > MOST_SIMULATED_LOADS:
            return bound
        return self._in_all_orders(self.server(setting), models, ())

    def some_order(self, models: Sequence[SchedulerModel], setting: Setting) -> Verdict:
        """Whether there is an order in which these models are safe together, and which."""
        models = self.runners(models, setting)
        verdict = Verdict(True)
        for order in self._orders(models, setting):
            verdict = self._in_order(self.server(setting), order, ())
            if verdict.is_safe:
                return verdict
        return verdict

    def is_safe_in(self, order: Sequence[str], setting: Setting) -> bool:
        """Whether the models of these names are safe together when they are loaded in this order."""
        models = {model.name: model for model in self.models}
        return self._in_order(self.server(setting), [models[name] for name in order], ()).is_safe

    def most_loaded(
        self, models: Sequence[SchedulerModel], setting: Setting, most: int, least: int = 1
    ) -> int:
        """The largest number from `least` to `most` of which any combination of these models is safe in any order.

        0 where there is none, because not every model is safe alone or not any `least` are safe together.
        """
        models = self.runners(models, setting)
        most, loaded = min(most, len(models)), min(least, len(models))
        if self._rules_out(models, loaded, setting):
            return 0
        if not all(self.alone(model, setting).is_safe for model in models):
            return 0
        if loaded > 1 and not self.any_combination(models, loaded, setting).is_safe:
            return 0
        while (
            loaded < most
            and not self._rules_out(models, loaded + 1, setting)
            and self.any_combination(models, loaded + 1, setting).is_safe
        ):
            loaded += 1
        return loaded

    def any_combination(self, models: Sequence[SchedulerModel], count: int, setting: Setting) -> Verdict:
        """Whether any `count` of these models are safe together in any order."""
        models = self.runners(models, setting)
        bound = self._bound(models, count, setting)
        if bound.is_safe or not self._simulates(len(models), count):
            return bound
        for chosen in combinations(models, count):
            verdict = self._in_all_orders(self.server(setting), chosen, ())
            if not verdict.is_safe:
                return verdict
        return Verdict(True)

    def _simulates(self, model_count: int, count: int) -> bool:
        """Whether every order of any `count` of so many models is few enough to be tried."""
        return comb(model_count, count) * _loads_of_all_orders(count) <= MOST_SIMULATED_LOADS

    def load_order(self, models: Sequence[SchedulerModel], setting: Setting) -> tuple[SchedulerModel, ...]:
        """The models as it is best to load them: what Ollama predicts to be largest comes first."""
        runners = self.runners(models, setting)
        return tuple(sorted(runners, key=lambda model: (-self._predicted_bytes(model, setting), model.name)))

    def bytes_of_one_gpu(self, models: Sequence[SchedulerModel], setting: Setting) -> int | None:
        """Memory of a single GPU on which these models would be safe together, in steps of a GiB.

        None where no GPU would do, because something other than memory stands in the way.
        """
        enough = None
        low, high = 1, MOST_GPU_BYTES // GIB
        while low <= high:
            middle = (low + high) // 2
            gpu = GpuDevice(
                0, "", "", "nvidia", "", memory_total_bytes=middle * GIB, memory_free_bytes=middle * GIB
            )
            if self.on(replace(self.host, gpus=(gpu,))).any_order(models, setting).is_safe:
                enough, high = middle * GIB, middle - 1
            else:
                low = middle + 1
        return enough

    # Sizes

    def margin_bytes(self, server: Server) -> int:
        """What the engine leaves free on a GPU once everything is loaded, the projector too."""
        return max(server.settings.fit_targets_bytes, default=DEFAULT_FIT_TARGET_BYTES)

    def load_settings(
        self, server: Server, context_length: int, parallel: int, batch: int = DEFAULT_BATCH
    ) -> LoadSettings:
        """How this server starts its engine."""
        flash_attention = server.settings.flash_attention
        return LoadSettings(
            context_length,
            parallel,
            batch or DEFAULT_BATCH,
            server.settings.kv_cache_type,
            "auto" if flash_attention is None else "on" if flash_attention else "off",
        )

    def system_bytes(self, model: SchedulerModel, settings: LoadSettings) -> int:
        """System memory that a loaded model takes: its host buffers beside a GPU, all of it without one."""
        if model.shape is None:
            return model.file_bytes
        if self._gpus:
            return estimate(model.shape, settings, version=self.version).host_total_bytes
        memory = host_estimate(model.shape, settings, version=self.version)
        return memory.host_total_bytes + memory.repacked_bytes

    # One model

    def _loaded_alone(self, model: SchedulerModel, setting: Setting) -> _Alone:
        key = (model.name, setting)
        known = self._alone.get(key)
        if known is None:
            known = self._alone[key] = self._load_alone(model, setting)
        return known

    def _load_alone(self, model: SchedulerModel, setting: Setting) -> _Alone:
        server, outcome = self.server(setting).load(model)
        failure = self._failure(server, model, outcome)
        verdict = Verdict(not failure, order=(model.name,), reason=failure)
        is_bound_to_gpu = model.main_gpu is not None and len(self._gpus) > 1
        if failure or not self._gpus or outcome.split or is_bound_to_gpu:
            return _Alone(outcome, verdict)
        options = Options(
            context_length=outcome.context_length,
            is_automatic_context=False,
            parallel=outcome.parallel,
            num_batch=model.num_batch,
            num_gpu=-1,
            main_gpu=None,
        )
        # On an idle host Ollama takes the largest batch, so this is the most that the model will take.
        to_stay_free = self.margin_bytes(server) + self.headroom_bytes
        return _Alone(outcome, verdict, _Peak(model, options, sum(outcome.gpu_bytes), to_stay_free))

    # Several models, by a bound

    def _bound(self, models: Sequence[SchedulerModel], count: int, setting: Setting) -> Verdict:
        """Whether any `count` of these models are safe in any order, by a bound that may say no too often.

        One GPU: each model must fit beside the `count` - 1 others that take most. Several GPUs and not more
        models than GPUs: before each load one of the `count` GPUs with most memory is empty, and Ollama takes
        the GPU with the most free, which has no less; so each model must fit on the smallest of those.
        """
        if not self._gpus:
            return Verdict(False, reason="there is no GPU")
        if setting.spread and len(self._gpus) > 1:
            return Verdict(
                False, reason="models that are divided over several GPUs depend on each other's order"
            )
        if 1 < len(self._gpus) < count:
            return Verdict(False, reason=f"{count} models are more than the {len(self._gpus)} GPUs")
        peaks = []
        for model in models:
            alone = self._loaded_alone(model, setting)
            if not alone.verdict.is_safe:
                return alone.verdict
            if alone.peak is None:
                return Verdict(False, reason=f"{model.name} lies on several GPUs")
            peaks.append(alone.peak)
        context_bytes = self.server(setting).cuda_context_bytes
        if len(self._gpus) == 1:
            return self._bound_on_one_gpu(peaks, count, context_bytes)
        smallest = sorted(self._gpus, key=lambda gpu: -gpu.free_bytes)[count - 1]
        for peak in peaks:
            verdict = self._fits(peak, smallest, smallest.free_bytes, (), context_bytes)
            if not verdict.is_safe:
                return verdict
        return Verdict(True)

    def _bound_on_one_gpu(self, peaks: Sequence[_Peak], count: int, context_bytes: int) -> Verdict:
        (gpu,) = self._gpus
        by_size = sorted(peaks, key=lambda peak: -peak.used_bytes)
        for peak in peaks:
            others = [other for other in by_size if other is not peak][: count - 1]
            free = gpu.free_bytes - sum(other.used_bytes for other in others)
            verdict = self._fits(peak, gpu, free, others, context_bytes)
            if not verdict.is_safe:
                return verdict
        return Verdict(True)

    def _fits(
        self, peak: _Peak, gpu: SchedulerGpu, free_bytes: int, others: Sequence[_Peak], context_bytes: int
    ) -> Verdict:
        """Whether a model starts on a GPU with so much free memory, while other models are loaded."""
        name = peak.model.name
        free_bytes = max(free_bytes, 0)
        beside = f" beside {', '.join(other.model.name for other in others)}" if others else ""
        needed = peak.used_bytes + peak.to_stay_free_bytes
        if needed > free_bytes:
            return Verdict(
                False,
                reason=(
                    f"{name} needs {gib(needed)} with what is to stay free, "
                    f"and GPU {gpu.index} has {gib(free_bytes)}{beside}"
                ),
            )
        decision = decide(
            peak.model,
            peak.options,
            (gpu,),
            (max(free_bytes - context_bytes, 0),),
            system_free_bytes=self.host.system_memory_available_bytes,
            others_loaded=True,
            spread=False,
            flash_attention="auto",
        )
        if decision.must_evict:
            return Verdict(
                False,
                reason=(
                    f"Ollama predicts {gib(decision.predicted_bytes)} for {name}, more than {LOAD_PERCENT} % of "
                    f"the {gib(decision.available_bytes)} that GPU {gpu.index} has free{beside}, and would evict"
                ),
            )
        return Verdict(True)

    # Several models, by simulation

    def _in_order(
        self, server: Server, remaining: Sequence[SchedulerModel], loaded: tuple[str, ...]
    ) -> Verdict:
        """Every outcome that loading these models one after the other can have."""
        if not remaining:
            return Verdict(True, order=loaded)
        return self._loaded_next(server, remaining[0], loaded, remaining[1:], self._in_order)

    def _in_all_orders(
        self, server: Server, remaining: Sequence[SchedulerModel], loaded: tuple[str, ...]
    ) -> Verdict:
        """Every outcome that loading these models in every order can have."""
        for model in remaining:
            others = [other for other in remaining if other is not model]
            verdict = self._loaded_next(server, model, loaded, others, self._in_all_orders)
            if not verdict.is_safe:
                return verdict
        return Verdict(True, order=loaded)

    def _loaded_next(
        self,
        server: Server,
        model: SchedulerModel,
        loaded: tuple[str, ...],
        others: Sequence[SchedulerModel],
        then: Callable[[Server, Sequence[SchedulerModel], tuple[str, ...]], Verdict],
    ) -> Verdict:
        order = (*loaded, model.name)
        verdict = Verdict(True, order)
        for after, outcome in server.possible_loads(model):
            failure = self._failure(after, model, outcome)
            if failure:
                after_others = f", when it is loaded after {', '.join(loaded)}" if loaded else ""
                return Verdict(False, order, failure + after_others)
            verdict = then(after, others, order)
            if not verdict.is_safe:
                return verdict
        return verdict

    def _failure(self, server: Server, model: SchedulerModel, outcome: LoadOutcome) -> str:
        """What is not safe about the server after this load; empty where all is well."""
        if outcome.failure:
            return f"{model.name} does not start: {outcome.failure.rstrip('.')}"
        if outcome.evicted:
            return f"{model.name} evicts {', '.join(outcome.evicted)}"
        if not self._gpus:
            return self._system_memory_failure(server)
        if outcome.spilled or not outcome.placement:
            why = outcome.explanation[-1].rstrip(".") if outcome.explanation else "it uses no GPU"
            return f"{model.name} does not lie wholly in GPU memory: {why}"
        if outcome.refitted:
            return f"the usual split of {model.name} over the GPUs does not fit, and the engine's other one may not last"
        if model.projector_bytes and not outcome.projector_on_gpu:
            return f"the projector of {model.name} lies on the CPU"
        return self._headroom_failure(server)

    def _headroom_failure(self, server: Server) -> str:
        used = {position for runner in server.runners for position in runner.placement}
        keep = self.margin_bytes(server) + self.headroom_bytes
        for position, free in enumerate(server.free_bytes()):
            if position in used and free < keep:
                return (
                    f"{server.runners[-1].name} leaves {gib(max(free, 0))} of GPU {self._gpus[position].index} "
                    f"free, and {gib(keep)} are to stay free"
                )
        return ""

    def _system_memory_failure(self, server: Server) -> str:
        models = {model.name: model for model in self.models}
        needed = sum(
            self.system_bytes(
                models[one.name],
                self.load_settings(server, one.options.context_length, one.options.parallel),
            )
            for one in server.runners
        )
        available = self.host.system_memory_available_bytes
        if needed <= available:
            return ""
        names = ", ".join(server.loaded)
        return f"{names} need {gib(needed)} of system memory, and {gib(available)} are available"

    def _orders(
        self, models: Sequence[SchedulerModel], setting: Setting
    ) -> Iterator[tuple[SchedulerModel, ...]]:
        """The orders worth a try: largest prediction first, and of a few models all others."""
        best = self.load_order(models, setting)
        yield best
        if _loads_of_all_orders(len(models)) <= MOST_SIMULATED_LOADS:
            yield from permutations(best)


def scheduler_gpu(gpu: GpuDevice) -> SchedulerGpu:
    """A GPU as the simulation takes it: with all the memory free that a plan may count on."""
    return SchedulerGpu(
        index=gpu.index,
        total_bytes=gpu.memory_total_bytes or 0,
        free_bytes=available_bytes(gpu),
        library=_LIBRARY_OF_VENDOR.get(gpu.vendor, _OTHER_LIBRARY),
        integrated=gpu.integrated,
        compute_capability=gpu.compute_capability,
    )


def gib(size_bytes: int) -> str:
    """A size as people read it."""
    return f"{size_bytes / GIB:.1f} GiB"


def _context(model: SchedulerModel, setting: Setting) -> int:
    return effective_context(model, model.num_ctx or setting.context_length)


def _heavier(first: SchedulerModel, second: SchedulerModel, setting: Setting) -> SchedulerModel:
    """Of two tags of one file one that takes as much as either; the first where they are alike."""
    context = max(_context(first, setting), _context(second, setting))
    by_weight = sorted(
        (second, first), key=lambda model: (model.side_bytes, _context(model, setting), model is first)
    )
    heaviest = by_weight[-1]
    return heaviest if _context(heaviest, setting) == context else replace(heaviest, num_ctx=context)


def _loads_of_all_orders(count: int) -> int:
    """Loads in the tree of all orders of so many models: each beginning is simulated once."""
    return sum(factorial(count) // factorial(count - depth) for depth in range(1, count + 1))
