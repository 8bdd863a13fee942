# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is planned for a host: the values, where they come from, and what is refused."""

from __future__ import annotations

import gc
import json
import re

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    LEAST_CONTEXT_LENGTH,
    policy_from_dict,
    wanted_from_list,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import Service

GIB = 1 << 30
MIB = 1 << 20


@pytest.mark.parametrize("is_enabled", [True, False])
def test_pythons_collector_is_as_it_was_after_a_plan_and_after_a_refusal_and_finds_nothing(plan, is_enabled):
    """It is off while a plan is made: so a plan must not leave what only it could free."""
    before = gc.isenabled()
    try:
        (gc.enable if is_enabled else gc.disable)()
        plan([24, 12], ["granite4:micro-h", "gemma3:4b", "llama3.1:8b"])
        with pytest.raises(ValueError, match="cannot be loaded together"):
            plan([12], ["qwen3:8b", "llama3.1:8b"], wanted=["qwen3:8b", "llama3.1:8b"])
        assert gc.isenabled() is is_enabled
        gc.collect()
        gc.disable()
        plan([24, 12], ["granite4:micro-h", "gemma3:4b", "llama3.1:8b"])
        assert gc.collect() < 100
    finally:
        (gc.enable if before else gc.disable)()


def values(plan):
    return plan.num_parallel, plan.max_loaded_models, plan.context_length


class TestOneModel:
    def test_gets_as_many_slots_as_requests_are_asked_for_and_no_more(self, plan):
        for requests in (1, 3, 4):
            assert plan([24], ["gemma3:4b"], requests=requests).num_parallel == requests

    def test_gets_the_longest_context_that_fits_also_beyond_what_ollama_itself_would_take(self, plan):
        # Ollama itself would take 32768 and 4096.
        assert plan([24], ["gemma3:4b"]).context_length == 131072
        assert plan([12], ["gemma3:4b"]).context_length == 65536
        assert plan([12], ["gemma3:4b"], max_context_length=16384).context_length == 16384

    def test_gets_no_longer_one_than_ollamas_own_where_the_cpu_would_read_it(self, plan):
        assert plan([], ["gemma3:4b"]).context_length == 4096

    def test_gets_no_more_context_than_it_was_trained_for(self, plan, installed):
        assert plan([80], [installed("gemma3:4b", context_length_trained=8192)]).context_length == 8192

    def test_gets_fewer_slots_where_those_asked_for_do_not_fit(self, plan):
        planned = plan([12], ["phi4:14b"])
        assert planned.num_parallel == 2
        assert planned.safe
        assert planned.reasons[0].startswith(
            f"OLLAMA_NUM_PARALLEL={planned.num_parallel} is the largest safe value"
        )

    def test_always_has_its_context_in_the_environment_because_ollamas_own_ignores_the_slots(self, plan):
        assert plan([80], ["gemma3:4b"]).environment == {
            "OLLAMA_CONTEXT_LENGTH": "131072",
            "OLLAMA_MAX_LOADED_MODELS": "1",
            "OLLAMA_NUM_PARALLEL": "4",
        }

    def test_that_ollama_gives_one_slot_needs_no_parallel_value(self, plan):
        planned = plan([24], ["mxbai-embed-large"])
        assert planned.num_parallel == 1
        assert planned.models[0].num_parallel == 1


class TestInstalledModelsOfWhichNoneIsWanted:
    def test_are_loaded_together_as_many_as_fit_in_any_combination(self, plan):
        assert plan([12], ["gemma3:4b", "llama3.2:1b", "llama3.1:8b"]).max_loaded_models == 1
        assert plan([80], ["gemma3:4b", "llama3.2:1b", "llama3.1:8b"]).max_loaded_models == 3

    def test_come_without_an_order(self, plan):
        planned = plan([80], ["gemma3:4b", "llama3.1:8b"])
        assert planned.load_order == ()
        assert not planned.order_matters

    def test_leave_out_the_one_that_fits_nowhere_with_a_warning(self, plan):
        planned = plan([12], ["gemma3:4b", "qwen2.5:32b"])
        assert planned.safe
        assert planned.max_loaded_models == 1
        assert planned.num_parallel == 4
        assert [model.planned for model in planned.models] == [True, False]
        assert any(
            warning.startswith("qwen2.5:32b is left out of the plan: ") for warning in planned.warnings
        )

    def test_that_all_fit_nowhere_leave_the_smallest_values_and_say_so(self, plan):
        planned = plan([4], ["qwen2.5:32b", "phi4:14b"])
        assert not planned.safe
        assert values(planned) == (1, 1, LEAST_CONTEXT_LENGTH)
        assert "the plan is not safe: no installed model fits" in planned.warnings

    def test_that_are_none_leave_the_smallest_values(self, plan):
        planned = plan([24], [])
        assert planned.safe
        assert values(planned) == (1, 1, LEAST_CONTEXT_LENGTH)
        assert planned.warnings[-1].startswith("no model is installed")

    def test_on_several_gpus_are_at_most_as_many_as_gpus_because_of_ollamas_bug(self, plan):
        models = ["gemma3:4b", "llama3.2:1b", "llama3.2:3b", "qwen3:0.6b", "qwen3:4b"]
        assert plan([24, 24], models).max_loaded_models == 2


