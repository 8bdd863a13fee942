# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ollama would ignore or misread is a sentence; what it takes as meant passes."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._settings import (
    KNOWN,
    NEVER_EXISTED,
    as_printed,
    problems,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OLLAMA_NUM_PARALLEL", "3"),
        ("OLLAMA_NUM_PARALLEL", ' "3" '),
        ("OLLAMA_NUM_PARALLEL", ""),
        ("OLLAMA_MAX_LOADED_MODELS", "0"),
        ("OLLAMA_CONTEXT_LENGTH", "262144"),
        ("OLLAMA_GPU_OVERHEAD", "1073741824"),
        ("OLLAMA_GPU_OVERHEAD", "1048576"),
        ("OLLAMA_GPU_OVERHEAD", "0"),
        ("OLLAMA_KEEP_ALIVE", "-1"),
        ("OLLAMA_KEEP_ALIVE", "1.5h"),
        ("OLLAMA_LOAD_TIMEOUT", "600"),
        ("OLLAMA_FLASH_ATTENTION", "true"),
        ("OLLAMA_DEBUG", "2"),
        ("OLLAMA_DEBUG", "false"),
        ("OLLAMA_KV_CACHE_TYPE", "q8_0"),
        ("OLLAMA_HOST", "0.0.0.0"),
        ("OLLAMA_HOST", "https://[::]:8443/path"),
        ("OLLAMA_IGPU_ENABLE", "1"),
        ("LLAMA_ARG_FIT_TARGET", "512"),
        ("LLAMA_ARG_FIT_TARGET", "512,1024/2048"),
        ("LLAMA_ARG_FIT", "off"),
        ("CUDA_VISIBLE_DEVICES", "GPU-1,0"),
        ("HTTPS_PROXY", "anything"),
        ("SOMETHING_ELSE", "is nobody's business here"),
    ],
)
def test_what_ollama_takes_as_meant_passes(name, value):
    assert problems({name: value}) == []


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("OLLAMA_GPU_OVERHEAD", "512", "is 512 bytes, next to nothing: write the size in bytes"),
        ("OLLAMA_GPU_OVERHEAD", "1048575", "is 1048575 bytes"),
        ("OLLAMA_GPU_OVERHEAD", "8G", "does not parse, and Ollama would take its default: write bytes"),
        ("OLLAMA_NUM_PARALLEL", "-1", "does not parse"),
        ("OLLAMA_NUM_PARALLEL", "3.0", "does not parse"),
        ("OLLAMA_NUM_PARALLEL", "0", "too small: the least value that makes sense is 1"),
        ("OLLAMA_NUM_PARALLEL", "1000000", "too large: the engine takes at most 256"),
        ("OLLAMA_CONTEXT_LENGTH", "99999999999", "too large"),
        ("OLLAMA_MAX_QUEUE", "0", "too small"),
        ("OLLAMA_FLASH_ATTENTION", "yes", "is no boolean, and Ollama would take it for true"),
        ("OLLAMA_IGPU_ENABLE", "on", "is no boolean"),
        ("OLLAMA_DEBUG", "verbose", "is no log level"),
        ("OLLAMA_KEEP_ALIVE", "1d", "is no duration, and Ollama would take its default"),
        ("OLLAMA_LOAD_TIMEOUT", "ten", "is no duration"),
        ("OLLAMA_KV_CACHE_TYPE", "q8", "is no type of KV cache: choose one of f32, f16"),
        ("OLLAMA_HOST", "0.0.0.0:port", "has no valid port"),
        ("OLLAMA_HOST", ":70000", "has no valid port"),
        ("LLAMA_ARG_FIT_TARGET", "1G", "is no list of whole MiB"),
        ("LLAMA_ARG_FIT_TARGET", "512,,1", "is no list of whole MiB"),
        ("LLAMA_ARG_FIT", "maybe", "is neither on nor off"),
    ],
)
def test_what_ollama_would_misread_is_refused(name, value, sentence):
    (problem,) = problems({name: value})
    assert problem.startswith(f"{name}={value} ")
    assert sentence in problem


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("OLLAMA_NUM_PARALEL", "did you mean OLLAMA_NUM_PARALLEL?"),
        ("OLLAMA_PARALLEL", "did you mean OLLAMA_NUM_PARALLEL?"),
        ("ollama_host", "did you mean OLLAMA_HOST?"),
        ("OLLAMA_MAX_MODELS", "did you mean OLLAMA_MODELS?"),
        ("OLLAMA_CONTEXT_SIZE", "did you mean OLLAMA_CONTEXT_LENGTH?"),
        ("OLLAMA_MULTI_USER_CACHE", "ignore it: 'ollama serve --help' lists them"),
        ("OLLAMA_MMAP", "ignore it: 'ollama serve --help' lists them"),
        ("OLLAMA_GPU", "ignore it: 'ollama serve --help' lists them"),
        ("OLLAMA_ZZZZZZZZZZZZZZZZZZZZ", "lists them"),
        *((name, hint) for name, hint in NEVER_EXISTED.items()),
    ],
)
def test_names_that_ollama_does_not_know_are_refused_with_a_hint(name, hint):
    (problem,) = problems({name: "1"})
    assert problem.startswith(f"{name} is no setting of Ollama, which would ignore it: ")
    assert hint in problem


