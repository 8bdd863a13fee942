# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only what nobody has seen on the host is looked up, and a plan says what of it has yet to come."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._pulls import (
    Pulls,
    pulls_of,
    to_look_up,
)

GIB = 1 << 30
ID = "0123456789ab" + "0" * 52
READ = {
    "models": {
        "models": [{"name": "here:latest"}],
        "unplannable": [{"name": "odd:v1", "reason": "x"}],
        "ids": {"here:latest": ID},
    }
}


def asked(wanted, pull_models=(), read=None, **options):
    return to_look_up(
        {"pull": True, "gather": ["models"], "wanted": wanted, "pull_models": list(pull_models), **options},
        READ if read is None else read,
    )


@pytest.mark.parametrize(
    ("wanted", "pull_models", "looked_up"),
    [
        (["here"], [], []),
        (["HERE:latest", "odd:v1"], [], []),
        (["new:v1"], [], [{"name": "new:v1", "state": "present"}]),
        ([{"name": "new:v1", "requests": 2}], ["new:v1"], [{"name": "new:v1", "state": "present"}]),
        (
            ["new:v1"],
            [{"name": "NEW:v1", "digest": "ab" * 6, "insecure": True}, "other"],
            [{"name": "new:v1", "state": "present", "digest": "ab" * 6, "insecure": True}],
        ),
        (["new:v1"], [{"name": "new:v1", "state": "absent"}], [{"name": "new:v1", "state": "present"}]),
        (["new", "new:latest"], [], [{"name": "new:latest", "state": "present"}]),
        ([], ["new", "here", {"name": "gone", "state": "absent"}], [{"name": "new", "state": "present"}]),
        ([], [], []),
        ([3, {"requests": 2}], [3, {"digest": "x"}], []),
    ],
)
def test_what_lacks_is_looked_up(wanted, pull_models, looked_up):
    assert asked(wanted, pull_models) == looked_up


@pytest.mark.parametrize(
    ("source", "is_looked_up"),
    [
        ({"digest": ID}, False),
        ({"digest": ID[:12].upper()}, False),
        ({"digest": f"sha256:{ID}"}, False),
        ({"digest": "f" * 12}, True),
        # What is no digest is refused there.
        ({"digest": "v1"}, True),
        ({"digest": ""}, False),
        ({"digest": "f" * 64, "file": "/x.gguf"}, False),
    ],
)
def test_what_is_installed_as_another_than_is_pinned_is_looked_up(source, is_looked_up):
    pinned = {"name": "Here", **source}
    assert asked(["here"], [pinned]) == ([{**pinned, "name": "here", "state": "present"}] if is_looked_up else [])
    # A server that does not answer tells no IDs.
    assert asked(["here"], [pinned], {"models": {**READ["models"], "ids": {}}}) == []


def test_without_a_look_at_the_models_the_host_itself_tells_what_lacks():
    assert [one["name"] for one in asked(["here", "new"], read={})] == ["here", "new"]


@pytest.mark.parametrize("options", [{"pull": False}, {"gather": []}])
def test_nothing_is_looked_up_that_is_not_asked_for(options):
    assert asked(["new"], **options) == []


def model(name, action="pull", size=5 * GIB, note="", digest="d" * 64):
    return {"name": name, "action": action, "size_bytes": size, "note": note, "digest": digest}


def answer(*models, described=(), no_room=""):
    return {
        "models": list(models),
        "descriptions": [{"name": name} for name in described],
        "needed_bytes": 5 * GIB,
        "free_bytes": 80 * GIB,
        "models_path": "/m",
        "no_room": no_room,
    }


def test_what_is_to_come_is_pinned_to_what_was_looked_at():
    source = [{"name": "new:v1", "insecure": True}, {"name": "there:latest"}]
    pulls = pulls_of(source, answer(model("new:v1"), model("there:latest", ""), described=["new:v1"]))
    assert pulls.to_dict() == {
        "models": [{"name": "new:v1", "insecure": True, "state": "present", "digest": "d" * 64}],
        "told": ["to pull: new:v1, 5.0 GiB", "the disk of /m has room: 5.0 GiB are to come, 80.0 GiB are free"],
    }
    assert pulls.warnings == ("new:v1 has yet to be pulled, 5.0 GiB: planned by the header of what is to come",)
    assert (pulls.failures, pulls.no_room) == ((), "")


@pytest.mark.parametrize(
    ("source", "digest"),
    [({"digest": "abcdefabcdef"}, "abcdefabcdef"), ({"file": "/x.gguf"}, ""), ({}, "d" * 64)],
)
def test_a_pin_of_the_operators_stays(source, digest):
    pulls = pulls_of([{"name": "new:v1", **source}], answer(model("new:v1"), described=["new:v1"]))
    assert pulls.models[0]["digest"] == digest


def test_a_disk_without_room_is_told_everywhere():
    pulls = pulls_of([{"name": "new:v1"}], answer(model("new:v1"), described=["new:v1"], no_room="the disk is too small"))
    assert (pulls.no_room, pulls.told[-1], pulls.warnings[-1]) == (("the disk is too small",) * 3)


def test_what_cannot_be_looked_into_has_no_plan():
    pulls = pulls_of([{"name": "new:v1"}], answer(model("new:v1", size=None, note="h answers 401")))
    assert pulls.failures == (
        "model 'new:v1' is wanted and has yet to be pulled, and cannot be planned before: h answers 401; pull it with the role "
        "ollama_pull first",
    )
    assert pulls.told[0] == "to pull: new:v1"


def test_a_module_that_failed_is_the_reason():
    assert pulls_of([], {"failed": True, "msg": "no such model"}) == Pulls(failures=("no such model",))


@pytest.mark.parametrize("told", [model("here:latest", ""), model("other:v1")])
def test_nothing_to_come_is_nothing_nor_is_what_nobody_asked_for(told):
    assert pulls_of([{"name": "here:latest"}], answer(told)) == Pulls()
