# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A comparison with our own drop-in tells the same as one with the text that a plan would write, or it tells nothing."""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _comparison
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._comparison import (
    COMPARED,
    comparison,
    comparison_with_own,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _inspection
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import environment_lines
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._inspection import inspection, look
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._precedence import Conflict
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secret_file import (
    MARKER,
    halves,
    parted,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import secrets_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import Completed, Manager

NAME = "zz-gpufleet.conf"
PLAN = {"OLLAMA_NUM_PARALLEL": "4", "OLLAMA_MAX_LOADED_MODELS": "2"}
WITH_SECRET = {**PLAN, "HF_TOKEN": "hunter2", "HTTPS_PROXY": "http://me:pw@proxy:1"}
CONFIG = 'msg="server config" env="map[OLLAMA_NUM_PARALLEL:{}]"'


class Host:
    """A unit in a folder, on which our drop-in sets an environment."""

    def __init__(self, root, environment, *, shown=None, process=None, more="", loaded="no"):
        self.root, self.process = root, process
        folder = root / "etc" / "ollama.service.d"
        folder.mkdir(parents=True)
        path = str(folder / NAME)
        if environment is not None:
            text = "\n".join([MARKER, "[Service]", *environment_lines(environment), more])
            dropin, secrets = halves(parted(text, path))
            (folder / NAME).write_text(dropin)
            if secrets is not None:
                (folder / "zz-gpufleet.env").write_text(secrets)
                (folder / "zz-gpufleet.env").chmod(0o600)
        self.shown = {
            "LoadState": "loaded",
            "ActiveState": "active",
            "NeedDaemonReload": loaded,
            "MainPID": process.pid if process else 0,
            "InvocationID": "0" * 32,
            "Environment": " ".join(f"{name}={value}" for name, value in (shown or {}).items()),
        }

    def look(self):
        text = "".join(f"{name}={value}\n" for name, value in self.shown.items())
        manager = Manager("system", 252, (str(self.root / "etc"),), ())
        return look(lambda _command: Completed(0, text, ""), manager, "ollama.service", NAME)


@pytest.fixture
def host_of(tmp_path, monkeypatch):
    """`host_of(environment, runs={...}, ...)`: a host with our drop-in, and a process with that environment."""
    monkeypatch.setattr(_inspection, "dropin_base_directory", lambda scope, runtime=False: str(tmp_path / "etc"))
    monkeypatch.setattr(_inspection, "state_directory", lambda scope, unit: str(tmp_path / "state"))
    started = []

    def make(environment, runs=None, parallel="4", **more):
        monkeypatch.setattr(_comparison, "journal_of_invocation", lambda _invocation: [CONFIG.format(parallel)])
        if runs is not None:
            started.append(subprocess.Popen(["/bin/sleep", "60"], env=runs))
            while runs and not Path(f"/proc/{started[-1].pid}/environ").read_bytes():
                time.sleep(0.001)
        return Host(tmp_path, environment, process=started[-1] if started else None, **more)

    yield make
    for process in started:
        process.kill()
        process.wait()


def compared_as_planned(host, environment):
    content = "\n".join(["[Service]", *environment_lines(environment)])
    result = comparison(inspection(host.look(), content))
    return {name: result[name] for name in (*COMPARED, "wanted")}


@pytest.mark.parametrize(
    ("environment", "state", "differing"),
    [
        (PLAN, {"runs": PLAN, "shown": PLAN}, []),
        (PLAN, {"runs": {}, "shown": PLAN}, ["process", "process"]),
        (PLAN, {"runs": PLAN, "shown": {}}, ["unit", "unit"]),
        (PLAN, {"runs": PLAN, "shown": PLAN, "loaded": "yes"}, ["unit"]),
        (PLAN, {"runs": PLAN, "shown": PLAN, "parallel": "1"}, ["server"]),
        (PLAN, {"runs": PLAN, "shown": PLAN, "more": "LimitNOFILE=1\n"}, ["file"]),
        (WITH_SECRET, {"runs": WITH_SECRET, "shown": PLAN}, []),
        (WITH_SECRET, {"runs": PLAN, "shown": PLAN}, ["process", "process"]),
        ({**PLAN, "A": 'x "y" %h $z \\'}, {"runs": PLAN, "shown": PLAN}, ["process", "unit"]),
    ],
)
def test_it_tells_what_a_comparison_with_the_plan_would(host_of, environment, state, differing):
    host = host_of(environment, **state)
    found = comparison_with_own(host.look(), secrets_of(environment))
    assert found == compared_as_planned(host, environment)
    assert sorted(one["layer"] for one in found["differences"]) == differing
    assert found["in_sync"] is not bool(differing)
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("found", "in_sync", "as_planned"),
    [
        ({}, True, True),
        ({"problems": ("the process may not be read",)}, False, False),
        ({"conflicts": (Conflict("OLLAMA_NUM_PARALLEL", "/etc/x.conf", 4, "remove that line"),)}, True, False),
        ({"refusals": ("it is masked",)}, True, False),
        ({"unproven": True}, True, True),
    ],
)
def test_a_host_is_as_planned_where_nothing_differs_and_nothing_stands_against_it(host_of, found, in_sync, as_planned):
    host = host_of(PLAN, runs=PLAN, shown=PLAN)
    content = "\n".join(["[Service]", *environment_lines(PLAN)])
    seen = replace(inspection(host.look(), content), **found)
    result = comparison(seen)
    assert (result["in_sync"], result["as_planned"]) == (in_sync, as_planned)
    # A look alone, as the facts of a host have it, tells all that a comparison does.
    assert seen.to_dict()["as_planned"] is as_planned
    assert set(COMPARED) <= set(seen.to_dict())


@pytest.mark.parametrize(
    ("environment", "secrets"),
    [
        (None, {}),
        (PLAN, {"HF_TOKEN": "hunter2"}),
        (WITH_SECRET, {}),
        (WITH_SECRET, {**secrets_of(WITH_SECRET), "HF_TOKEN": "hunter3"}),
        (WITH_SECRET, {"HF_TOKEN": "hunter2"}),
    ],
)
def test_nothing_is_compared_without_a_dropin_or_with_other_secrets(host_of, environment, secrets):
    assert comparison_with_own(host_of(environment).look(), secrets) == {}


def test_nothing_is_compared_where_what_our_dropin_sets_cannot_be_read(host_of, monkeypatch):
    def refuse(_path, _text):
        raise PermissionError(13, "Permission denied")

    host = host_of(WITH_SECRET)
    monkeypatch.setattr(_inspection, "with_secret_file", refuse)
    assert comparison_with_own(host.look(), {}) == {}
