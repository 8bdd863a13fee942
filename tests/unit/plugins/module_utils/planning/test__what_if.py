# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host of named cards could take: held against the planner, which is asked for each step by itself."""

from __future__ import annotations

import json

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._cards import CARDS, card_of, cards_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning import _what_if
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._goal import Goal
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import Policy, WantedModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._what_if import (
    COUNTS,
    MOST_MODELS,
    contexts_of,
    parallels_of,
    what_if,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import header
from ansible_collections.gpufleet.ollama.tests.unit.plugins.module_utils.planning.simulated import model


def described(*names):
    return [{"name": name, "header": header(name)} for name in names]


def asked(gpu, *names, requests=8, **options):
    return what_if(cards=cards_of(gpu), models=described(*names), requests=requests, **options)


def planned(cards, names, parallel, context_length):
    """The plan for these very values, None where it is not safe."""
    devices = [card.as_device() for card in cards]
    system = 2 * sum(device["memory_total_bytes"] for device in devices)
    try:
        return plan_host(
            gpu={"system_memory_total_bytes": system, "devices": devices},
            models=described(*names),
            wanted=[WantedModel(name) for name in names],
            policy=Policy(
                requests=parallel,
                min_parallel=parallel,
                max_parallel=max(parallel, 1),
                context_length=context_length,
            ),
            version="0.33.0",
        )
    except ValueError:
        return None


def in_any_order(cards, names, parallel, context_length):
    plan = planned(cards, names, parallel, context_length)
    return plan is not None and not plan.order_matters


class TestLadder:
    @pytest.mark.parametrize(
        ("gpu", "names"),
        [
            ("2x RTX 3090", ["qwen2.5:14b", "gemma3:4b"]),
            ("T4", ["llama3.1:8b"]),
            ("RTX 3060", ["llama3.2:3b", "nomic-embed-text"]),
            ("RTX 3090", ["nomic-embed-text", "qwen2.5:14b"]),
        ],
    )
    def test_each_step_fits_where_a_plan_for_its_values_is_safe_and_takes_as_much(self, gpu, names):
        found = asked(gpu, *names, requests=4)
        assert {cell.parallel for cell in found.ladder} == {1, 2, 4, 8}
        for cell in found.ladder:
            plan = planned(cards_of(gpu), names, cell.parallel, cell.context_length)
            assert (cell.how == "fits") is (plan is not None), cell
            if plan:
                assert cell.gpu_bytes == sum(card.planned_bytes for card in plan.gpus)
                assert cell.one_order is plan.order_matters

    @pytest.mark.parametrize(
        ("gpu", "names", "step", "how"),
        [
            ("RTX 3060", ["llama3.1:8b"], (4096, 1), "fits"),
            ("RTX 3060", ["qwen2.5:32b"], (4096, 1), "spills"),
            ("RTX 4090", ["qwen2.5:14b", "gemma3:27b"], (4096, 1), "evicts"),
            ("2x RTX 3090", ["qwen2.5:14b", "gemma3:4b"], (65536, 4), "tight"),
            # Experts that lie in system memory spill too, though every layer has its part on the GPU.
            ("MI300X", ["deepseek-v3.1:671b", "qwen2.5:32b"], (4096, 1), "spills"),
        ],
    )
    def test_why_a_step_does_not_fit(self, gpu, names, step, how):
        cells = {(cell.context_length, cell.parallel): cell for cell in asked(gpu, *names, requests=4).ladder}
        assert cells[step].how == how
        assert (cells[step].gpu_bytes > 0) is (how == "fits")

    def test_it_goes_up_to_what_a_model_makes_use_of_and_begins_with_what_is_asked(self):
        lengths = sorted({cell.context_length for cell in asked("RTX 3090", "qwen2.5:7b").ladder})
        assert lengths == [4096, 8192, 16384, 32768]
        own = sorted(
            {cell.context_length for cell in asked("RTX 3090", "qwen2.5:7b", context_length=3000).ladder}
        )
        assert own == [3000, 4096, 8192, 16384, 32768]

    @pytest.mark.parametrize(
        ("requests", "parallels"),
        [
            (1, (1, 2)),
            (2, (1, 2, 4)),
            (4, (1, 2, 4, 8)),
            (8, (1, 2, 4, 8, 16)),
            (40, (1, 10, 20, 40, 80)),
            (256, (1, 64, 128, 256)),
        ],
    )
    def test_requests_at_once_that_are_shown(self, requests, parallels):
        assert parallels_of(requests) == parallels


class TestPlan:
    def test_it_is_the_planners_own(self):
        found = asked("2x RTX 3090", "qwen2.5:14b", "gemma3:4b")
        assert found.plan["environment"]["OLLAMA_NUM_PARALLEL"] == "8"
        assert found.beyond.startswith(f"8 x {found.plan['context_length'] * 2} tokens do not fit: ")
        assert "1 request at once for each model" in found.alone[0]

    def test_a_longer_context_that_one_order_of_loading_allows_is_not_told_as_one_that_fits(self):
        names = ["nomic-embed-text", "qwen2.5:14b"]
        found = asked("RTX 3090", *names, requests=4)
        longer = found.plan["context_length"] * 2
        assert found.beyond == (
            f"4 x {longer} tokens are safe only when loaded as qwen2.5:14b, nomic-embed-text:latest; "
            f"context_length={longer} asks for that"
        )
        asked_for = asked("RTX 3090", *names, requests=4, context_length=longer)
        assert (asked_for.plan["context_length"], asked_for.plan["order_matters"]) == (longer, True)
        assert "do not fit: " in asked_for.beyond

    def test_where_nothing_fits_it_says_why_and_which_card_would_do(self):
        found = asked("RTX 3060", "qwen2.5:32b", "gpt-oss:20b")
        assert found.plan is None
        assert found.misfit.startswith(
            "the wanted models qwen2.5:32b, gpt-oss:20b cannot be loaded together: "
        )
        assert found.smallest

    def test_it_is_plain_data(self):
        told = asked("L4", "gemma3:1b").to_dict()
        assert json.loads(json.dumps(told)) == told
        assert told["plan"]["num_parallel"] == 8
        assert asked("RTX 3060", "qwen2.5:32b", requests=1).to_dict()["plan"] == {}

    def test_a_shorter_cache_takes_less(self):
        plain, small = (asked("L4", "qwen2.5:14b", kv_cache_types=(kind,)).ladder for kind in ("f16", "q8_0"))
        both = [
            (one.gpu_bytes, other.gpu_bytes)
            for one, other in zip(plain, small)
            if one.gpu_bytes and other.gpu_bytes
        ]
        assert both
        assert all(other < one for one, other in both)

    def test_an_older_version_has_its_own_rules(self):
        assert asked("L4", "gemma3:4b", version="0.12.0").plan["version"] == "0.12.0"

    def test_so_many_models_are_refused(self):
        with pytest.raises(ValueError, match=f"{MOST_MODELS + 1} models are named, at most {MOST_MODELS}"):
            what_if(cards=CARDS[:1], models=described("gemma3:1b") * (MOST_MODELS + 1), requests=1)
        # So many are looked at.
        with pytest.raises(ValueError, match="model 'm0' cannot be planned"):
            what_if(cards=CARDS[:1], models=[{"name": f"m{number}"} for number in range(MOST_MODELS)], requests=1)


def test_the_host_has_twice_the_memory_of_its_cards():
    facts = _what_if._facts(cards_of("2x RTX 3090"))
    assert facts["system_memory_total_bytes"] == 2 * 2 * card_of("RTX 3090").total_mib * 1024 * 1024
    assert len(facts["devices"]) == 2


class TestSmallest:
    def test_each_would_do_and_no_smaller_one_of_as_many(self):
        names = ["qwen2.5:14b", "gemma3:4b"]
        found = asked("L4", *names, requests=4, context_length=8192)
        assert [one.count for one in found.smallest] == [
            count for count in COUNTS if count in {one.count for one in found.smallest}
        ]
        for one in found.smallest:
            card = card_of(one.card)
            assert in_any_order([card] * one.count, names, 4, 8192)
            smaller = sorted(
                {other.usable_bytes for other in CARDS if other.usable_bytes < one.usable_bytes}
            )[-3:]
            for other in (other for other in CARDS if other.usable_bytes in smaller):
                assert not in_any_order([other] * one.count, names, 4, 8192), other.name

    def test_a_card_that_would_do_in_one_order_of_loading_only_is_not_told(self):
        names = ["nomic-embed-text", "qwen2.5:14b"]
        assert planned([card_of("T4")], names, 4, 4096).order_matters
        assert asked("L4", *names, requests=4).smallest[0].usable_bytes > card_of("T4").usable_bytes

    def test_several_cards_are_told_only_where_they_may_be_smaller(self):
        sizes = [one.usable_bytes for one in asked("L4", "qwen2.5:32b").smallest]
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) == len(sizes)

    def test_of_the_smallest_card_that_would_do_alone_no_more_are_told(self):
        smallest = min(CARDS, key=lambda card: card.usable_bytes)
        assert [(one.count, one.usable_bytes) for one in asked("L4", "qwen3:0.6b", requests=1).smallest] == [
            (1, smallest.usable_bytes)
        ]