class TestWantedModels:
    wanted = ("gemma3:4b", "llama3.1:8b")

    def test_are_loaded_together_before_anything_else(self, plan):
        planned = plan([12], self.wanted, wanted=self.wanted)
        assert planned.max_loaded_models == 2
        assert planned.num_parallel < 4

    def test_have_the_larger_prediction_loaded_first(self, plan):
        assert plan([24], self.wanted, wanted=self.wanted).load_order == ("llama3.1:8b", "gemma3:4b")

    def test_are_safe_in_any_order_rather_than_with_more_context(self, plan):
        planned = plan([24], self.wanted, wanted=self.wanted)
        assert not planned.order_matters
        longer = {limit.step: limit for limit in planned.limits}["context"]
        assert longer.possible
        assert longer.reason.startswith("it is safe only when loaded as ")

    def test_are_loaded_in_a_prescribed_order_where_what_is_asked_needs_one(self, plan):
        planned = plan([24], self.wanted, wanted=self.wanted, context_length=16384)
        assert planned.safe
        assert planned.order_matters
        assert planned.load_order == ("gemma3:4b", "llama3.1:8b")

    def test_are_served_the_most_requests_that_one_of_them_has_to_serve(self, plan):
        wanted = [{"name": "gemma3:4b", "requests": 2}, {"name": "llama3.1:8b", "requests": 3}]
        assert plan([48], self.wanted, wanted=wanted).num_parallel == 3

    def test_have_at_least_the_context_that_one_of_them_has_to_have(self, plan):
        wanted = [{"name": "gemma3:4b", "context_length": 20000}, "llama3.1:8b"]
        assert plan([80], self.wanted, wanted=wanted).context_length >= 20000
        both = [{"name": name, "context_length": 20000} for name in self.wanted]
        assert plan([80], self.wanted, wanted=both).context_length == 20000

    def test_are_divided_over_the_gpus_where_whole_ones_would_be_stacked(self, plan):
        models = ["gemma3:4b", "llama3.1:8b", "gpt-oss:20b"]
        planned = plan([24, 24], models, wanted=models)
        assert planned.environment["OLLAMA_SCHED_SPREAD"] == "1"
        assert all(len(model.gpus) == 2 for model in planned.models)
        assert plan([24, 24], models[:2], wanted=models[:2]).spread is False

    def test_may_be_written_as_ollama_takes_names(self, plan):
        assert plan([24], ["gemma3:4b"], wanted=["library/Gemma3:4b"]).load_order == ("gemma3:4b",)

    def test_that_are_not_installed_are_refused_with_the_nearest_name(self, plan):
        with pytest.raises(
            ValueError, match=re.escape("'gema3:4b' is wanted but not installed; did you mean")
        ):
            plan([24], ["gemma3:4b"], wanted=["gema3:4b"])

    def test_count_as_one_where_they_are_tags_of_one_file(self, plan, installed):
        other = installed("gemma3:4b", name="gemma3:assistant")
        planned = plan([24], ["gemma3:4b", other], wanted=["gemma3:4b", "gemma3:assistant"])
        assert planned.max_loaded_models == 1
        assert any("they share one runner" in warning for warning in planned.warnings)

    def test_of_one_file_with_different_contexts_are_reloaded_in_turn(self, plan, installed):
        other = installed("gemma3:4b", name="gemma3:long", num_ctx=16384)
        planned = plan([24], ["gemma3:4b", other], wanted=["gemma3:4b", "gemma3:long"])
        assert any(
            "with different num_ctx" in warning and "Ollama reloads it whenever" in warning
            for warning in planned.warnings
        )

    @pytest.mark.parametrize(
        ("changes", "differing"),
        [
            ({"adapter_bytes": 4096}, "projector or adapter"),
            ({"projector_bytes": 4096}, "projector or adapter"),
            ({"parameters": {"side_files": ["sha256-" + "a" * 64]}}, "projector or adapter"),
            ({"parameters": {"num_batch": 64}}, "num_batch"),
            ({"parameters": {"main_gpu": 0}}, "main_gpu"),
            ({"parameters": {"num_batch": 64}, "num_ctx": 16384}, "num_ctx and num_batch"),
        ],
    )
    def test_of_one_file_that_do_not_share_a_runner_are_reloaded_in_turn(
        self, plan, installed, changes, differing
    ):
        other = installed("gemma3:4b", name="gemma3:other", **changes)
        planned = plan([24], ["gemma3:4b", other], wanted=["gemma3:4b", "gemma3:other"])
        assert planned.max_loaded_models == 1
        assert any(f"tags of one file with different {differing}: one" in one for one in planned.warnings)

    def test_of_one_file_are_judged_by_the_one_that_takes_most(self, plan, installed):
        vision = installed("gemma3:4b", name="gemma3:see", projector_bytes=8 << 30, capabilities=("vision",))
        for order in (["gemma3:4b", vision], [vision, "gemma3:4b"]):
            planned = plan([24], order, wanted=["gemma3:4b", "gemma3:see"])
            alone = plan([24], [vision], wanted=["gemma3:see"])
            assert planned.context_length == alone.context_length

    def test_of_one_file_run_on_the_layers_of_the_first(self, plan, installed):
        other = installed("gemma3:4b", name="gemma3:cpu", parameters={"num_gpu": 0})
        planned = plan([24], ["gemma3:4b", other], wanted=["gemma3:4b", "gemma3:cpu"])
        assert any(
            "gemma3:cpu sets num_gpu 0: where it is loaded first, its runner also serves gemma3:4b" in one
            for one in planned.warnings
        )

    def test_of_one_file_with_more_context_than_it_was_trained_for_share_a_runner(self, plan, installed):
        first, second = (
            installed("gemma3:4b", name=f"gemma3:{name}", num_ctx=tokens)
            for name, tokens in (("a", 131072), ("b", 10**6))
        )
        planned = plan([80], [first, second], wanted=["gemma3:a", "gemma3:b"])
        assert any("they share one runner" in warning for warning in planned.warnings)
        assert any(
            "gemma3:b sets num_ctx 1000000, beyond the 131072 tokens it was trained for" in one
            for one in planned.warnings
        )