def test_names_may_be_let_through():
    assert problems({"OLLAMA_BRAND_NEW": "1"}, also_known=["OLLAMA_BRAND_NEW"]) == []


@pytest.mark.parametrize(
    ("name", "value", "version", "sentence"),
    [
        (
            "LLAMA_ARG_FIT_TARGET",
            "512",
            "0.24.0",
            "Ollama 0.24.0 does not read it yet, 0.30.0 is the first that does",
        ),
        ("LLAMA_ARG_FIT_TARGET", "512", "0.30.0-rc1", None),
        ("OLLAMA_NEW_ENGINE", "1", "0.33.0", "Ollama 0.33.0 does not read it any more"),
        ("OLLAMA_NEW_ENGINE", "1", "0.12.0", None),
        ("OLLAMA_KV_CACHE_TYPE", "q5_1", "0.24.0", "choose one of f16, q8_0, q4_0"),
        ("OLLAMA_KV_CACHE_TYPE", "q5_1", "0.33.0", None),
    ],
)
def test_settings_go_with_the_version(name, value, version, sentence):
    found = problems({name: value}, version)
    assert (sentence is None and found == []) or sentence in found[0]


def test_all_problems_are_told_at_once_sorted_by_name():
    found = problems({"OLLAMA_NUM_PARALLEL": "x", "OLLAMA_DEBUG": "x", "OLLAMA_HOST": "1.2.3.4"})
    assert [problem.split("=")[0] for problem in found] == ["OLLAMA_DEBUG", "OLLAMA_NUM_PARALLEL"]


def test_a_version_that_is_none_is_an_error():
    with pytest.raises(ValueError, match="is not a version of Ollama"):
        problems({}, "latest")


@given(st.sampled_from(sorted(KNOWN)), st.text(max_size=12))
def test_any_value_is_a_sentence_or_nothing(name, value):
    for problem in problems({name: value}):
        assert problem.startswith(name)


@pytest.mark.parametrize(
    ("name", "value", "printed"),
    [
        ("OLLAMA_NUM_PARALLEL", "03", "3"),
        ("OLLAMA_NUM_PARALLEL", "x", None),
        ("OLLAMA_NUM_PARALLEL", "", None),
        ("OLLAMA_FLASH_ATTENTION", "1", "true"),
        ("OLLAMA_FLASH_ATTENTION", "F", "false"),
        ("OLLAMA_FLASH_ATTENTION", "yes", "true"),
        ("OLLAMA_KEEP_ALIVE", "24h", "24h0m0s"),
        ("OLLAMA_KEEP_ALIVE", "60", "1m0s"),
        ("OLLAMA_KEEP_ALIVE", "9300000000", "2562047h47m16.854775807s"),
        ("OLLAMA_KEEP_ALIVE", "99999999999", "2157299h53m50.45224192s"),
        ("OLLAMA_KEEP_ALIVE", "-1", "2562047h47m16.854775807s"),
        ("OLLAMA_KEEP_ALIVE", "0", "0s"),
        ("OLLAMA_KEEP_ALIVE", "x", None),
        ("OLLAMA_LOAD_TIMEOUT", "0", "2562047h47m16.854775807s"),
        ("OLLAMA_HOST", "0.0.0.0", "http://0.0.0.0:11434"),
        ("OLLAMA_HOST", "gpu:port", "http://gpu:11434"),
        ("OLLAMA_HOST", "[fe80::1%eth0]:80", "http://[fe80::1%25eth0]:80"),
        ("OLLAMA_KV_CACHE_TYPE", "q8_0", "q8_0"),
        ("OLLAMA_IGPU_ENABLE", "1", "1"),
        ("OLLAMA_DEBUG", "1", None),
        ("OLLAMA_ORIGINS", "*", None),
        ("UNKNOWN", "1", None),
    ],
)
def test_values_as_the_server_config_line_shows_them(name, value, printed):
    assert as_printed(name, value) == printed
