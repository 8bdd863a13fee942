# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that a router's file takes: readable, no two of them one, and none changed by another."""

from __future__ import annotations

import re

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement import _plain_names
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._plain_names import plain_names
from hypothesis import example, given
from hypothesis import strategies as st

STAND_INS = ({}, {"/": "--"}, {"/": "--", ":": "_"})
NAMES = st.sets(st.one_of(st.text(max_size=12), st.text("aA/_-:. ", max_size=6)), max_size=12)


@pytest.mark.parametrize(
    ("stand_ins", "name", "plain"),
    [
        ({}, "gpu1.example.org", "gpu1.example.org"),
        ({}, "gpu_1", "gpu_1"),
        ({}, "gpu 1", "gpu_1__19446927"),
        ({}, "gpu\u00e41", "gpu_1__acfc8e23"),
        # It could be the name of another.
        ({}, "gpu_1__19446927", "gpu_1__19446927__4781ca14"),
        ({}, "", "__e3b0c442"),
        ({"/": "--"}, "hf.co/a/b:Q4_K_M", "hf.co--a--b:Q4_K_M"),
        ({"/": "--"}, "a--b", "a--b__90827a2e"),
        ({"/": "--", ":": "_"}, "llama3.1:8b", "llama3.1_8b"),
        ({"/": "--", ":": "_"}, "a:q4_0", "a_q4_0__e1782955"),
    ],
)
def test_a_name_is_read_back_or_has_its_digest(stand_ins, name, plain) -> None:
    assert plain_names([name], stand_ins) == {name: plain}


@given(NAMES)
@example({"gpu 1", "gpu_1", "gpu\t1", "gpu/1", "GPU 1"})
def test_no_two_names_become_one_and_none_is_changed_by_another(names) -> None:
    for stand_ins in STAND_INS:
        found = plain_names(names, stand_ins)
        assert len({*found.values()}) == len(names)
        assert all(re.fullmatch("[A-Za-z0-9._:-]+", plain) for plain in found.values())
        assert found == {name: plain_names([name], stand_ins)[name] for name in names}


@given(NAMES)
def test_names_that_differ_in_more_than_case_differ_in_it_too(names) -> None:
    unlike = {name.lower(): name for name in names}.values()
    for stand_ins in STAND_INS:
        assert len({plain.lower() for plain in plain_names(unlike, stand_ins).values()}) == len(unlike)


def test_digests_that_begin_alike_are_told_whole_enough(monkeypatch) -> None:
    digests = {b"a b": "0" * 8 + "1" * 56, b"a\tb": "0" * 8 + "2" * 56}

    class Sha256:
        def __init__(self, text: bytes) -> None:
            self.text = text

        def hexdigest(self) -> str:
            return digests[self.text]

    monkeypatch.setattr(_plain_names.hashlib, "sha256", Sha256)
    assert plain_names(["a b", "a\tb"], {}) == {"a b": "a_b__0000000011111111", "a\tb": "a_b__0000000022222222"}