class TestWantedModelsThatDoNotFitTogether:
    wanted = ("gemma3:4b", "phi4:14b", "qwen2.5:32b")

    def test_are_refused_with_what_can_be_loaded_and_what_would_help(self, plan):
        with pytest.raises(ValueError, match="cannot be loaded together") as refusal:
            plan([24], self.wanted, wanted=self.wanted)
        assert "gemma3:4b, phi4:14b can;" in str(refusal.value)
        assert re.search(r"a host with one GPU of \d+\.0 GiB free$", str(refusal.value))

    def test_are_planned_as_far_as_they_fit_where_the_policy_allows(self, plan):
        planned = plan([24], self.wanted, wanted=self.wanted, on_misfit="subset")
        assert sorted(planned.load_order) == ["gemma3:4b", "phi4:14b"]
        assert planned.safe
        assert any("cannot be loaded together" in warning for warning in planned.warnings)

    def test_are_dropped_from_the_lowest_priority_up(self, plan):
        wanted = ["gemma3:4b", "phi4:14b", {"name": "qwen2.5:32b", "priority": 1}]
        assert plan([24], self.wanted, wanted=wanted, on_misfit="subset").load_order == ("qwen2.5:32b",)

    def test_are_told_that_a_smaller_context_would_help(self, plan):
        with pytest.raises(ValueError, match=r"a context of \d+ tokens \(ollama_plan_context_length\)"):
            plan([24], ["qwen2.5:32b"], wanted=["qwen2.5:32b"], context_length=32768)

    def test_are_told_that_a_quantised_cache_would_help(self, plan):
        with pytest.raises(ValueError, match=r"a q8_0 KV cache .*\(ollama_plan_kv_cache_types\)"):
            plan([24], ["qwen2.5:32b"], wanted=["qwen2.5:32b"], context_length=24576)

    def test_are_refused_even_as_a_subset_where_none_of_them_fits(self, plan):
        with pytest.raises(ValueError, match="cannot be loaded"):
            plan([4], ["qwen2.5:32b"], wanted=["qwen2.5:32b"], on_misfit="subset")

    def test_fit_with_a_lowered_context_where_the_policy_allows(self, plan):
        planned = plan(
            [24], ["qwen2.5:32b"], wanted=["qwen2.5:32b"], context_length=32768, lower_context=True
        )
        assert planned.safe
        assert 4096 <= planned.context_length < 32768