@pytest.mark.parametrize(
    ("trained", "asked_for", "lengths"),
    [
        ((8192,), 4096, [4096, 8192]),
        ((8192, 16384), 4096, [4096, 8192, 16384]),
        # What is asked for is shown, whatever the models make use of, and what they use where it is no power of two.
        ((8192,), 20000, [4096, 8192, 16384, 20000]),
        ((8192,), 5000, [4096, 5000, 8192]),
        ((10000,), 4096, [4096, 8192, 10000]),
        ((2048,), 4096, [4096]),
        ((), 6000, [4096, 6000]),
        # Up to 262144 tokens, of models that do not say more too, but for what is asked for.
        ((1 << 20,), 131072, [4096, 8192, 16384, 32768, 65536, 131072, 262144]),
        ((0,), 131072, [4096, 8192, 16384, 32768, 65536, 131072, 262144]),
        ((1 << 20,), 300000, [4096, 8192, 16384, 32768, 65536, 131072, 262144, 300000]),
    ],
)
def test_contexts_that_are_shown(trained, asked_for, lengths):
    models = tuple(model(str(number), context_length_trained=tokens) for number, tokens in enumerate(trained))
    goal = Goal(models, True, (1,), (4096,), ("f16",), (False,))
    assert contexts_of(goal, asked_for) == tuple(lengths)


def test_what_the_engine_refuses_fails():
    cells = asked("RTX 3090", "phi4:14b", requests=2, kv_cache_types=("q8_0",)).ladder
    assert "fails" in {cell.how for cell in cells if cell.parallel == 4}
