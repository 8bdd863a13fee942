# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a host's processor a reading of `ollama_host_info` takes, step by step; tests/bench/host_module.py runs it there.

On the standard input: the text of this program, archives as Ansible sends them, options of the module, rounds. The
answer: for each archive the rounds, each a list of steps with ms of the processor that the module and its programs took.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile


def spent_ms() -> tuple[float, float]:
    """Processor time of this process up to now, and of those that it started and that have ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    own, programs = (1000 * (used.ru_utime + used.ru_stime) for used in map(resource.getrusage, kinds))
    return own, programs


def steps_of(archive: str, options: str) -> list[tuple[str, float, float]]:
    """Runs the module that an archive holds; what each step took."""
    steps, last = [], (0.0, 0.0)

    def mark(step: str) -> None:
        nonlocal last
        now = spent_ms()
        steps.append((step, now[0] - last[0], now[1] - last[1]))
        last = now

    def marked(step, reader):
        def read(*arguments, **named):
            try:
                return reader(*arguments, **named)
            finally:
                mark(step)

        return read

    mark("Python")
    sys.path.insert(0, archive)
    from ansible.module_utils import basic

    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": json.loads(options)}).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    mark("Ansible")
    from ansible_collections.gpufleet.ollama.plugins.modules import ollama_host_info

    mark("loading")
    for part, reader in ollama_host_info.READERS.items():
        ollama_host_info.READERS[part] = marked(part, reader)
    ollama_host_info.service = ollama_host_info.READERS["service"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        ollama_host_info.main()
    mark("answer")
    return steps


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(steps_of(*sys.argv[1:])))
        return
    asked = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        archives = [os.path.join(folder, f"{number}.zip") for number in range(len(asked["archives"]))]
        for path, text in zip(archives, asked["archives"]):
            with open(path, "wb") as file:
                file.write(base64.b64decode(text))
        found = [[] for _archive in archives]
        # The first round finds nothing in the machine's caches.
        for number in range(asked["rounds"] + 1):
            for rounds, path in zip(found, archives):
                command = [sys.executable, "-c", asked["program"], path, json.dumps(asked["options"])]
                run = subprocess.run(command, capture_output=True, text=True, check=True)
                if number:
                    rounds.append(json.loads(run.stdout))
    print(json.dumps(found))


main()
