# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fuzzes every target with atheris, guided by coverage, each for so many seconds in a process of its own.

What is found is counted by its place and does not end a run; the shortest input of each lies below .build/fuzz.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
FOUND = CHECKOUT / ".build" / "fuzz"
PACKAGE = "ansible_collections.gpufleet.ollama"
INPUT_BYTES = 16 << 10
# Code that counts its coverage is slower, and so may an input be.
CPU_SECONDS = 10.0
# Of the process, which keeps its inputs.
RSS_MIB = 2048
# libFuzzer looks at the time between inputs; a process that is later than this hangs.
GRACE_SECONDS = 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all where none is named")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if find_spec("atheris") is None:
        sys.exit("atheris is not installed: run this by `make fuzz`")
    sys.path.insert(0, str(CHECKOUT / ".build" / "collections"))
    if arguments.here:
        return _fuzz(arguments.targets[0], arguments.seconds)
    known = import_module(f"{PACKAGE}.tests.fuzz.targets").TARGETS
    unknown = sorted(set(arguments.targets) - set(known))
    if unknown:
        sys.exit(f"no target is called {', '.join(unknown)}; there are {', '.join(known)}")
    print(
        f"{'target':20} {'inputs':>9} {'refused':>9} {'slowest':>9} {'MiB':>5}  errors that are not documented"
    )
    return max([_run(name, arguments.seconds) for name in arguments.targets or known])


def _run(name: str, seconds: int) -> int:
    """Runs one target and prints its line; 1 where something was found."""
    result = FOUND / name / "result.json"
    result.parent.mkdir(parents=True, exist_ok=True)
    result.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--here", f"--seconds={seconds}", name]
    with tempfile.TemporaryDirectory(prefix="gpufleet-fuzz-") as scratch, open(
        FOUND / name / "log", "wb"
    ) as log:
        try:
            subprocess.run(
                command,
                env={**os.environ, "TMPDIR": scratch},
                stdout=log,
                stderr=log,
                check=False,
                timeout=seconds + GRACE_SECONDS,
            )
            failure = "the process has ended"
        except subprocess.TimeoutExpired:
            failure = "the process hangs"
    if not result.exists():
        print(f"{name:20} {failure}, see {log.name}")
        return 1
    said = json.loads(result.read_text())
    print(
        f"{name:20} {said['inputs']:9,} {said['refused']:9,} {said['slowest_seconds']:7.2f} s {said['peak_mib']:5}  "
        f"{sum(said['errors'].values())}",
        *(f"    {count} x {place}" for place, count in said["errors"].items()),
        sep="\n",
        flush=True,
    )
    return 1 if said["errors"] else 0


def _fuzz(name: str, seconds: int) -> int:
    """Fuzzes one target in this process, until libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=[f"{PACKAGE}.plugins"]):
        target = import_module(f"{PACKAGE}.tests.fuzz.targets").TARGETS[name]
    tokens = import_module(f"{PACKAGE}.tests.fuzz.target").TOKENS
    corpus = FOUND / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    dictionary = FOUND / name / "dictionary"
    dictionary.write_text("".join(f'"{_escaped(token)}"\n' for token in tokens))
    watch = _Watch(target, FOUND / name, time.monotonic() + seconds)
    options = [
        f"-max_len={INPUT_BYTES}",
        f"-rss_limit_mb={RSS_MIB}",
        f"-dict={dictionary}",
        f"-timeout={GRACE_SECONDS}",
        f"-artifact_prefix={FOUND / name}/",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], watch.one)
    atheris.Fuzz()
    return 0


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)


class _Watch:
    """Counts what became of the inputs."""

    def __init__(self, target: Any, folder: Path, deadline: float) -> None:
        self._target = target
        self._folder = folder
        self._deadline = deadline
        self._inputs = self._refused = 0
        self._slowest_seconds = 0.0
        self._errors: Counter[str] = Counter()
        self._shortest: dict[str, bytes] = {}

    def one(self, data: bytes) -> None:
        started = time.process_time()
        try:
            self._refused += not self._target.takes(data, CPU_SECONDS)
        except Exception as error:
            self._keep(data, error)
        self._inputs += 1
        self._slowest_seconds = max(self._slowest_seconds, time.process_time() - started)
        if time.monotonic() > self._deadline:
            self._end()

    def _keep(self, data: bytes, error: Exception) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/plugins/" in frame.filename] or frames
        place = f"{type(error).__name__} in {Path(ours[-1].filename).name}:{ours[-1].lineno}"
        self._errors[place] += 1
        if len(data) < len(self._shortest.get(place, data + b"x")):
            self._shortest[place] = data
            (self._folder / place.replace(" ", "_")).write_bytes(data)

    def _end(self) -> None:
        result = {
            "inputs": self._inputs,
            "refused": self._refused,
            "slowest_seconds": self._slowest_seconds,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
            "errors": dict(self._errors),
        }
        (self._folder / "result.json").write_text(json.dumps(result))
        # libFuzzer takes every other end for a find.
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
