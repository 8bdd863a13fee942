# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-in pulls as recorded: whole, in parts, cut, given up and taken up again, another file, a full disk, two clients."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.tests.registry.front import Front
from ansible_collections.gpufleet.ollama.tests.standin_ollama import registry
from ansible_collections.gpufleet.ollama.tests.standin_ollama.making import Failed
from ansible_collections.gpufleet.ollama.tests.standin_ollama.store import Store

from ..conftest import CAPTURES

RECORDED = {
    call["name"]: call
    for call in map(json.loads, (CAPTURES / "real_cpu" / "pulls.jsonl").read_text().splitlines())
}
# The recorded model of three parts, a thousandth of it.
PART_BYTES = 100_000
WEIGHTS = bytes(range(256)) * 989
CONFIG = b'{"model_format":"gguf"}'
NAME = "localhost:5000/team/gemma3:270m"


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "config": {"digest": digest(CONFIG), "size": len(CONFIG)},
        "layers": [{"mediaType": "m", "digest": digest(WEIGHTS), "size": len(WEIGHTS)}],
    }
).encode()


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    """A registry that holds the model."""
    front = Front(0).start()
    for content in (WEIGHTS, CONFIG):
        front.kept[f"/v2/team/gemma3/blobs/{digest(content)}"] = content
    front.kept["/v2/team/gemma3/manifests/270m"] = MANIFEST
    monkeypatch.setattr(registry, "PART_BYTES", PART_BYTES)
    yield front
    front.stop()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def pulled(store: Store, front: Front, tag: str = "270m", lines: int | None = None) -> list[dict[str, Any]]:
    """What a pull says; after so many lines its client is gone."""
    said: list[dict[str, Any]] = []
    stream = registry.pull(store, (f"localhost:{front.port}", "team", "gemma3", tag), True)
    try:
        for line in stream:
            said.append(line)
            if len(said) == lines:
                break
    except Failed as error:
        said.append({"error": str(error)})
    finally:
        stream.close()
    return said


def outline(lines: list[dict[str, Any]]) -> list[str]:
    """What was said, each thing once, without what is another digest, port, path or number of this model."""
    told: dict[str, None] = {}
    for line in lines:
        text = line.get("error") or ("pulling" if line["status"].startswith("pulling ") and "digest" in line else line["status"])
        text = re.sub(r"sha256[:-][0-9a-f]{64}", "DIGEST", text)
        told[re.sub(r"localhost:[0-9]+|/[^ ]*/blobs/", "", text)] = None
    return list(told)


def recorded(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for _count, line in RECORDED[name]["lines"]]


def files(store: Store, tmp_path: Path) -> set[str]:
    names = {path.name for path in (tmp_path / "blobs").glob("*")}
    return {re.sub("[0-9a-f]{64}", "DIGEST", name) for name in names}


def requests(front: Front) -> list[str]:
    """What was asked of the weights, as recorded: whom, how, and which thousandths of bytes."""
    found = []
    for method, path, asked in front.asked:
        if digest(WEIGHTS) in path:
            found.append(f"{'cdn' if path.startswith('/direct') else 'reg'} {method} {asked}".strip())
    return found


def wait_for(what: Any) -> None:
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_in_three_parts(front: Front, store: Store, tmp_path: Path) -> None:
    front.given = {"rate": 200_000}
    said = pulled(store, front)
    assert outline(said) == outline(recorded("three_parts/pull"))
    completed = [line["completed"] for line in said if "completed" in line]
    # Whether a line still comes after the last bytes is a race, in Ollama as here.
    assert completed == sorted(completed)
    assert 0 < completed[-1] <= len(WEIGHTS)
    assert (tmp_path / "blobs" / digest(WEIGHTS).replace(":", "-")).read_bytes() == WEIGHTS
    assert sorted(requests(front)) == sorted(
        ["reg HEAD", "reg GET", "cdn GET bytes=0-99999", "cdn GET bytes=100000-199999", "cdn GET bytes=200000-253183"]
    )


def test_what_is_here_is_told_as_such(front: Front, store: Store) -> None:
    pulled(store, front)
    again = pulled(store, front)
    assert outline(again) == outline(recorded("whole/pull_again"))
    assert [line["completed"] == line["total"] for line in again if "total" in line] == [True, True]


def test_cut_connections_are_gone_on_with(front: Front, store: Store) -> None:
    front.given = {"cut_after": 40_000, "cuts": 3}
    assert outline(pulled(store, front)) == outline(recorded("cut_and_resumed/pull"))
    ranges = {asked for asked in requests(front) if "cdn" in asked}
    assert {"cdn GET bytes=40000-99999", "cdn GET bytes=140000-199999", "cdn GET bytes=240000-253183"} <= ranges