class TestTheOperatorsOwnValues:
    def test_win_and_are_safe(self, plan):
        planned = plan([24], ["gemma3:4b"], num_parallel=3, context_length=8192)
        assert values(planned) == (3, 1, 8192)
        assert planned.safe
        assert planned.reasons[0] == "OLLAMA_NUM_PARALLEL=3 is the operator's own value."

    def test_win_with_a_warning_where_they_are_not_safe(self, plan):
        planned = plan([12], ["phi4:14b"], num_parallel=8)
        assert planned.environment["OLLAMA_NUM_PARALLEL"] == "8"
        assert not planned.safe
        assert re.match(r"the plan is not safe: .*; safe would be OLLAMA_NUM_PARALLEL=2", planned.warnings[0])

    def test_may_load_more_models_than_is_safe(self, plan):
        planned = plan([12], ["phi4:14b", "llama3.1:8b"], max_loaded_models=2)
        assert planned.environment["OLLAMA_MAX_LOADED_MODELS"] == "2"
        assert not planned.safe

    def test_are_kept_where_more_models_may_be_loaded_with_fewer_slots(self, plan):
        models = ["gemma3:4b", "llama3.1:8b"]
        assert plan([12], models).max_loaded_models == 1
        planned = plan([12], models, max_loaded_models=2)
        assert planned.safe
        assert planned.max_loaded_models == 2

    def test_that_load_fewer_models_than_are_wanted_are_not_safe(self, plan):
        wanted = ["gemma3:4b", "llama3.1:8b"]
        planned = plan([24], wanted, wanted=wanted, max_loaded_models=1)
        assert planned.environment["OLLAMA_MAX_LOADED_MODELS"] == "1"
        assert not planned.safe
        assert "2 models are wanted, but only 1 may be loaded at once" in planned.warnings[0]

    def test_do_not_make_wanted_models_fit_that_do_not(self, plan):
        with pytest.raises(ValueError, match="cannot be loaded"):
            plan([4], ["qwen2.5:32b"], wanted=["qwen2.5:32b"], num_parallel=2)

    def test_may_be_given_as_settings_of_the_service(self, plan):
        own = {
            "OLLAMA_NUM_PARALLEL": 2,
            "OLLAMA_CONTEXT_LENGTH": 8192,
            "OLLAMA_KV_CACHE_TYPE": "q8_0",
            "OLLAMA_SCHED_SPREAD": 0,
            "OLLAMA_MAX_QUEUE": 64,
        }
        planned = plan([24, 24], ["gemma3:4b"], operator_environment=own)
        assert planned.environment == {
            "OLLAMA_CONTEXT_LENGTH": "8192",
            "OLLAMA_FLASH_ATTENTION": "1",
            "OLLAMA_KV_CACHE_TYPE": "q8_0",
            "OLLAMA_MAX_LOADED_MODELS": "1",
            "OLLAMA_MAX_QUEUE": "64",
            "OLLAMA_NUM_PARALLEL": "2",
            "OLLAMA_SCHED_SPREAD": "0",
        }

    def test_that_contradict_each_other_are_refused(self, plan):
        with pytest.raises(
            ValueError, match="num_parallel is 3, but operator_environment sets OLLAMA_NUM_PARALLEL"
        ):
            plan([24], ["gemma3:4b"], num_parallel=3, operator_environment={"OLLAMA_NUM_PARALLEL": "4"})

    @pytest.mark.parametrize(
        ("own", "sentence"),
        [
            ({"OLLAMA_NUM_PARALLEL": "many"}, "sets OLLAMA_NUM_PARALLEL to 'many', expected a whole number"),
            ({"OLLAMA_NUM_PARALLEL": "0"}, "sets OLLAMA_NUM_PARALLEL to '0', which leaves the choice to Ollama"),
            ({"OLLAMA_NUM_PARALLEL": "-1"}, "num_parallel must be a whole number from 1"),
            ({"OLLAMA_KV_CACHE_TYPE": "f8"}, "kv_cache_types must be one of f16, q8_0, q4_0, found 'f8'"),
        ],
    )
    def test_that_make_no_sense_are_refused(self, plan, own, sentence):
        with pytest.raises(ValueError, match=re.escape(sentence)):
            plan([24], ["gemma3:4b"], operator_environment=own)

    def test_of_other_settings_are_planned_with(self, plan):
        without_flash = {"OLLAMA_FLASH_ATTENTION": "0"}
        slower = plan([24], ["llama3.1:8b"], operator_environment=without_flash, context_length=8192)
        faster = plan([24], ["llama3.1:8b"], context_length=8192)
        assert slower.models[0].batch <= 512 < faster.models[0].batch


