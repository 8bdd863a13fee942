# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of models in the short form that `ollama list` prints."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import (
    is_name,
    name_key,
    name_parts,
    pin_of,
    same_model,
    short_name,
    unlike,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("gemma3", ("registry.ollama.ai", "library", "gemma3", "latest")),
        ("localhost:5000/team/model:v1", ("localhost:5000", "team", "model", "v1")),
        ("localhost:5000/team/model", ("localhost:5000", "team", "model", "latest")),
        ("http://[::1]:5000/team/model", ("[::1]:5000", "team", "model", "latest")),
    ],
)
def test_name_parts(name, parts):
    assert name_parts(name) == parts


@pytest.mark.parametrize(
    ("digest", "pin"),
    [
        ("a2af6cc3eb7f", "a2af6cc3eb7f"),
        (" SHA256:A2AF6CC3EB7F ", "a2af6cc3eb7f"),
        ("a" * 64, "a" * 64),
        *((none, "") for none in ("", "a" * 11, "a" * 65, "x" * 12, "sha512:" + "a" * 64, "sha256-" + "a" * 64)),
    ],
)
def test_pin_of(digest, pin):
    assert pin_of(digest) == pin


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("gemma3:4b", "gemma3:4b"),
        ("gemma3", "gemma3:latest"),
        ("library/gemma3:4b", "gemma3:4b"),
        ("registry.ollama.ai/library/gemma3:4b", "gemma3:4b"),
        ("https://registry.ollama.ai/library/gemma3:4b", "gemma3:4b"),
        ("Library/Gemma3:4B", "Gemma3:4B"),
        (" gemma3:4b ", "gemma3:4b"),
        ("ollama.com/library/gemma3:4b", "ollama.com/library/gemma3:4b"),
        ("REGISTRY.OLLAMA.AI/library/gemma3", "gemma3:latest"),
        ("registry.ollama.ai/somebody/model:tag", "somebody/model:tag"),
        ("hf.co/somebody/Model-GGUF:Q4_K_M", "hf.co/somebody/Model-GGUF:Q4_K_M"),
        ("hf.co/library/model", "hf.co/library/model:latest"),
        ("localhost:5000/library/model", "localhost:5000/library/model:latest"),
        ("localhost:5000/library/model:tag", "localhost:5000/library/model:tag"),
    ],
)
def test_short_name(name, short):
    assert short_name(name) == short


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("gemma3", "gemma3:latest", True),
        ("Gemma3:4B", "gemma3:4b", True),
        ("registry.ollama.ai/library/gemma3:4b", "gemma3:4b", True),
        ("gemma3:4b", "gemma3:12b", False),
        ("Registry.Ollama.AI/Library/GEMMA3", "gemma3:latest", True),
        ("HF.co/Somebody/Model:Q4", "hf.co/somebody/model:q4", True),
        ("somebody/gemma3:4b", "gemma3:4b", False),
        ("hf.co/library/gemma3", "gemma3", False),
    ],
)
def test_same_model(first, second, same):
    assert same_model(first, second) is same


def test_of_names_of_one_model_the_first_stays():
    assert unlike(["b", "Gemma3:4B", "library/gemma3:4b", "b:latest", "a"]) == ["b", "Gemma3:4B", "a"]


PART = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9_-]{0,5}", fullmatch=True)


@given(st.lists(PART, min_size=1, max_size=3), st.none() | PART)
def test_the_short_name_is_a_name_of_the_same_model(parts, tag):
    name = "/".join(parts) + (f":{tag}" if tag else "")
    assert short_name(short_name(name)) == short_name(name)
    assert name_key(name.upper()) == name_key(name)


# Source of the rows: Ollama types/model/name_test.go; a copy by hand in a file manager is called '3b (1)'.
@pytest.mark.parametrize(
    ("parts", "taken"),
    [
        (("registry.ollama.ai", "library", "llama3.2", "3b"), True),
        (("localhost:5000", "team", "chat", "latest"), True),
        (("registry.ollama.ai", "_", "mymodel", "latest"), True),
        (("hf.co", "unsloth", "Llama-3.2-3B-Instruct-GGUF", "Q4_K_M"), True),
        (("registry.ollama.ai", "library", "llama3.2", "3b.bak"), True),
        (("registry.ollama.ai", "library", "llama3.2", "3b (1)"), False),
        (("registry.ollama.ai", "library", "llama3.2", "latest~"), False),
        (("registry.ollama.ai", "library", ".hidden", "latest"), False),
        (("registry.ollama.ai", "my.space", "model", "latest"), False),
        (("registry.ollama.ai", "library", "m" * 80, "latest"), True),
        (("registry.ollama.ai", "library", "m" * 81, "latest"), False),
        (("h" * 350, "library", "model", "latest"), True),
        (("h" * 351, "library", "model", "latest"), False),
        (("registry.ollama.ai", "library", "model", ""), False),
        (("registry.ollama.ai", "library", "model", "v1\n"), False),
    ],
)
def test_names_that_ollama_takes(parts: tuple[str, str, str, str], taken: bool) -> None:
    assert is_name(*parts) is taken
