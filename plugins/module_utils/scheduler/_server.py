# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulation of Ollama's scheduler: what a server does with a sequence of loads, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._remembered import remembered
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._engine import MemoryEngine
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import CUDA_CONTEXT_BYTES
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import (
    NO_MEMORY,
    NOTHING,
    ModelMemory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._start import Engine, EngineLoad, Launch
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._which_rule import (
    runs_in_go_engine,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._free_memory import (
    Beliefs,
    Runner,
    believed_free_by_layout,
    really_free,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._launch import (
    backend_of,
    can_flash,
    fit_targets_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._layout_before_0_30 import lay_out
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import (
    Options,
    SchedulerGpu,
    SchedulerModel,
    effective_context,
    has_single_slot,
    scheduler_model,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._placement import (
    Decision,
    View,
    decide,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server_settings import (
    ServerSettings,
    settings_from_environment,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._words import (
    ContextSource,
    context_words,
    cpu_words,
    layout_words,
    or_any,
    placement_words,
    slots_words,
    unseen_words,
    victim_words,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import B10488
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import (
    CPU_EVICTION_BUG,
    RENUMBERED_DEVICE_BUG,
    Era,
    VersionRules,
    rules,
)

# Source: ollama server/sched.go, GetRunner() (v0.33.0-rc2).
LEAST_CONTEXT = 4
LEAST_VISION_CONTEXT = 2048


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

    `placement` holds GPU indexes, empty for the CPU; `memory` has one entry per GPU of the server, CUDA
    context included. `spilled`: at least one layer lies on the CPU. `whole_bytes`: what the usual split of all
    layers takes, or would take, of the GPUs together. `refitted`: the engine splits the layers over the GPUs
    otherwise than usual, because the usual split does not fit. `is_undecided`: Ollama may also do something
    else, depending on the order of a Go map or on when a log line is read; see Server.possible_loads.
    `failure` is empty unless the load fails. `explanation`: one sentence a step.
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
    memory: ModelMemory = NOTHING
    whole_bytes: int = 0
    layers: int = 0
    projector_on_gpu: bool = False
    reused: bool = False
    is_undecided: bool = False
    failure: str = ""
    explanation: tuple[str, ...] = ()

    @property
    def gpu_bytes(self) -> tuple[int, ...]:
        """What it takes of each GPU of the server."""
        return tuple(gpu.total_bytes for gpu in self.memory.gpus)

    @property
    def gpu_layers(self) -> int:
        """Layers on GPUs."""
        return self.memory.gpu_layers


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
    """A running Ollama; every change gives a new one. Make one with start_server().

    `tells`: whether outcomes come with every step in words, and with what lies where also when the usual split does not
    fit; without, with the last step only.
    """

    rules: VersionRules
    settings: ServerSettings
    gpus: tuple[SchedulerGpu, ...]
    system_free_bytes: int
    cuda_context_bytes: int
    engine: Engine = field(compare=False)
    tells: bool
    runners: tuple[Runner, ...] = ()
    now: float = 0.0

    @property
    def max_loaded_models(self) -> int:
        """How many models may be loaded at once, all GPUs together."""
        return self.settings.max_loaded_models or self.rules.placement.models_per_gpu * max(len(self.gpus), 1)

    @property
    def loaded(self) -> tuple[str, ...]:
        return tuple(runner.name for runner in self.runners)

    def free_bytes(self) -> tuple[int, ...]:
        """Memory that is really free on each GPU."""
        return self._free_bytes

    @remembered
    def _free_bytes(self) -> tuple[int, ...]:
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

    # What a load asks for

    def slots(self, model: SchedulerModel) -> int:
        """How many requests at once the model answers."""
        return 1 if has_single_slot(model, self.rules) else self.settings.num_parallel

    def context_length(self, model: SchedulerModel) -> int:
        """The context length of each slot, in tokens, where a client asks for none."""
        return self._context_length(model, self._context(model, LoadRequest())[0])

    @property
    def margin_bytes(self) -> int:
        """What the engine leaves free on a GPU once everything is loaded, the projector too."""
        return max(self.settings.fit_targets_bytes, default=self.rules.placement.fit_target_bytes)

    def _options(self, model: SchedulerModel, request: LoadRequest) -> tuple[Options, tuple[str, ...]]:
        asked, source = self._context(model, request)
        num_batch = model.num_batch if request.num_batch is None else request.num_batch
        num_gpu = model.num_gpu if request.num_gpu is None else request.num_gpu
        main_gpu = model.main_gpu if request.main_gpu is None else request.main_gpu
        options = Options(
            context_length=self._context_length(model, asked),
            is_automatic_context=source is ContextSource.AUTOMATIC,
            parallel=self.slots(model),
            num_batch=num_batch,
            num_gpu=-1 if num_gpu is None else num_gpu,
            main_gpu=main_gpu,
        )
        if not self.tells:
            return options, ()
        steps = (
            slots_words(model, self.rules, options.parallel),
            context_words(options.context_length, asked, source, self._counted_bytes()),
        )
        return options, steps

    def _context(self, model: SchedulerModel, request: LoadRequest) -> tuple[int, ContextSource]:
        """The context length that is asked for, and by whom."""
        if request.num_ctx is not None:
            return request.num_ctx, ContextSource.REQUEST
        if model.num_ctx is not None:
            return model.num_ctx, ContextSource.MODEL
        if self.settings.context_length:
            return self.settings.context_length, ContextSource.ENVIRONMENT
        return self.rules.default_context_length(self._counted_bytes()), ContextSource.AUTOMATIC

    def _context_length(self, model: SchedulerModel, asked: int) -> int:
        return effective_context(
            model, max(asked, LEAST_VISION_CONTEXT if model.is_vision else LEAST_CONTEXT)
        )

    def _counted_bytes(self) -> int:
        """The GPU memory by which Ollama chooses a context length."""
        return sum(max(gpu.total_bytes - self.settings.gpu_overhead_bytes, 0) for gpu in self.gpus)

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
                + victim_words(victim),
                evicted=(victim.name,),
            )
            server = server._without(victim)
        if server.rules.era is not Era.LLAMA_SERVER:
            yield from server._lay_out(job)
            return
        seen = set()
        for free_bytes in server._views(job.options):
            view = View(server.gpus, free_bytes, server.system_free_bytes)
            decision = server._decide(job, view)
            outcome_key = (decision.placement, decision.batch, decision.must_evict, decision.projector_on_gpu)
            if outcome_key in seen:
                continue
            seen.add(outcome_key)
            decided = job.after(*server._decision_words(job, decision, view)) if self.tells else job
            if decision.must_evict:
                victim = server._victim()
                yield from server._without(victim)._schedule(
                    decided.after(victim_words(victim), evicted=(victim.name,))
                )
            else:
                yield from server._start(decided, decision)

    def _lay_out(self, job: _Job) -> Iterator[tuple[Server, LoadOutcome]]:
        """What versions before 0.30 do: a model loads wholly on the fewest GPUs, or evicts, or spills.

        Source: ollama server/sched.go, processPending(); llm/server.go, Load() (0.11.8).
        """
        gpus = self.gpus if job.options.num_gpu else ()
        batch = job.options.num_batch or self.rules.placement.default_batch
        launch = self._launch(job, range(len(gpus)), batch, job.model.projector_bytes > 0)
        memory = self.engine.believed(job.model, launch)
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
            batch=launch.batch,
            predicted_bytes=memory.required_bytes,
            available_bytes=sum(free),
            must_evict=bool(self.runners)
            and not layout.is_whole
            and (bool(gpus) or (not self.gpus and self.rules.has_bug(CPU_EVICTION_BUG))),
            projector_on_gpu=launch.projector_on_gpu and bool(layout.placement),
        )
        if free:
            job = job.after(layout_words(job.model.name, decision, layout, View(gpus, free)))
        else:
            job = job.after(cpu_words(job.model.name, job.options))
        if decision.must_evict:
            victim = self._victim()
            yield from self._without(victim)._schedule(
                job.after(victim_words(victim), evicted=(victim.name,))
            )
            return
        layers = len(memory.layers_bytes) + 1
        if layout.placement:
            held, is_spilled = memory.with_rest(*layout.gpus), layout.layers < layers
            started = EngineLoad(
                memory=held,
                logged_bytes=layout.bytes_each,
                spilled=is_spilled,
                layers=layers,
                whole_bytes=memory.whole_bytes(len(layout.placement)) if is_spilled else held.gpu_bytes,
            )
        else:
            started = replace(
                self.engine.start(job.model, launch, ()),
                explanation=(),
                whole_bytes=memory.whole_bytes(1) if gpus else 0,
            )
        if started.failure:
            yield self, self._failed(job, decision, started)
            return
        visible_free = tuple(free[position] for position in layout.placement)
        yield self._loaded(job, decision, started, visible_free)

    def _launch(self, job: _Job, placement: Sequence[int], batch: int, projector_on_gpu: bool) -> Launch:
        return Launch(
            context_length=job.options.context_length,
            parallel=job.options.parallel,
            batch=batch,
            kv_cache_type=self.settings.kv_cache_type,
            flash_attention=self.flash_attention(placement),
            num_gpu=job.options.num_gpu,
            fit=self.settings.fit,
            fit_targets_bytes=fit_targets_bytes(
                self.settings,
                self.rules.placement,
                len(placement),
                job.model,
                projector_on_gpu=projector_on_gpu,
            ),
            projector_on_gpu=projector_on_gpu,
            version=str(self.rules.version),
            build=self.rules.engine_build or B10488,
            backend=backend_of(self.settings, [self.gpus[position] for position in placement]),
            details=self.tells,
        )

    def _decide(self, job: _Job, view: View) -> Decision:
        return decide(
            job.model,
            job.options,
            view,
            self.rules.placement,
            others_loaded=bool(self.runners),
            spread=self.settings.spread,
            flash_attention=self.flash_attention(range(len(self.gpus))),
        )

    def _decision_words(self, job: _Job, decision: Decision, view: View) -> tuple[str, ...]:
        if not decision.placement:
            return (cpu_words(job.model.name, job.options),)
        bug = RENUMBERED_DEVICE_BUG if self.rules.has_bug(RENUMBERED_DEVICE_BUG) else None
        return (
            *unseen_words(view, self.free_bytes(), self.runners, bug),
            *placement_words(
                job.model.name,
                decision,
                view,
                self.rules.placement,
                spread=self.settings.spread,
                others_loaded=bool(self.runners),
            ),
        )

    def flash_attention(self, placement: Sequence[int]) -> str:
        """What the engine is told of flash attention, 'on', 'off' or 'auto', on the GPUs at these positions.

        Source: ollama llm/llama_server.go, LlamaServerFlashAttention; ml/device.go (v0.33.0-rc2).
        """
        if self.settings.flash_attention is not None:
            return "on" if self.settings.flash_attention else "off"
        return "auto" if all(can_flash(self.gpus[position]) for position in placement) else "off"

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
            yield self, self._failed(job, decision, started)
            return
        yield self._loaded(job, decision, started, visible_free)

    def _retry(self, job: _Job, failure: str) -> tuple[Server, _Job] | None:
        """Source: ollama server/sched.go, load() and evictAllAndWait() (v0.33.0-rc2)."""
        lower = next(
            (length for length in self.rules.placement.lower_contexts if length < job.options.context_length),
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

    def _loaded(
        self, job: _Job, decision: Decision, started: EngineLoad, visible_free: tuple[int, ...]
    ) -> tuple[Server, LoadOutcome]:
        memory = self._memory(decision.placement, started.memory)
        outcome = self._outcome(job, decision, started, memory)
        keep_alive = job.request.keep_alive_seconds
        if keep_alive is None:
            keep_alive = self.settings.keep_alive_seconds
        if keep_alive <= 0:
            return self, outcome
        runner = Runner(
            name=job.model.name,
            key=job.model.key,
            options=job.options,
            side_files=job.model.side_files,
            placement=decision.placement,
            keep_alive_seconds=keep_alive,
            expires_at=self.now + keep_alive,
            memory=memory,
            logged_bytes=started.logged_bytes,
            free_at_load_bytes=visible_free,
        )
        return self._with(*self.runners, runner), outcome

    def _with(self, *runners: Runner) -> Server:
        return Server(
            self.rules,
            self.settings,
            self.gpus,
            self.system_free_bytes,
            self.cuda_context_bytes,
            self.engine,
            self.tells,
            runners,
            self.now,
        )

    def _failed(self, job: _Job, decision: Decision, started: EngineLoad) -> LoadOutcome:
        outcome = self._outcome(job, decision, started, self._memory((), NOTHING))
        return replace(outcome, failure=started.failure, explanation=(*outcome.explanation, started.failure))

    def _memory(self, placement: Sequence[int], memory: ModelMemory) -> ModelMemory:
        """What a load takes of each GPU of the server, which is no more than is free there."""
        free = self.free_bytes()
        gpus = [NO_MEMORY] * len(self.gpus)
        for position, gpu in zip(placement, memory.gpus):
            gpus[position] = gpu.with_context(self.cuda_context_bytes).at_most(free[position])
        return ModelMemory(tuple(gpus), memory.host, memory.basis, memory.note)

    def _outcome(
        self, job: _Job, decision: Decision, started: EngineLoad, memory: ModelMemory
    ) -> LoadOutcome:
        contexts_bytes = self.cuda_context_bytes * max(len(decision.placement), 1)
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
            memory=memory,
            whole_bytes=started.whole_bytes + contexts_bytes if started.whole_bytes else 0,
            layers=started.layers,
            projector_on_gpu=decision.projector_on_gpu,
            explanation=job.steps + started.explanation,
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
            memory=loaded.memory,
            whole_bytes=loaded.memory.gpu_bytes,
            reused=True,
            explanation=(f"{loaded.name} is loaded with the same options and answers at once.",),
        )
        return replace(self, runners=runners), outcome

    def _runner(self, key: str) -> Runner | None:
        return next((runner for runner in self.runners if runner.key == key), None)

    def _without(self, runner: Runner) -> Server:
        return self._with(*(one for one in self.runners if one is not runner))

    def _victim(self) -> Runner:
        """All are idle here; Ollama takes a busy one last.

        Source: ollama server/sched.go, findRunnerToUnload() and ByDurationAndName (v0.33.0-rc2).
        """
        return min(self.runners, key=lambda one: (one.keep_alive_seconds, one.key))


def start_server(
    version: str,
    environment: Mapping[str, str],
    gpus: Sequence[SchedulerGpu],
    system_free_bytes: int,
    *,
    cuda_context_bytes: int = CUDA_CONTEXT_BYTES,
    engine: Engine | None = None,
    tells: bool = True,
) -> Server:
    """A server of that version with that environment, which sees these GPUs and has loaded nothing.

    `cuda_context_bytes`: GPU memory that each runner takes on each GPU that it sees, beside its buffers. `tells`: see
    Server.

    Raises: ValueError when the version is unknown or too old.
    """
    return Server(
        rules=rules(version),
        settings=settings_from_environment(environment),
        gpus=tuple(gpus),
        system_free_bytes=system_free_bytes,
        cuda_context_bytes=cuda_context_bytes,
        engine=engine or MemoryEngine(),
        tells=tells,
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
        return f"main_gpu {or_any(old.main_gpu)}, asked {or_any(new.main_gpu)}"
    return ""
