# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what is to come fits, and which models would have to go: files that others share give nothing back."""

from __future__ import annotations

import time

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._manifest import Layer
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._room import (
    freed_bytes,
    no_room,
    would_have_to_go,
)
from hypothesis import given
from hypothesis import strategies as st

GIB = 1 << 30


def models(**sizes):
    """`a={"x": 3}`: model a has a file x of 3 GiB."""
    return {
        f"{name}:latest": [Layer("model", digest, size * GIB) for digest, size in files.items()]
        for name, files in sizes.items()
    }


STORE = models(small={"s": 2}, middle={"m": 5}, large={"l": 9}, twin={"l": 9}, wanted={"w": 20})


@pytest.mark.parametrize(
    ("names", "kept", "gib"),
    [
        (["small:latest"], (), 2),
        (["large:latest"], (), 0),
        (["large:latest", "twin:latest"], (), 9),
        (["large:latest", "twin:latest"], {"l"}, 0),
        (["nope:latest"], (), 0),
        ([], (), 0),
    ],
)
def test_what_a_removal_gives_back(names, kept, gib):
    assert freed_bytes(names, STORE, kept) == gib * GIB


@pytest.mark.parametrize(
    ("lack_gib", "stay", "names"),
    [
        (1, ["wanted"], ["small:latest"]),
        (3, ["wanted"], ["middle:latest"]),
        (6, ["wanted"], ["middle:latest", "small:latest"]),
        (9, ["wanted", "MIDDLE:latest"], ["small:latest", "twin:latest", "large:latest"]),
        (17, ["wanted"], []),
        (17, [], ["wanted:latest"]),
    ],
)
def test_the_fewest_and_smallest_would_have_to_go(lack_gib, stay, names):
    assert would_have_to_go(lack_gib * GIB, STORE, stay) == names


@given(st.lists(st.integers(1, 50), max_size=8), st.integers(1, 200))
def test_what_would_have_to_go_makes_room(sizes, lack):
    store = {f"{number}:latest": [Layer("model", str(number), size)] for number, size in enumerate(sizes)}
    going = would_have_to_go(lack, store, [])
    if going:
        assert freed_bytes(going, store) >= lack
        assert len(set(going)) == len(going)
    else:
        assert sum(sizes) < lack


STORES = st.dictionaries(
    st.sampled_from([f"{letter}:latest" for letter in "abcdef"]),
    st.dictionaries(st.sampled_from("uvwxyz"), st.just(1), max_size=4).map(
        lambda files: [Layer("model", digest, 1 + "uvwxyz".index(digest)) for digest in files]
    ),
)


@given(STORES, st.integers(1, 25), st.sets(st.sampled_from("uvwxyz"), max_size=2))
def test_what_shared_files_give_back_is_counted_when_the_last_of_their_models_goes(store, lack, kept):
    going = would_have_to_go(lack, store, [], kept)
    alone = {name for name in store if freed_bytes([name], store, kept) >= lack}
    if going:
        assert freed_bytes(going, store, kept) >= lack
        assert freed_bytes(going[:-1], store, kept) < lack
        assert len(going) == 1 or not alone
    else:
        assert freed_bytes(list(store), store, kept) < lack


def test_the_time_grows_with_the_files_and_not_with_their_square():
    def seconds(count):
        store = {f"{n}:latest": [Layer("model", f"{n}-{m}", 1) for m in range(10)] for n in range(count)}
        began = time.process_time()
        assert len(would_have_to_go(10 * count, store, [])) == count
        return time.process_time() - began

    seconds(200)
    assert seconds(3200) < 64 * max(seconds(200), 0.001)


@pytest.mark.parametrize(
    ("needed", "free", "keep", "sentence"),
    [
        (10, 10, 0, ""),
        (0, 0, 5, ""),
        (
            10,
            9,
            0,
            "the disk of /m has no room: 10.0 GiB are to come, 9.0 GiB are free, which is 1.0 GiB too little; of the models that "
            "are neither wanted nor loaded, small:latest would have to go (2.0 GiB; state: absent removes)",
        ),
        (
            10,
            10,
            1,
            "the disk of /m has no room: 10.0 GiB are to come and 1.0 GiB are to stay free, 10.0 GiB are free, which is 1.0 GiB "
            "too little; of the models that are neither wanted nor loaded, small:latest would have to go (2.0 GiB; state: absent "
            "removes)",
        ),
        (
            100,
            9,
            0,
            "the disk of /m has no room: 100.0 GiB are to come, 9.0 GiB are free, which is 91.0 GiB too little; removing every "
            "model that is neither wanted nor loaded would not make enough room: take a larger disk",
        ),
    ],
)
def test_no_room_is_one_sentence(needed, free, keep, sentence):
    assert no_room("/m", needed * GIB, free * GIB, keep * GIB, STORE, ["wanted"]) == sentence


def test_of_many_models_not_all_are_named():
    store = {f"m{number}:latest": [Layer("model", str(number), GIB)] for number in range(12)}
    assert ", m2:latest and 4 more would have to go" in no_room("/m", 12 * GIB, 0, 0, store, [])