def test_a_client_that_is_gone_leaves_parts_with_which_the_next_one_goes_on(
    front: Front, store: Store, tmp_path: Path
) -> None:
    front.given = {"rate": 100_000}
    said = pulled(store, front, lines=8)
    assert outline(said) == outline(recorded("cancelled_by_client/pull"))
    wait_for(lambda: not registry._running)
    kept = [path for _size, path in RECORDED["cancelled_by_client/pull"]["store"]]
    assert files(store, tmp_path) == {re.sub("[0-9a-f]{64}", "DIGEST", Path(path).name) for path in kept}
    parts = [json.loads(path.read_text()) for path in sorted((tmp_path / "blobs").glob("*-partial-*"))]
    assert [list(part) for part in parts] == [list(part) for part in RECORDED["cancelled_by_client/pull"]["parts"]]
    assert all(part["Completed"] > 0 for part in parts)
    front.given, front.asked = {}, []
    assert pulled(store, front)[-1] == recorded("cancelled_by_client/pull_resumed")[-1]
    assert "reg HEAD" not in requests(front)
    assert all(not asked.startswith("cdn GET bytes=0-") for asked in requests(front))
    assert (tmp_path / "blobs" / digest(WEIGHTS).replace(":", "-")).read_bytes() == WEIGHTS


def test_another_file_than_its_name_says_is_thrown_away(front: Front, store: Store, tmp_path: Path) -> None:
    front.given = {"wrong": True, "wrong_from": 1000}
    said = pulled(store, front)
    assert said[-1]["error"].startswith("digest mismatch, file must be downloaded again: want sha256:")
    assert outline(said)[-2:] == outline(recorded("wrong_digest/pull"))[-2:]
    assert not (tmp_path / "blobs" / digest(WEIGHTS).replace(":", "-")).exists()


def test_a_full_disk_ends_it(front: Front, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int, _data: bytes, _offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    said = pulled(store, front)
    assert outline(said)[-1] == outline(recorded("disk_full/pull"))[-1]
    wait_for(lambda: not registry._running)
    left = {re.sub("[0-9a-f]{64}", "DIGEST", Path(path).name) for _size, path in RECORDED["disk_full/pull"]["store"]}
    assert files(store, tmp_path) == left
    assert [json.loads(path.read_text())["Completed"] for path in (tmp_path / "blobs").glob("*-partial-*")] == [0, 0, 0]
    assert [part["Completed"] for part in RECORDED["disk_full/pull"]["parts"]] == [0, 0, 0]


def test_two_clients_share_a_download(front: Front, store: Store) -> None:
    front.given = {"rate": 100_000}
    said: list[list[dict[str, Any]]] = [[], []]

    def ask(number: int) -> None:
        said[number] += pulled(store, front)

    clients = [threading.Thread(target=ask, args=(number,)) for number in (0, 1)]
    for client in clients:
        client.start()
        time.sleep(0.3)
    for client in clients:
        client.join(20)
    assert [outline(lines) for lines in said] == [
        outline(recorded(f"two_clients/pull_{name}")) for name in ("first", "second")
    ]
    assert sum(asked.startswith("cdn") for asked in requests(front)) == 3


@pytest.mark.parametrize(
    ("faults", "tag", "name"),
    [
        ({}, "nope", "errors/unknown_tag"),
        ({"manifest_status": 403}, "nope", "errors/manifest_403"),
        ({"no_redirect": True}, "270m", "plain_registry/pull"),
        ({"manifest_status": 401}, "270m", "errors/manifest_401_basic"),
    ],
)
def test_errors_as_recorded(front: Front, store: Store, faults: dict[str, Any], tag: str, name: str) -> None:
    front.given = faults
    said, expected = outline(pulled(store, front, tag))[-1], outline(recorded(name))[-1]
    # The words of the registry itself are another one's.
    assert said.partition(": {")[0] == expected.partition(": {")[0]


def test_a_moved_tag_removes_what_nobody_needs_any_more(front: Front, store: Store, tmp_path: Path) -> None:
    pulled(store, front)
    other = b"another file"
    manifest = json.loads(MANIFEST)
    manifest["layers"][0] = {"mediaType": "m", "digest": digest(other), "size": len(other)}
    front.kept[f"/v2/team/gemma3/blobs/{digest(other)}"] = other
    front.kept["/v2/team/gemma3/manifests/270m"] = json.dumps(manifest).encode()
    assert outline(pulled(store, front))[-2:] == outline(recorded("whole/pull_update"))[-2:]
    assert not (tmp_path / "blobs" / digest(WEIGHTS).replace(":", "-")).exists()