class TestKvCacheTypes:
    def test_stay_f16_where_that_serves_as_well(self, plan):
        planned = plan([24], ["gemma3:4b"], kv_cache_types=["f16", "q8_0"])
        assert planned.kv_cache_type == "f16"
        assert "OLLAMA_KV_CACHE_TYPE" not in planned.environment

    def test_are_quantised_where_that_allows_more(self, plan):
        planned = plan([24], ["qwen2.5:14b"], kv_cache_types=["f16", "q8_0"])
        assert planned.kv_cache_type == "q8_0"
        assert planned.environment["OLLAMA_FLASH_ATTENTION"] == "1"
        assert planned.context_length > plan([24], ["qwen2.5:14b"]).context_length
        assert any(reason.startswith("The KV cache is q8_0") for reason in planned.reasons)

    def test_are_not_chosen_where_the_engine_aborts(self, plan):
        planned = plan([12], ["phi4:14b"], kv_cache_types=["f16", "q8_0"])
        assert planned.num_parallel > 1
        assert planned.kv_cache_type == "f16"


class TestHeadroom:
    def test_stays_free_on_top_of_the_engines_margin(self, plan):
        for headroom in (0, 2 * GIB, 6 * GIB):
            planned = plan([24], ["llama3.1:8b"], headroom_bytes=headroom)
            (gpu,) = planned.gpus
            assert gpu.free_bytes >= headroom + 1024 * MIB
            assert gpu.headroom_bytes == headroom
            assert gpu.engine_margin_bytes == 1024 * MIB


