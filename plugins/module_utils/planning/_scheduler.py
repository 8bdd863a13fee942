# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulation of Ollama's scheduler: what a server does with a sequence of loads, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._engine import (
    CUDA_CONTEXT_BYTES,
    Engine,
    EngineLoad,
    Launch,
    MemoryEngine,
    fit_targets_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._free_memory import (
    Beliefs,
    Runner,
    believed_free_by_layout,
    really_free,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._layout import Layout, lay_out
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._memory_formula import (
    MINIMUM_GPU_BYTES,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._memory_go_engine import (
    runs_in_go_engine,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._placement import (
    DEFAULT_BATCH,
    GIB,
    LOAD_PERCENT,
    MIB,
    Decision,
    Options,
    SchedulerGpu,
    SchedulerModel,
    decide,
    effective_context,
    predicted_bytes,
    scheduler_model,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._server_settings import (
    ServerSettings,
    settings_from_environment,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._versions import (
    RENUMBERED_DEVICE_BUG,
    Era,
    VersionRules,
    rules,
)

__all__ = (
    "LoadOutcome",
    "LoadRequest",
    "SchedulerGpu",
    "SchedulerModel",
    "Server",
    "predicted_bytes",
    "scheduler_model",
    "start_server",
)

# Source: ollama server/sched.go, defaultModelsPerGPU; GetRunner() (v0.33.0-rc2).
DEFAULT_MODELS_PER_GPU = 3
LEAST_CONTEXT = 4
LEAST_VISION_CONTEXT = 2048
# From here on an explanation says that Ollama misses memory in use.
NOTABLE_UNSEEN_BYTES = GIB
# Source: ollama server/sched.go, nextLowerAutoNumCtx() (v0.33.0-rc2).
LOWER_CONTEXTS = (32768, 4096)


@dataclass(frozen=True)
class LoadRequest:
    """What a client asks of one load; None where it asks for nothing."""

    num_ctx: int | None = None
    num_batch: int | None = None
    num_gpu: int | None = None
    main_gpu: int | None = None
    keep_alive_seconds: float | None = None


@dataclass(frozen=True)
class LoadOutcome:
    """What became of one load.

    `placement` holds GPU indexes, empty for the CPU; `gpu_bytes` one value per GPU of the server, CUDA
    context included. `spilled`: at least one layer lies on the CPU. `refitted`: the engine splits the
    layers over the GPUs otherwise than usual, because the usual split does not fit. `is_undecided`: Ollama may
    also do something else, depending on the order of a Go map or on when a log line is read; see
    Server.possible_loads. `failure` is empty unless the load fails. `explanation`: one sentence a step.
    """

    model: str
    placement: tuple[int, ...] = ()
    split: bool = False
    batch: int = 0
    parallel: int = 0
    context_length: int = 0
    predicted_bytes: int = 0
    evicted: tuple[str, ...] = ()
    spilled: bool = False
    refitted: bool = False
    gpu_bytes: tuple[int, ...] = ()
    gpu_layers: int = 0
    layers: int = 0
    projector_on_gpu: bool = False
    reused: bool = False
    is_undecided: bool = False
    failure: str = ""
    explanation: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Job:
    """One load on its way through the scheduler."""

    model: SchedulerModel
    options: Options
    request: LoadRequest
    steps: tuple[str, ...]
    evicted: tuple[str, ...] = ()
    has_retried: bool = False

    def after(self, *steps: str, evicted: tuple[str, ...] = ()) -> _Job:
        return replace(self, steps=self.steps + steps, evicted=self.evicted + evicted)


@dataclass(frozen=True)
class Server:
    """A running Ollama; every change gives a new one. Make one with start_server()."""

    rules: VersionRules
    settings: ServerSettings
    gpus: tuple[SchedulerGpu, ...]
    system_free_bytes: int
    cuda_context_bytes: int = CUDA_CONTEXT_BYTES
    engine: Engine = field(default_factory=MemoryEngine, compare=False, repr=False)
    runners: tuple[Runner, ...] = ()
    now: float = 0.0

    @property
    def max_loaded_models(self) -> int:
        """How many models may be loaded at once, all GPUs together."""
        return self.settings.max_loaded_models or DEFAULT_MODELS_PER_GPU * max(len(self.gpus), 1)

    @property
    def loaded(self) -> tuple[str, ...]:
        return tuple(runner.name for runner in self.runners)

    def free_bytes(self) -> tuple[int, ...]:
        """Memory that is really free on each GPU."""
        return really_free(self.gpus, self.runners)

    def load(
        self, model: ModelShape | SchedulerModel, request: LoadRequest | None = None
    ) -> tuple[Server, LoadOutcome]:
        """The server after a client has asked for this model and got its answer, and what happened.

        Where Ollama's decision is not determined, this is the one it takes when it looks at the model loaded
        first before the others.
        """
        return self.possible_loads(model, request)[0]

    def possible_loads(
        self, model: ModelShape | SchedulerModel, request: LoadRequest | None = None
    ) -> tuple[tuple[Server, LoadOutcome], ...]:
        """Every outcome that this load can have; more than one only where Ollama leaves it to chance."""
        request = request or LoadRequest()
        if isinstance(model, ModelShape):
            model = scheduler_model(model)
        options, steps = self._options(model, request)
        results = tuple(self._schedule(_Job(model, options, request, steps)))
        if len(results) > 1:
            results = tuple((server, replace(outcome, is_undecided=True)) for server, outcome in results)
        return results

    def unload(self, name: str) -> Server:
        """The server without the model of that name, as after `ollama stop`."""
        return replace(self, runners=tuple(runner for runner in self.runners if runner.name != name))

    def after(self, seconds: float) -> Server:
        """The server after that time without requests: models whose keep-alive ran out are gone."""
        now = self.now + seconds
        return replace(self, now=now, runners=tuple(one for one in self.runners if one.expires_at > now))

    def with_busy(self, name: str, busy: bool = True) -> Server:
        """The server while the model of that name answers requests: it is evicted last."""
        return replace(
            self,
            runners=tuple(replace(one, is_busy=busy) if one.name == name else one for one in self.runners),
        )

    # What a load asks for

    def _options(self, model: SchedulerModel, request: LoadRequest) -> tuple[Options, tuple[str, ...]]:
        parallel, parallel_step = self._parallel(model)
        asked, is_automatic, source = self._context(model, request)
        least = LEAST_VISION_CONTEXT if model.is_vision else LEAST_CONTEXT
        context_length = effective_context(model, max(asked, least))
        context_step = f"Each slot gets {context_length} tokens of context: {source}."
        if context_length < asked:
            context_step = (
                f"Each slot gets {context_length} tokens of context, all that the model was trained for: "
                f"{source}."
            )
        num_batch = model.num_batch if request.num_batch is None else request.num_batch
        num_gpu = model.num_gpu if request.num_gpu is None else request.num_gpu
        main_gpu = model.main_gpu if request.main_gpu is None else request.main_gpu
        options = Options(
            context_length=context_length,
            is_automatic_context=is_automatic,
            parallel=parallel,
            num_batch=num_batch,
            num_gpu=-1 if num_gpu is None else num_gpu,
            main_gpu=main_gpu,
        )
        return options, (parallel_step, context_step)

    def _parallel(self, model: SchedulerModel) -> tuple[int, str]:
        if model.is_embedding:
            return 1, f"{model.name} is an embedding model, so it gets one slot."
        if self.rules.forces_single_slot(model.family):
            return 1, f"Ollama {self.rules.version} gives models of family {model.family} one slot only."
        parallel = self.settings.num_parallel
        return parallel, f"OLLAMA_NUM_PARALLEL gives {model.name} {parallel} slot{'s' * (parallel > 1)}."

    def _context(self, model: SchedulerModel, request: LoadRequest) -> tuple[int, bool, str]:
        if request.num_ctx is not None:
            return request.num_ctx, False, f"the request asks for num_ctx {request.num_ctx}"
        if model.num_ctx is not None:
            return model.num_ctx, False, f"the model's own parameter num_ctx is {model.num_ctx}"
        if self.settings.context_length:
            length = self.settings.context_length
            return length, False, f"OLLAMA_CONTEXT_LENGTH is {length}"
        total = sum(max(gpu.total_bytes - self.settings.gpu_overhead_bytes, 0) for gpu in self.gpus)
        length = self.rules.default_context_length(total)
        return length, True, f"nothing sets one, and Ollama takes {length} for {_gib(total)} of GPU memory"

    # The loop of Ollama's scheduler. Source: ollama server/sched.go, processPending() (v0.33.0-rc2).

    def _schedule(self, job: _Job) -> Iterator[tuple[Server, LoadOutcome]]:
        server = self
        loaded = server._runner(job.model.key)
        if loaded is not None:
            reason = _reload_reason(loaded, job)
            if not reason:
                yield server._reuse(loaded, job)
                return
            server = server._without(loaded)
            job = job.after(
                f"{loaded.name} is loaded with other options ({reason}), so it is unloaded and loaded anew.",
                evicted=(loaded.name,),
            )
        while server.runners and len(server.runners) >= server.max_loaded_models:
            victim = server._victim()
            job = job.after(
                f"{len(server.runners)} models are loaded, {server.max_loaded_models} are allowed: "
                + _victim_sentence(victim),
                evicted=(victim.name,),
            )
            server = server._without(victim)
        if server.rules.era is not Era.LLAMA_SERVER:
            yield from server._lay_out(job)
            return
        seen = set()
        for view in server._views(job.options):
            decision = server._decide(job, view)
            outcome_key = (decision.placement, decision.batch, decision.must_evict, decision.projector_on_gpu)
            if outcome_key in seen:
                continue
            seen.add(outcome_key)
            decided = job.after(*server._decision_steps(job, decision, view))
            if decision.must_evict:
                victim = server._victim()
                yield from server._without(victim)._schedule(
                    decided.after(_victim_sentence(victim), evicted=(victim.name,))
                )
            else:
                yield from server._start(decided, decision)

    def _lay_out(self, job: _Job) -> Iterator[tuple[Server, LoadOutcome]]:
        """What versions before 0.30 do: a model loads wholly on the fewest GPUs, or evicts, or spills.

        Source: ollama server/sched.go, processPending(); llm/server.go, Load() (0.11.8).
        """
        gpus = self.gpus if job.options.num_gpu else ()
        engine = self.engine if isinstance(self.engine, MemoryEngine) else MemoryEngine()
        launch = self._launch(
            job, range(len(gpus)), job.options.num_batch or DEFAULT_BATCH, job.model.projector_bytes > 0
        )
        memory = engine.believed(job.model, launch)
        free = believed_free_by_layout(gpus, self.runners)
        layout = lay_out(
            memory,
            gpus,
            free,
            num_gpu=job.options.num_gpu,
            overhead_bytes=self.settings.gpu_overhead_bytes,
            spread=self.settings.spread,
            is_go_engine=job.model.shape is not None
            and runs_in_go_engine(job.model.shape, self.rules.version),
        )
        decision = Decision(
            placement=layout.placement,
            is_alone=len(layout.placement) == 1 < len(gpus),
            batch=launch.batch,
            predicted_bytes=memory.required_bytes,
            available_bytes=sum(free),
            must_evict=bool(self.runners) and bool(gpus) and not layout.is_whole,
            projector_on_gpu=launch.projector_on_gpu and bool(layout.placement),
        )
        job = job.after(self._layout_step(job, decision, layout, free))
        if decision.must_evict:
            victim = self._victim()
            yield from self._without(victim)._schedule(
                job.after(_victim_sentence(victim), evicted=(victim.name,))
            )
            return
        layers = len(memory.layers_bytes) + 1
        started = EngineLoad(
            used_bytes=tuple(max(one - MINIMUM_GPU_BYTES, 0) for one in layout.bytes_each),
            logged_bytes=layout.bytes_each,
            spilled=layout.layers < layers,
            gpu_layers=layout.layers,
            layers=layers,
        )
        visible_free = tuple(free[position] for position in layout.placement)
        yield self._with_runner(job, decision, started, visible_free), self._outcome(job, decision, started)

    def _layout_step(self, job: _Job, decision: Decision, layout: Layout, free: Sequence[int]) -> str:
        name = job.model.name
        if not free:
            return self._cpu_step(job)
        needs = f"{name} needs {_gib(decision.predicted_bytes)}, {', '.join(_gib(one) for one in free)} are free; "
        indexes = ", ".join(str(self.gpus[position].index) for position in decision.placement)
        if layout.is_whole:
            return needs + f"it fits on GPU {indexes}, the fewest that hold it."
        if decision.must_evict:
            return needs + "it does not fit beside what is loaded."
        return needs + f"only {layout.layers} layers fit, the others go to the CPU."

    def _cpu_step(self, job: _Job) -> str:
        reason = "num_gpu is 0" if job.options.num_gpu == 0 else "Ollama sees no GPU"
        return f"{reason}, so {job.model.name} runs on the CPU."

    def _launch(self, job: _Job, placement: Sequence[int], batch: int, projector_on_gpu: bool) -> Launch:
        return Launch(
            context_length=job.options.context_length,
            parallel=job.options.parallel,
            batch=batch,
            kv_cache_type=self.settings.kv_cache_type,
            flash_attention=self._flash_attention(placement),
            num_gpu=job.options.num_gpu,
            fit=self.settings.fit,
            fit_targets_bytes=fit_targets_bytes(self.settings, len(placement), job.model, projector_on_gpu),
            projector_on_gpu=projector_on_gpu,
            version=str(self.rules.version),
        )

    def _decide(self, job: _Job, view: Sequence[int]) -> Decision:
        return decide(
            job.model,
            job.options,
            self.gpus,
            view,
            system_free_bytes=self.system_free_bytes,
            others_loaded=bool(self.runners),
            spread=self.settings.spread,
            flash_attention=self._flash_attention(range(len(self.gpus))),
        )

    def _flash_attention(self, placement: Sequence[int]) -> str:
        """Source: ollama llm/llama_server.go, LlamaServerFlashAttention; ml/device.go (v0.33.0-rc2)."""
        if self.settings.flash_attention is not None:
            return "on" if self.settings.flash_attention else "off"
        return "auto" if all(_can_flash(self.gpus[position]) for position in placement) else "off"

    def _views(self, options: Options) -> list[tuple[int, ...]]:
        if not self.gpus or options.num_gpu == 0:
            return [()]
        return Beliefs(
            self.gpus,
            self.runners,
            renumbers=self.rules.has_bug(RENUMBERED_DEVICE_BUG),
            context_bytes=self.cuda_context_bytes,
        ).views()

    # Starting and evicting

    def _start(self, job: _Job, decision: Decision) -> Iterator[tuple[Server, LoadOutcome]]:
        free = self.free_bytes()
        visible_free = tuple(max(free[i] - self.cuda_context_bytes, 0) for i in decision.placement)
        launch = self._launch(job, decision.placement, decision.batch, decision.projector_on_gpu)
        started = self.engine.start(job.model, launch, visible_free)
        if started.failure and started.is_out_of_memory and not job.has_retried:
            retry = self._retry(job, started.failure)
            if retry is not None:
                server, job = retry
                yield from server._schedule(job)
                return
        if started.failure:
            yield self, self._outcome(job, decision, started, failure=started.failure)
            return
        yield self._with_runner(job, decision, started, visible_free), self._outcome(job, decision, started)

    def _retry(self, job: _Job, failure: str) -> tuple[Server, _Job] | None:
        """Source: ollama server/sched.go, load() and evictAllAndWait() (v0.33.0-rc2)."""
        lower = next(
            (length for length in LOWER_CONTEXTS if length < job.options.context_length),
            None,
        )
        options = job.options
        steps: tuple[str, ...] = (failure,)
        if options.is_automatic_context and lower is not None:
            options = replace(options, context_length=lower)
            steps += (f"The context was Ollama's own choice, so it tries once more with {lower} tokens.",)
        elif not self.runners:
            return None
        evicted = self.loaded
        if evicted:
            steps += (f"It unloads all other models ({', '.join(evicted)}) and tries once more.",)
        job = replace(job.after(*steps, evicted=evicted), options=options, has_retried=True)
        return replace(self, runners=()), job

    def _with_runner(
        self, job: _Job, decision: Decision, started: EngineLoad, visible_free: tuple[int, ...]
    ) -> Server:
        keep_alive = job.request.keep_alive_seconds
        if keep_alive is None:
            keep_alive = self.settings.keep_alive_seconds
        if keep_alive <= 0:
            return self
        runner = Runner(
            name=job.model.name,
            key=job.model.key,
            options=job.options,
            side_files=job.model.side_files,
            placement=decision.placement,
            keep_alive_seconds=keep_alive,
            expires_at=self.now + keep_alive,
            used_bytes=self._used_bytes(decision.placement, started),
            logged_bytes=started.logged_bytes,
            free_at_load_bytes=visible_free,
        )
        return replace(self, runners=(*self.runners, runner))

    def _used_bytes(self, placement: Sequence[int], started: EngineLoad) -> dict[int, int]:
        free = self.free_bytes()
        return {
            position: min(used + self.cuda_context_bytes, max(free[position], 0))
            for position, used in zip(placement, started.used_bytes)
        }

    def _outcome(self, job: _Job, decision: Decision, started: EngineLoad, failure: str = "") -> LoadOutcome:
        used = {} if failure else self._used_bytes(decision.placement, started)
        return LoadOutcome(
            model=job.model.name,
            placement=tuple(self.gpus[position].index for position in decision.placement),
            split=len(decision.placement) > 1,
            batch=decision.batch,
            parallel=job.options.parallel,
            context_length=job.options.context_length,
            predicted_bytes=decision.predicted_bytes,
            evicted=job.evicted,
            spilled=started.spilled,
            refitted=started.refitted,
            gpu_bytes=tuple(used.get(position, 0) for position in range(len(self.gpus))),
            gpu_layers=started.gpu_layers,
            layers=started.layers,
            projector_on_gpu=decision.projector_on_gpu,
            failure=failure,
            explanation=job.steps + ((failure,) if failure else started.explanation),
        )

    def _reuse(self, loaded: Runner, job: _Job) -> tuple[Server, LoadOutcome]:
        keep_alive = job.request.keep_alive_seconds
        if keep_alive is None:
            keep_alive = loaded.keep_alive_seconds
        used = replace(loaded, keep_alive_seconds=keep_alive, expires_at=self.now + keep_alive)
        runners = tuple(used if one is loaded else one for one in self.runners)
        if keep_alive <= 0:
            runners = tuple(one for one in self.runners if one is not loaded)
        outcome = LoadOutcome(
            model=job.model.name,
            placement=tuple(self.gpus[position].index for position in loaded.placement),
            split=len(loaded.placement) > 1,
            parallel=loaded.options.parallel,
            context_length=loaded.options.context_length,
            gpu_bytes=tuple(loaded.used_bytes.get(position, 0) for position in range(len(self.gpus))),
            reused=True,
            explanation=(f"{loaded.name} is loaded with the same options and answers at once.",),
        )
        return replace(self, runners=runners), outcome

    def _runner(self, key: str) -> Runner | None:
        return next((runner for runner in self.runners if runner.key == key), None)

    def _without(self, runner: Runner) -> Server:
        return replace(self, runners=tuple(one for one in self.runners if one is not runner))

    def _victim(self) -> Runner:
        """Source: ollama server/sched.go, findRunnerToUnload() and ByDurationAndName (v0.33.0-rc2)."""
        return min(self.runners, key=lambda one: (one.is_busy, one.keep_alive_seconds, one.key))

    # Words

    def _decision_steps(self, job: _Job, decision: Decision, view: Sequence[int]) -> tuple[str, ...]:
        name = job.model.name
        predicted = _gib(decision.predicted_bytes)
        if not decision.placement:
            return (self._cpu_step(job),)
        limit = _gib(decision.available_bytes * LOAD_PERCENT // 100)
        indexes = ", ".join(str(self.gpus[position].index) for position in decision.placement)
        free = ", ".join(_gib(one) for one in view)
        where = (
            f"Ollama predicts {predicted} for {name} with batch {decision.batch} and believes {free} to be "
            "free; "
        )
        if decision.is_alone:
            where += f"GPU {indexes} is the one with the most free memory that can take it alone."
        elif len(decision.placement) > 1:
            why = "OLLAMA_SCHED_SPREAD is set" if self.settings.spread else "no GPU can take it alone"
            where += f"{why}, so it is split over GPUs {indexes}."
        else:
            where += f"GPU {indexes} is the only one."
        steps = (*self._unseen_step(view), where)
        if decision.must_evict:
            return (*steps, f"{predicted} is more than {LOAD_PERCENT} % of what is free there ({limit}).")
        if self.runners:
            return (
                *steps,
                f"It is within {LOAD_PERCENT} % of what is free there ({limit}), so nothing is evicted.",
            )
        return (*steps, "It is the only model, so Ollama loads it without asking whether it fits.")

    def _unseen_step(self, view: Sequence[int]) -> tuple[str, ...]:
        """What Ollama misses of the memory in use, where that is much."""
        free = self.free_bytes()
        unseen = [
            position for position, one in enumerate(view) if one - free[position] > NOTABLE_UNSEEN_BYTES
        ]
        if not unseen:
            return ()
        really = ", ".join(
            f"{_gib(max(free[position], 0))} on GPU {self.gpus[position].index}" for position in unseen
        )
        cause = "what models take beyond their logs, or other processes took since, is not counted"
        alone = {runner.placement[0] for runner in self.runners if len(runner.placement) == 1}
        uncounted = sorted(alone & set(unseen) - {0})
        if uncounted and self.rules.has_bug(RENUMBERED_DEVICE_BUG):
            indexes = ", ".join(str(self.gpus[position].index) for position in uncounted)
            cause = f"models alone on GPU {indexes} are not counted ({RENUMBERED_DEVICE_BUG.issue})"
        return (f"Really free are {really}, less than Ollama believes: {cause}.",)


def start_server(
    version: str,
    environment: Mapping[str, str],
    gpus: Sequence[SchedulerGpu],
    system_free_bytes: int,
    *,
    cuda_context_bytes: int = CUDA_CONTEXT_BYTES,
    engine: Engine | None = None,
) -> Server:
    """A server of that version with that environment, which sees these GPUs and has loaded nothing.

    `cuda_context_bytes`: GPU memory that each runner takes on each GPU that it sees, beside its buffers.

    Raises:
        ValueError: the version is unknown or too old.
    """
    return Server(
        rules=rules(version),
        settings=settings_from_environment(environment),
        gpus=tuple(gpus),
        system_free_bytes=system_free_bytes,
        cuda_context_bytes=cuda_context_bytes,
        engine=engine or MemoryEngine(),
    )


def _reload_reason(loaded: Runner, job: _Job) -> str:
    """What of a loaded model differs from what is asked, in a few words; empty where nothing does.

    Source: ollama server/sched.go, needsReload() (v0.33.0-rc2).
    """
    if loaded.side_files != job.model.side_files:
        return "another projector or adapter"
    old, new = loaded.options, job.options
    if old.context_length != new.context_length and not (
        old.is_automatic_context and new.is_automatic_context
    ):
        return f"num_ctx {old.context_length}, asked {new.context_length}"
    if old.num_batch != new.num_batch:
        return f"num_batch {old.num_batch or 'automatic'}, asked {new.num_batch or 'automatic'}"
    if new.num_gpu >= 0 and old.num_gpu != new.num_gpu:
        return f"num_gpu {old.num_gpu}, asked {new.num_gpu}"
    if old.main_gpu != new.main_gpu:
        return f"main_gpu {_or_any(old.main_gpu)}, asked {_or_any(new.main_gpu)}"
    return ""


def _or_any(main_gpu: int | None) -> str:
    return "any" if main_gpu is None else str(main_gpu)


def _victim_sentence(victim: Runner) -> str:
    state = "busy" if victim.is_busy else "idle"
    return (
        f"{victim.name} is evicted: of the {state} models it has the shortest keep-alive "
        f"({victim.keep_alive_seconds:g} s), and of those the lowest blob name."
    )


def _can_flash(gpu: SchedulerGpu) -> bool:
    """Source: ollama ml/device.go, FlashAttentionSupported() (v0.33.0-rc2)."""
    if gpu.library != "CUDA" or not gpu.compute_capability:
        return True
    major, _unused, minor = gpu.compute_capability.partition(".")
    return int(major) >= 6 and (major, minor) != ("7", "2")


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.1f} GiB" if size_bytes >= GIB else f"{size_bytes / MIB:.0f} MiB"
