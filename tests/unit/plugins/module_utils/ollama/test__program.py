# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service's program is asked for its version by the unit's user, or by us where nobody else can change it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._program import (
    MAXIMUM_BYTES,
    ProgramError,
    program_version,
)

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
NOBODY = 65534


@pytest.fixture
def program():
    """Writes a program into a folder that others may search, and gives its path."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)

    def write(script):
        path = folder / "ollama"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    yield write
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("script", "version"),
    [
        ("echo ollama version is 0.33.0-rc2", "0.33.0-rc2"),
        ("echo Warning: no server; echo Warning: client version is 0.12.6 >&2", "0.12.6"),
        (f"echo version is 0.1.0; head -c {2 * MAXIMUM_BYTES} /dev/zero", "0.1.0"),
        ("echo version is 0.1.$(head -c 1000 /dev/zero | tr '\\0' 1)", "0.1." + 60 * "1"),
    ],
)
def test_the_program_names_its_version(program, script, version):
    assert program_version(str(program(script)), "") == version


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo something else", "names no version"),
        ("sleep 60", "gives no answer within 0.3 s"),
        ("sleep 60 & exit", "gives no answer within 0.3 s"),
    ],
)
def test_a_program_that_does_not_tell_is_one_sentence(program, script, sentence):
    path = program(script)
    with pytest.raises(
        ProgramError, match=f"{path} {sentence}: start the service, or set ollama_plan_version"
    ):
        program_version(str(path), "", deadline_seconds=0.3)


def test_a_program_that_is_not_there_is_one_sentence():
    with pytest.raises(ProgramError, match=r"/nowhere/ollama cannot be run \(No such file or directory\)"):
        program_version("/nowhere/ollama", "")


def test_a_program_that_others_can_change_is_not_run_by_us(program, tmp_path):
    path = program(f"touch {tmp_path}/ran; echo version is 1.0")
    path.chmod(0o777)
    with pytest.raises(ProgramError, match=f"is not run, because others than .* can change {path}"):
        program_version(str(path), "")
    assert not (tmp_path / "ran").exists()


@AS_ROOT
@pytest.mark.parametrize("user", ["nobody", str(NOBODY)])
def test_the_units_user_runs_it_with_nothing_of_ours(program, monkeypatch, user):
    monkeypatch.setenv("HF_TOKEN", "hunter2")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/tmp")
    path = program('echo "version is 1.$(id -u).$(id -g).$(id -G).$(env | grep -c "HF_TOKEN\\|LD_")"')
    os.chown(path, NOBODY, NOBODY)
    assert program_version(str(path), user) == f"1.{NOBODY}.{NOBODY}.{NOBODY}.0"


@AS_ROOT
@pytest.mark.parametrize("user", ["root", "0", "made-when-it-starts"])
def test_without_another_user_it_is_run_only_where_it_is_roots(program, user):
    path = program("echo version is 1.$(id -u)")
    assert program_version(str(path), user) == "1.0"
    os.chown(path, NOBODY, 0)
    with pytest.raises(ProgramError, match="others than root can change"):
        program_version(str(path), user)
