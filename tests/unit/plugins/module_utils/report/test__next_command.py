# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command that goes with a host's state can be pasted into a shell as it stands."""

from __future__ import annotations

import shlex

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._next_command import (
    MadeBy,
    next_command,
    pattern_of,
)
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
    assert pattern_of(name) in words
    assert [words[at + 1] for at, word in enumerate(words[: 2 * len(sources) + 1]) if at % 2][
        : len(sources)
    ] == sources


NAMES = ["gpu01", "gpu-01.example.org", "*", "~.*", "!gpu01", "gpu*", "gpu01 gpu02", "@/etc/hosts", "-e@x", "a'b", "gp\u00fc"]


@pytest.mark.parametrize("name", [*NAMES, "gpu01,gpu02", "gpu01:gpu02", "fe80::1", "gpu[0:1]", "gpu01[0]", "a\nb", "&gpu01"])
@pytest.mark.parametrize("state", ["drifted", "unreachable"])
def test_a_command_is_for_its_host_alone_whatever_its_name(name, state):
    inventory = InventoryManager(DataLoader(), sources=None)
    for one in {*NAMES, name, "gpu02", "gpu"}:
        inventory._inventory.add_host(one, "all")
    words = shlex.split(next_command({"state": state, "name": name, "mended_by_site": True}, MadeBy()).command)
    pattern = words[words.index("--limit") + 1] if state == "drifted" else words[1]
    assert [host.name for host in inventory.list_hosts(pattern)] == [name]
    assert not pattern.startswith(("-", "@"))
