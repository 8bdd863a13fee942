# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command that goes with a host's state can be pasted into a shell as it stands."""

from __future__ import annotations

import shlex

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._next_command import MadeBy, next_command
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._states import STATES
from hypothesis import given
from hypothesis import strategies as st

MADE = MadeBy(inventory=("inventories/prod.yml",))
PLAY = "ansible-playbook -i inventories/prod.yml gpufleet.ollama."


def host(state, mended=True, name="gpu01"):
    return {"name": name, "state": state, "mended_by_site": mended}


@pytest.mark.parametrize(
    ("known", "purpose", "command"),
    [
        (host("drifted"), "apply the plan", f"{PLAY}site --limit gpu01"),
        (
            host("drifted", mended=False),
            "apply the plan, when what is said here is repaired",
            f"{PLAY}site --limit gpu01",
        ),
        (host("planned"), "apply the plan", f"{PLAY}site --limit gpu01"),
        (host("failed"), "see what is said of it now", f"{PLAY}plan --limit gpu01"),
        (host("unsafe"), "see why", f"{PLAY}plan --limit gpu01"),
        (host("unknown"), "look again as root", f"{PLAY}drift --limit gpu01 --become"),
        (host("in sync"), "compare it again", f"{PLAY}drift --limit gpu01"),
        (
            host("unreachable"),
            "see whether it answers",
            "ansible -i inventories/prod.yml gpu01 -m ansible.builtin.ping",
        ),
    ],
)
def test_each_state_has_its_command(known, purpose, command):
    told = next_command(known, MADE)
    assert (told.purpose, told.command) == (purpose, command)


def test_the_pattern_of_the_run_is_that_of_the_command():
    command = next_command(host("drifted"), MadeBy(pattern="gpu:&prod")).command
    assert command.endswith("""-e '{"gpufleet_hosts": "gpu:&prod"}'""")
    assert "-e" not in next_command(host("drifted"), MadeBy(pattern="ollama")).command


@given(st.sampled_from(STATES), st.text(min_size=1), st.lists(st.text(min_size=1), max_size=3))
def test_whatever_a_name_or_a_path_is_made_of_it_is_one_word_of_the_command(state, name, sources):
    words = shlex.split(next_command(host(state, name=name), MadeBy(inventory=tuple(sources))).command)
    assert name in words
    assert [words[at + 1] for at, word in enumerate(words[: 2 * len(sources) + 1]) if at % 2][
        : len(sources)
    ] == sources
