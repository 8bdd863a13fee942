# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module that came in an archive is imported as ever, and each of its files is compiled once."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds import _archive

FILES = {
    "early.py": "",
    "house/__init__.py": "",
    "house/room/__init__.py": "NAME = 'room'",
    "house/room/_file.py": "from house.room import NAME\nTEXT = NAME + '!'\ndef fails(): raise ValueError('here')",
}
# Imports of the archive with and without what is tested, told as one line of JSON. An importer that was made before
# `compile_once` is among them, as that of Ansible is.
SCRIPT = """
import json, pkgutil, runpy, sys, traceback
archive, own, once = sys.argv[1:]
sys.path.insert(0, archive)
compiled = []
sys.addaudithook(lambda event, given: event == "compile" and archive in str(given[1]) and compiled.append(given[1]))
import early
if once == "once":
    for _again in range(2):
        runpy.run_path(own)["compile_once"]()
import house.room._file as file
try:
    file.fails()
except ValueError:
    said = traceback.format_exc()
print(json.dumps({
    "text": file.TEXT, "path": file.__file__, "package": sys.modules["house.room"].__file__,
    "data": pkgutil.get_data("house.room", "_file.py").decode(),
    "said": said, "compiled": [path.partition("house")[2] for path in compiled if "house" in path],
}))
"""


def imported(archive: Path, once: str) -> dict[str, object]:
    command = [sys.executable, "-c", SCRIPT, str(archive), _archive.__file__, once]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert isinstance(told, dict)
    return told


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "sent.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, text in FILES.items():
            file.writestr(name, text)
    return path


def test_each_file_is_compiled_once_and_all_else_is_as_it_was(archive: Path) -> None:
    usual, once = imported(archive, "as ever"), imported(archive, "once")
    del usual["compiled"]
    assert once.pop("compiled") == ["/__init__.py", "/room/__init__.py", "/room/_file.py"]
    assert once == usual
