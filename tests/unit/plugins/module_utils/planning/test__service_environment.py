# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment of a service, split by who set it."""

from __future__ import annotations

import re

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import (
    Service,
    service_from_info,
)

OURS = "/etc/systemd/system/ollama.service.d/zz-gpufleet.conf"
THEIRS = "/etc/systemd/system/ollama.service.d/override.conf"
INFO = {
    "process_environment": {"OLLAMA_NUM_PARALLEL": "4", "PATH": "/usr/bin"},
    "environment": {"OLLAMA_NUM_PARALLEL": "5"},
    "dropin_path": OURS,
    "variables": {
        "OLLAMA_NUM_PARALLEL": {"value": "4", "file": OURS, "line": 3},
        "OLLAMA_KEEP_ALIVE": {"value": "-1", "file": THEIRS, "line": 2},
    },
}


def test_what_our_drop_in_sets_is_told_from_what_others_set():
    assert service_from_info(INFO) == Service(
        running=INFO["process_environment"],
        managed={"OLLAMA_NUM_PARALLEL": "4"},
        foreign={"OLLAMA_KEEP_ALIVE": "-1"},
        places={"OLLAMA_KEEP_ALIVE": f"{THEIRS}:2"},
    )


def test_where_no_process_runs_what_systemd_holds_counts():
    assert service_from_info({**INFO, "process_environment": None}).running == {"OLLAMA_NUM_PARALLEL": "5"}


def test_an_unknown_service_has_no_settings():
    assert service_from_info({}) == Service()


@pytest.mark.parametrize(
    ("info", "sentence"),
    [
        ([], "service must be what systemd_environment_info returned, a mapping, found []"),
        ({"variables": ["OLLAMA_HOST"]}, "its variables lack value and file"),
        ({"variables": {"OLLAMA_HOST": "0.0.0.0"}}, "its variables lack value and file"),
        ({"variables": {"OLLAMA_HOST": {"value": "0.0.0.0"}}}, "its variables lack value and file"),
        ({"process_environment": "A=1"}, "service.process_environment must be a mapping"),
    ],
)
def test_what_is_no_such_answer_is_refused_in_one_sentence(info, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        service_from_info(info)
