# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The what-if of one line: values of the command line, and what is refused."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.action.what_if import (
    ARGUMENT_SPEC,
    answered,
    check_names,
    values_with_spaces,
)

DEFAULTS = {name: option.get("default") for name, option in ARGUMENT_SPEC.items()}


def ask(**options):
    return answered({**DEFAULTS, **options})


class TestCommandLine:
    @pytest.mark.parametrize(
        ("arguments", "values"),
        [
            (["gpu=2x RTX 3090", "models=a,b", "requests=8"], {"gpu": "2x RTX 3090"}),
            (["gpu=2x RTX 3090 models=a, b requests=8"], {"gpu": "2x RTX 3090", "models": "a, b"}),
            (["gpu='2x RTX 3090'"], {}),
            (['gpu="2x RTX 3090" models=a'], {}),
            (['{"gpu": "a=2x b"}', "@file=with spaces", "[1, 2=3 4]"], {}),
            (["gpu=L4"], {}),
        ],
    )
    def test_words_that_ansible_would_drop_are_kept(self, arguments, values):
        assert values_with_spaces(arguments) == values

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("gpus", "gpu"),
            ("model", "models"),
            ("request", "requests"),
            ("context", "context_length"),
            ("ollama_plan_requests", "requests"),
            ("ollama_plan_min_context_length", "context_length"),
        ],
    )
    def test_a_slip_of_the_pen_is_refused(self, name, meant):
        with pytest.raises(
            ValueError, match=f"^{name}: what_if knows no such variable.*did you mean {meant}[?]$"
        ):
            check_names([name])

    def test_a_setting_that_it_does_not_take_is_refused_and_the_way_told(self):
        with pytest.raises(ValueError, match="it would be ignored; describe the host"):
            check_names(["ollama_plan_headroom_bytes"])

    def test_what_is_somebody_elses_is_left_alone(self):
        check_names(["gpu", "models", "requests", "ansible_python_interpreter", "colour"])


class TestAnswer:
    def test_text_and_lists_give_the_same(self):
        text = ask(gpu="L4", models="gemma3:4b", requests="2", context_length="8192", version="0.33.0")
        assert text == ask(gpu="L4", models=["gemma3:4b"], requests=2, context_length=8192, version="0.33.0")
        assert text["table"][0].startswith("NVIDIA L4 (22.0 GiB usable): gemma3:4b; 2 requests at once")
        assert text["plan"]["environment"]["OLLAMA_NUM_PARALLEL"] == "2"

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({}, "say which GPUs"),
            ({"gpu": "L4"}, "say which models"),
            ({"gpu": "L5", "models": "gemma3:4b"}, "no GPU is known as 'L5'"),
            ({"gpu": "L4", "models": "gemma9:4b"}, "no model is known as 'gemma9:4b'"),
            (
                {"gpu": "L4", "models": "gemma3:4b", "requests": "many"},
                "requests must be a whole number from 1 to 256, found 'many'",
            ),
            (
                {"gpu": "L4", "models": "gemma3:4b", "requests": 257},
                "requests must be a whole number from 1 to 256",
            ),
            ({"gpu": "L4", "models": "gemma3:4b", "requests": True}, "requests must be a whole number"),
            ({"gpu": "L4", "models": "gemma3:4b", "requests": "9" * 5000}, "requests must be a whole number"),
            (
                {"gpu": "L4", "models": "gemma3:4b", "context_length": "16k"},
                "context_length must be a whole number",
            ),
            (
                {"gpu": "L4", "models": "gemma3:4b", "kv_cache_types": ["q5"]},
                "kv_cache_types must be one of f16",
            ),
            ({"gpu": "L4", "models": "gemma3:4b", "version": "new"}, "new"),
        ],
    )
    def test_bad_input_is_one_sentence(self, options, told):
        with pytest.raises(ValueError, match=r"\S") as raised:
            ask(**options)
        assert told in str(raised.value)
        assert "\n" not in str(raised.value)
