# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prompts: the same in every run, each with a beginning of its own."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._prompts import prompt
from hypothesis import given
from hypothesis import strategies as st

places = st.lists(st.integers(0, 99), min_size=1, max_size=4).map(tuple)


@given(st.integers(2, 300), st.integers(0, 9), places)
def test_a_prompt_has_as_many_words_as_asked_and_is_the_same_again(words, seed, place):
    assert len(prompt(words, seed, *place).split()) == words
    assert prompt(words, seed, *place) == prompt(words, seed, *place)


@given(places, places)
def test_two_requests_share_no_first_word(one, other):
    first = prompt(8, 1, *one).split()[0], prompt(8, 1, *other).split()[0]
    assert (first[0] == first[1]) == (one == other)