class TestAHostWithoutGpu:
    def test_is_planned_for_its_system_memory(self, plan):
        planned = plan([], ["gemma3:4b", "llama3.1:8b"])
        assert planned.placement == "cpu"
        assert planned.gpus == ()
        assert values(planned) == (4, 2, 4096)
        assert any(warning.startswith("no GPU is planned with") for warning in planned.warnings)
        assert all(model.system_memory_bytes > model.predicted_bytes // 2 for model in planned.models)

    def test_loads_fewer_models_with_less_memory(self, plan, described):
        planned = plan(described(system_gib=9), ["gemma3:4b", "llama3.1:8b"])
        assert planned.max_loaded_models == 1

    def test_leaves_out_what_its_memory_cannot_hold(self, plan, described):
        planned = plan(described(system_gib=6), ["gemma3:4b", "qwen2.5:32b"])
        assert [model.name for model in planned.models if model.planned] == ["gemma3:4b"]
        assert any("of system memory" in warning for warning in planned.warnings)


class TestTheRunningService:
    def test_keeps_values_that_are_as_good_as_makes_no_difference(self, plan, described):
        """With a little more memory than the running values were planned for, better ones might not last."""
        models = ["phi4:14b"]
        best = plan([24], models)
        others = next(
            mib
            for mib in range(0, 8192, 32)
            if plan(described(24, others_mib=mib), models).environment != best.environment
        )
        fewer = plan(described(24, others_mib=others), models)
        service = Service(running=fewer.environment, managed=fewer.environment)
        slightly_more = described(24, others_mib=others - 32)
        assert plan(slightly_more, models).environment == best.environment
        kept = plan(slightly_more, models, service=service)
        assert kept.environment == fewer.environment
        assert kept.reasons[-1].startswith("These values run already and are safe")

    def test_gets_better_values_where_they_are_clearly_better(self, plan):
        small = plan([12], ["gemma3:4b", "llama3.1:8b"])
        running = Service(running=small.environment, managed=small.environment)
        planned = plan([80], ["gemma3:4b", "llama3.1:8b"], service=running)
        assert planned.environment == plan([80], ["gemma3:4b", "llama3.1:8b"]).environment

    def test_gets_lower_values_where_its_own_are_not_safe_any_more(self, plan):
        large = plan([80], ["phi4:14b"])
        running = Service(running=large.environment, managed=large.environment)
        assert plan([12], ["phi4:14b"], service=running).environment == plan([12], ["phi4:14b"]).environment

    def test_has_other_settings_of_the_operator_planned_with_but_not_written(self, plan):
        foreign = {"LLAMA_ARG_FIT_TARGET": "4096", "OLLAMA_KEEP_ALIVE": "-1"}
        planned = plan([12], ["phi4:14b"], service=Service(running=foreign, foreign=foreign))
        assert planned.gpus[0].engine_margin_bytes == 4096 * MIB
        assert planned.num_parallel < plan([12], ["phi4:14b"]).num_parallel or not planned.safe
        assert not set(foreign) & set(planned.environment)

    def test_has_the_cache_type_that_another_file_sets_overruled_and_said(self, plan):
        foreign = {"OLLAMA_KV_CACHE_TYPE": "q4_0", "OLLAMA_SCHED_SPREAD": "1"}
        service = Service(running=foreign, foreign=foreign)
        planned = plan([24, 24], ["gemma3:4b"], service=service)
        assert planned.environment["OLLAMA_KV_CACHE_TYPE"] == "f16"
        assert planned.environment["OLLAMA_SCHED_SPREAD"] == "0"
        assert "OLLAMA_KV_CACHE_TYPE=q4_0 is set elsewhere; the plan sets f16" in planned.warnings
        again = Service(running={**foreign, **planned.environment}, managed=planned.environment)
        assert plan([24, 24], ["gemma3:4b"], service=again).environment == planned.environment

    def test_keeps_flash_attention_once_a_plan_has_set_it(self, plan):
        managed = {"OLLAMA_KV_CACHE_TYPE": "q8_0", "OLLAMA_FLASH_ATTENTION": "1"}
        planned = plan([24], ["gemma3:4b"], service=Service(running=managed, managed=managed))
        assert planned.environment["OLLAMA_FLASH_ATTENTION"] == "1"
        assert planned.environment["OLLAMA_KV_CACHE_TYPE"] == "f16"

    def test_is_not_given_and_denied_a_model_in_turn_that_fits_only_just(self, plan, described):
        models = ["gemma3:4b", "phi4:14b"]
        others = next(
            mib
            for mib in range(0, 8192, 16)
            if not all(model.planned for model in plan(described(12, others_mib=mib), models).models)
        )
        without = plan(described(12, others_mib=others), models)
        service = Service(running=without.environment, managed=without.environment)
        slightly_more = described(12, others_mib=others - 16)
        assert all(model.planned for model in plan(slightly_more, models).models)
        assert plan(slightly_more, models, service=service).environment == without.environment


class TestModelsWithSettingsOfTheirOwn:
    def planned(self, plan, installed, **changes):
        return plan([24], [installed("gemma3:4b", **changes)], wanted=["gemma3:4b"])

    def test_have_the_context_of_their_modelfile(self, plan, installed):
        planned = self.planned(plan, installed, num_ctx=65536)
        assert planned.models[0].context_length == 65536
        assert any("sets num_ctx 65536, above the planned 4096" in warning for warning in planned.warnings)

    def test_are_said_to_get_less_than_the_plan(self, plan, installed):
        small = installed("gemma3:4b", num_ctx=2048)
        planned = plan([24], [small, "llama3.2:1b"], wanted=["gemma3:4b", "llama3.2:1b"])
        assert any("sets num_ctx 2048, which wins over" in warning for warning in planned.warnings)

    def test_are_planned_with_their_batch(self, plan, installed):
        planned = self.planned(plan, installed, parameters={"num_batch": 256})
        assert planned.models[0].batch == 256
        assert any("sets num_batch 256" in warning for warning in planned.warnings)

    def test_that_keep_layers_on_the_cpu_are_no_safe_plan(self, plan, installed):
        with pytest.raises(ValueError, match="does not lie wholly in GPU memory"):
            self.planned(plan, installed, parameters={"num_gpu": 10})

    def test_are_planned_on_their_gpu(self, plan, installed):
        model = installed("gemma3:4b", parameters={"main_gpu": 1})
        planned = plan([24, 24], [model], wanted=["gemma3:4b"])
        assert [share.index for share in planned.models[0].gpus] == [1]
        assert any("sets main_gpu 1" in warning for warning in planned.warnings)

    @pytest.mark.parametrize(
        ("files", "sentence"),
        [
            (
                {"adapter_bytes": 300 * MIB},
                "its adapters are counted by their size on disk, 300 MiB on every GPU",
            ),
            (
                {"parameters": {"draft_bytes": 300 * MIB}},
                "its draft model is counted by its size on disk, 300 MiB on every GPU",
            ),
        ],
    )
    def test_have_adapters_and_draft_models_counted_and_named_as_an_estimate(
        self, plan, installed, files, sentence
    ):
        bare, planned = (self.planned(plan, installed, **some) for some in ({}, files))
        taken = [one.gpus[0].planned_bytes for one in (bare, planned)]
        # A draft model has a cache and buffers of its own besides.
        assert taken[1] - taken[0] == 300 * MIB or ("parameters" in files and taken[1] - taken[0] > 800 * MIB)
        assert (bare.basis, planned.basis) == ("exact", "estimate")
        assert any("is estimated: " in warning and sentence in warning for warning in planned.warnings)

    def test_fit_with_their_adapters_too(self, plan, installed):
        alone = plan([12], ["phi4:14b"], requests=2)
        adapted = plan([12], [installed("phi4:14b", adapter_bytes=GIB)], requests=2)
        assert alone.num_parallel > adapted.num_parallel or not adapted.models[0].planned

    def test_of_a_family_with_one_slot_are_said_to_be(self, plan, installed):
        planned = plan([24], [installed("qwen3.5:9b", family="qwen35"), "gemma3:4b"])
        assert planned.num_parallel == 4
        assert any("gives its family one slot (qwen35" in warning for warning in planned.warnings)

    def test_that_only_embed_have_one_slot_and_their_trained_context(self, plan):
        wanted = [{"name": "mxbai-embed-large", "requests": 3, "context_length": 8192}]
        planned = plan([24], ["mxbai-embed-large"], wanted=wanted)
        assert any("is an embedding model: Ollama gives it one slot, 3" in one for one in planned.warnings)
        assert any("was trained for 512 tokens" in warning for warning in planned.warnings)


class TestClientsThatAskForMoreContext:
    """Seen while a model is loaded so; `loaded` is what Ollama says of it."""

    def warnings(self, plan, loaded, running=None):
        service = Service(running={"OLLAMA_CONTEXT_LENGTH": str(running)}) if running else None
        planned = plan([24], ["phi4:14b"], context_length=4096, service=service, loaded=loaded)
        assert planned.environment == plan([24], ["phi4:14b"], context_length=4096).environment
        return [warning for warning in planned.warnings if "a client asks for them" in warning]

    def test_are_named_with_what_they_ask_for(self, plan):
        (warning,) = self.warnings(plan, {"phi4:14b": 16384}, running=4096)
        assert warning.startswith("phi4:14b is loaded with 16384 tokens of context, above the planned 4096")

    def test_are_none_where_the_service_itself_gives_so_much(self, plan):
        assert not self.warnings(plan, {"phi4:14b": 16384}, running=16384)
        assert not self.warnings(plan, {"phi4:14b": 16384})

    def test_are_none_where_other_models_are_loaded_or_less_is_asked_for(self, plan):
        assert not self.warnings(plan, {"gemma3:4b": 65536, "phi4:14b": 2048}, running=4096)


class TestKeepAlive:
    """How long an idle model stays loaded, which only wanted models suffer from."""

    @pytest.mark.parametrize(
        ("keep_alive", "sentence"),
        [
            ({}, "idle models are unloaded after 300 s"),
            ({"OLLAMA_KEEP_ALIVE": "30m"}, "idle models are unloaded after 1800 s"),
            ({"OLLAMA_KEEP_ALIVE": "0"}, "idle models are unloaded after 0 s"),
        ],
    )
    def test_that_unloads_wanted_models_is_warned_of(self, plan, keep_alive, sentence):
        given = {"operator_environment": keep_alive}
        assert any(
            sentence in warning for warning in plan([24], ["phi4:14b"], ["phi4:14b"], **given).warnings
        )
        assert not any("idle" in warning for warning in plan([24], ["phi4:14b"], **given).warnings)

    @pytest.mark.parametrize("keep_alive", ["-1", "-1m"])
    def test_that_keeps_them_forever_is_not(self, plan, keep_alive):
        planned = plan(
            [24], ["phi4:14b"], ["phi4:14b"], operator_environment={"OLLAMA_KEEP_ALIVE": keep_alive}
        )
        assert not any("idle" in warning for warning in planned.warnings)
        assert planned.environment["OLLAMA_KEEP_ALIVE"] == keep_alive

    def test_that_another_file_sets_counts_too(self, plan):
        foreign = {"OLLAMA_KEEP_ALIVE": "1h"}
        planned = plan([24], ["phi4:14b"], ["phi4:14b"], service=Service(running=foreign, foreign=foreign))
        assert any("unloaded after 3600 s" in warning for warning in planned.warnings)


class TestSystemMemory:
    def test_that_is_too_small_beside_the_gpus_is_warned_of(self, plan, described):
        planned = plan(described(80, system_gib=1), ["gemma3:27b"])
        assert planned.safe
        assert any("of system memory besides the GPUs" in warning for warning in planned.warnings)
        assert not any("of system memory" in warning for warning in plan([80], ["gemma3:27b"]).warnings)


class TestVersions:
    def test_older_than_the_oldest_known_are_refused(self, plan):
        with pytest.raises(ValueError, match=r"Ollama 0\.9\.6 .* the oldest known is 0\.10\.0"):
            plan([24], ["gemma3:4b"], version="0.9.6")

    @pytest.mark.parametrize("version", ["0.0.0", "0.0.0-dirty"])
    def test_that_a_build_of_ones_own_tells_are_asked_for(self, plan, version):
        with pytest.raises(ValueError, match=r"build of one's own .* set ollama_plan_version to that"):
            plan([24], ["gemma3:4b"], version=version)

    def test_newer_than_the_newest_known_are_planned_with_a_warning(self, plan):
        assert any(
            "is newer than" in warning for warning in plan([24], ["gemma3:4b"], version="0.99").warnings
        )

    def test_unknown_are_planned_as_the_newest_with_a_warning(self, plan):
        planned = plan([24], ["gemma3:4b"], version=None)
        assert planned.warnings[0].startswith("the version of Ollama is not known")
        assert planned.version == "0.33.0"

    @pytest.mark.parametrize("version", ["0.11.4", "0.12.0", "0.20.0"])
    def test_before_llama_server_have_rules_of_their_own(self, plan, version):
        planned = plan([24], ["gemma3:4b", "llama3.1:8b"], version=version)
        assert planned.safe
        assert planned.version == version


class TestTheNextStepUp:
    def test_costs_what_it_takes_more(self, plan):
        now, more = (plan([24], ["llama3.1:8b"], num_parallel=slots, context_length=4096) for slots in (2, 3))
        cost = {limit.step: limit for limit in now.limits}["parallel"].cost_bytes
        assert cost == more.gpus[0].planned_bytes - now.gpus[0].planned_bytes > 0

    def test_costs_more_than_there_is_where_it_is_not_possible(self, plan):
        planned = plan([12], ["phi4:14b"])
        for limit in planned.limits[:2]:
            assert not limit.possible
            assert limit.cost_bytes + planned.gpus[0].planned_bytes + 1024 * MIB > 12 * GIB

    def test_names_the_smallest_other_model(self, plan):
        models = ["gemma3:4b", "llama3.1:8b", "llama3.2:1b"]
        planned = plan([80], models, wanted=["gemma3:4b"], context_length=4096)
        models = planned.limits[2]
        assert (models.step, models.value, models.possible) == ("models", 2, True)
        assert models.reason == "llama3.2:1b would fit beside them but is not wanted"

    def test_is_nothing_for_models_with_a_single_slot(self, plan):
        parallel = plan([24], ["mxbai-embed-large"]).limits[0]
        assert parallel.cost_bytes == 0
        assert parallel.reason == "Ollama gives these models a single slot"


NUMBERS = {
    "architecture": "llama",
    "block_count": 16,
    "embedding_length": 2048,
    "feed_forward_length": 8192,
    "head_count": 32,
    "head_count_kv": 8,
    "context_length": 131072,
    "vocabulary_size": 128256,
}


@pytest.mark.parametrize(
    ("wanted", "environment", "basis"),
    [
        (["gemma3:4b"], {}, "exact"),
        # By numbers weights are near the truth; what is not planned for does not matter.
        ([], {}, "estimate"),
        (["guessed"], {}, "estimate"),
        # No plan knows what this changes of the graph.
        (["gemma3:4b"], {"GGML_CUDA_DISABLE_FUSION": "1"}, "estimate"),
    ],
)
def test_a_plan_is_exact_where_every_figure_is(installed, described, wanted, environment, basis):
    planned = plan_host(
        gpu=described(24),
        models=[{"name": "guessed", "numbers": NUMBERS}, installed("gemma3:4b").to_dict()],
        wanted=wanted_from_list(wanted),
        policy=policy_from_dict({"operator_environment": environment}),
        version="0.33.0",
    )
    assert planned.basis == basis


class TestThePlansForm:
    def test_is_plain_data(self, plan):
        planned = plan([24, 24], ["gemma3:4b", "qwen2.5:32b"], wanted=["gemma3:4b", "qwen2.5:32b"])
        assert json.loads(json.dumps(planned.to_dict())) == planned.to_dict()

    def test_adds_up_on_every_gpu(self, plan):
        planned = plan([24, 24], ["gemma3:4b", "qwen2.5:32b"], wanted=["gemma3:4b", "qwen2.5:32b"])
        for gpu in planned.to_dict()["gpus"]:
            shares = [one for model in planned.to_dict()["models"] for one in model["gpus"]]
            on_it = sum(share["total_bytes"] for share in shares if share["index"] == gpu["index"])
            assert on_it == gpu["planned_bytes"]
            assert gpu["others_bytes"] + gpu["planned_bytes"] + gpu["free_bytes"] == gpu["total_bytes"]


@pytest.mark.parametrize("compute_capability", ["5.2", "6.1", "7.0", "8.6"])
def test_the_models_of_a_plan_add_up_to_its_gpus_with_and_without_flash_attention(
    plan, described, compute_capability
):
    gpu = described(16, 16)
    for device in gpu["devices"]:
        device["compute_capability"] = compute_capability
    names = ["llama3.1:8b", "gemma3:4b"]
    made = plan(gpu, names, wanted=names, num_parallel=4, context_length=8192)
    assert made.safe
    for one in made.gpus:
        shares = [
            share.total_bytes for model in made.models for share in model.gpus if share.index == one.index
        ]
        assert sum(shares) == one.planned_bytes > 0
