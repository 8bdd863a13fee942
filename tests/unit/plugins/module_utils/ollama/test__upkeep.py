# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models are brought, made and removed through a server that pulls as the recorded one, from a registry that makes faults."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _upkeep
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api, ApiError
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._proxies import proxies_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._upkeep import (
    UNDESCRIBED,
    UpkeepError,
    Wish,
    described,
    room,
    steps_for,
    upkeep_at,
    upkeep_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._upkeep_slice import (
    carry_out,
    completed_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import Completed
from ansible_collections.gpufleet.ollama.tests.registry.front import Front
from ansible_collections.gpufleet.ollama.tests.registry.models import publish, small_model
from ansible_collections.gpufleet.ollama.tests.registry.proxy import ForwardProxy

from ....conftest import Start

GIB = 1 << 30


@pytest.fixture
def front():
    front = Front(0).start()
    yield front
    front.stop()


@pytest.fixture(scope="module")
def running(executable, tmp_path_factory):
    """A server, and its store."""
    folder = tmp_path_factory.mktemp("upkeep")
    (folder / "models").mkdir()
    start = Start(executable, folder / "models", folder / "server")
    yield Api(f"http://127.0.0.1:{start().port}", 20), folder / "models"
    start.stop()


@pytest.fixture
def api(running):
    return running[0]


@pytest.fixture
def models_path(running):
    """The server's store, empty."""
    for folder in ("blobs", "manifests"):
        shutil.rmtree(running[1] / folder, ignore_errors=True)
    (running[1] / "blobs").mkdir(parents=True)
    return running[1]


@pytest.fixture
def host(api, models_path):
    """`host()` is the server of the host, looked at now."""
    return lambda: upkeep_at(api, str(models_path))


@pytest.fixture
def wish(front, tmp_path):
    """`wish("v1", digest=...)` asks for a model that the registry then holds."""

    def make(tag="v1", seed=1, parameters=None, **asked):
        manifest = publish(front, "team/model", tag, small_model(tmp_path, seed), parameters)
        front.given.setdefault("digest", hashlib.sha256(manifest).hexdigest())
        return Wish(f"localhost:{front.port}/team/model:{tag}", insecure=True, **asked)

    return make


def brought(host, *wishes, seconds=20):
    """What became of the steps, and whether anything was changed."""
    now = host()
    steps = steps_for(now, wishes)
    changed, waiting = carry_out(now, steps, seconds)
    return steps, changed, waiting


def digest_in(front, tag="v1"):
    return hashlib.sha256(front.kept[f"/v2/team/model/manifests/{tag}"]).hexdigest()


def test_a_model_that_lacks_is_pulled_and_the_second_time_is_there(host, wish, front):
    asked = wish(parameters={"num_ctx": 1024})
    (step,), changed, waiting = brought(host, asked)
    assert (step.action, step.is_done, changed, waiting) == ("pull", True, True, "")
    assert step.digest == digest_in(front)
    assert completed_bytes(host(), step) == step.size_bytes == step.missing_bytes
    front.asked.clear()
    (step,), changed, _waiting = brought(host, asked)
    assert (step.action, step.is_done, changed) == ("", True, False)
    assert front.asked == []


class TestPins:
    def test_the_right_one_is_pulled_and_stays(self, host, wish, front):
        wish()
        for digest in (digest_in(front), digest_in(front)[:12], f"sha256:{digest_in(front)}", digest_in(front)[:20].upper()):
            (step,), _changed, _waiting = brought(host, wish(digest=digest))
            assert step.is_done
        assert sum("/direct" in path for _method, path, _range in front.asked) == 2

    def test_another_one_in_the_registry_is_not_pulled(self, host, wish, front):
        with pytest.raises(UpkeepError, match="and digest pins aaaaaaaaaaaa: the tag was moved; pin what it has now"):
            brought(host, wish(digest="a" * 64))
        assert host().installed == {}

    def test_another_one_on_the_host_is_pulled_anew(self, host, wish, front):
        brought(host, wish(seed=1))
        wish(seed=2)
        (step,), changed, _waiting = brought(host, wish(seed=2, digest=digest_in(front)))
        assert (step.action, step.is_done, changed) == ("pull", True, True)
        assert host().digest_of(step.name) == digest_in(front)

    def test_the_same_files_under_a_manifest_in_other_words_are_the_same_model(self, host, wish, front, api, models_path):
        asked = wish()
        brought(host, asked)
        (path,) = models_path.glob("manifests/*/team/model/v1")
        path.write_text(json.dumps(json.loads(path.read_text()), indent=1))
        assert host().digest_of(asked.name) != digest_in(front)
        (step,), changed, _waiting = brought(host, wish(digest=digest_in(front)))
        assert (step.action, changed) == ("", False)

    def test_a_tag_that_is_moved_while_it_comes_is_told(self, host, wish, front):
        wish()
        asked = wish(digest=digest_in(front))
        now = host()
        steps = steps_for(now, [asked])
        wish(seed=3)
        with pytest.raises(UpkeepError, match="the tag was moved meanwhile"):
            carry_out(now, steps, 20)

    @pytest.mark.parametrize("digest", ["abc", "x" * 12, "sha512:" + "a" * 64, "a" * 65])
    def test_what_is_no_digest_is_refused(self, host, wish, digest):
        with pytest.raises(UpkeepError, match="expected the 12 to 64 hex digits"):
            brought(host, wish(digest=digest))


class TestFaults:
    def test_a_connection_that_is_cut_is_gone_on_with(self, host, wish, front):
        front.given = {"cut_after": 50_000, "cuts": 1}
        (step,), _changed, waiting = brought(host, wish())
        assert (step.is_done, waiting) == (True, "")

    def test_a_pull_goes_on_slice_after_slice(self, host, wish, front):
        front.given = {"rate": 60_000}
        asked = wish()
        here = []
        for _slice in range(8):
            now = host()
            steps = steps_for(now, [asked])
            _changed, waiting = carry_out(now, steps, 1.2)
            assert waiting == ""
            here.append(completed_bytes(now, steps[0]))
            if steps[0].is_done:
                break
            time.sleep(0.2)
        assert steps[0].is_done
        assert here == sorted(here)
        assert len(here) > 2
        assert not [asked for _method, path, asked in front.asked[20:] if path.startswith("/direct") and "=0-" in asked]

    def test_another_file_than_its_name_says(self, host, wish, front):
        front.given = {"wrong": True, "wrong_from": 1000}
        with pytest.raises(UpkeepError, match=r"digest mismatch.*was thrown away: run it again, or repair the registry"):
            brought(host, wish())
        assert host().installed == {}

    def test_a_file_that_a_cut_pull_left_unchecked_is_checked_here(self, host, wish, front, models_path):
        asked = wish()
        step = steps_for(host(), [asked])[0]
        weights = step.manifest.layers[0]
        (models_path / "blobs" / weights.digest).write_bytes(bytes(weights.size_bytes))
        with pytest.raises(UpkeepError, match="is another file than its name says, left by a pull that was cut short"):
            brought(host, asked)
        assert host().installed == {}
        assert brought(host, asked)[0][0].is_done

    def test_a_model_that_no_registry_has(self, host, front):
        name = f"localhost:{front.port}/team/nope:v1"
        with pytest.raises(UpkeepError, match=r"model .*/team/nope:v1: localhost:.* has no model team/nope:v1: look for a slip"):
            brought(host, Wish(name, insecure=True))

    def test_a_registry_that_is_gone_is_ollamas_to_tell(self, host):
        (step,), changed, waiting = brought(host, Wish("localhost:1/team/model:v1", insecure=True))
        assert step.note.startswith("its size is not known before it comes: localhost:1 cannot be asked: Connection refused")
        assert (changed, step.size_bytes) == (False, None)
        assert "connect: connection refused" in waiting

    def test_what_a_registry_lets_nobody_see_is_unknown(self, host, wish, front):
        asked = wish()
        front.given = {"manifest_status": 401}
        (step,) = steps_for(host(), [asked])
        assert "answers 401: it lets only those in who log in" in step.note
        with pytest.raises(UNDESCRIBED, match="its size is not known"):
            described(host(), step)


def test_the_registry_is_looked_at_by_the_proxy_of_the_service(host, wish, front):
    forward = ForwardProxy("user:hunter2")
    asked = replace(wish(), name=f"registry.test:{front.port}/team/model:v1")
    for variables, is_known in (({"http_proxy": forward.url}, True), ({}, False)):
        now = replace(host(), proxies=proxies_of(variables))
        (step,) = steps_for(now, [asked])
        assert (step.size_bytes is not None) is is_known
        if is_known:
            assert described(now, step)["name"] == asked.name
    assert step.note.startswith(f"its size is not known before it comes: registry.test:{front.port} cannot be asked: ")
    forward.stop()


class TestRoom:
    def test_what_is_half_here_takes_less(self, host, wish, models_path):
        asked = wish()
        (step,) = steps_for(host(), [asked])
        whole, weights = step.missing_bytes, step.manifest.layers[0]
        with open(models_path / "blobs" / f"{weights.digest}-partial", "wb") as file:
            file.write(b"x" * 65536)
            file.truncate(weights.size_bytes)
        os.sync()
        (step,) = steps_for(host(), [asked])
        assert step.missing_bytes == whole - 65536

    def test_a_disk_without_room_is_told_with_what_would_have_to_go(self, host, wish, monkeypatch):
        brought(host, wish(tag="old", seed=5))
        now = host()
        steps = steps_for(now, [wish()])
        monkeypatch.setattr(now, "free_bytes", lambda: 100_000, raising=False)
        needed, sentence = room(now, steps, [], 0)
        assert needed == steps[0].missing_bytes
        assert sentence.startswith(f"the disk of {now.models_path} has no room: 0 MiB are to come")
        assert "model:old would have to go" in sentence
        kept = room(now, steps, [next(iter(now.layers))], 0)[1]
        assert "would not make enough room: take a larger disk" in kept

    def test_a_file_that_two_models_have_comes_once(self, host, wish, tmp_path, monkeypatch):
        small_model(tmp_path, 7)
        asked = [wish("a"), wish("b", parameters={"num_ctx": 1024}), Wish("mine:v1", file=str(tmp_path / "small-7.gguf"))]
        now = host()
        steps = steps_for(now, asked)
        weights = steps[0].manifest.layers[0].size_bytes
        assert steps[1].manifest.layers[0] == steps[0].manifest.layers[0]
        needed, _sentence = room(now, steps, [], 0)
        assert needed == sum(step.missing_bytes for step in steps) - weights - steps[0].manifest.config.size_bytes
        monkeypatch.setattr(now, "free_bytes", lambda: needed, raising=False)
        assert room(now, steps, [], 0) == (needed, "")
        assert "no room" in room(now, steps, [], 1)[1]

    def test_what_is_to_be_removed_makes_room_before(self, host, wish, monkeypatch):
        brought(host, wish(tag="old", seed=5))
        now = host()
        old = next(iter(now.layers))
        steps = steps_for(now, [wish(), Wish(old, state="absent")])
        monkeypatch.setattr(now, "free_bytes", lambda: 100_000, raising=False)
        assert room(now, steps, [], 0)[1] == ""

    def test_the_free_bytes_are_those_of_the_disk(self, host, models_path):
        disk = os.statvfs(models_path)
        assert abs(host().free_bytes() - disk.f_bavail * disk.f_frsize) < GIB
        elsewhere = replace(host(), models_path=str(models_path / "not" / "there"))
        assert abs(elsewhere.free_bytes() - disk.f_bavail * disk.f_frsize) < GIB


class TestRemoval:
    def test_only_what_is_named_goes(self, host, wish):
        brought(host, wish(tag="a", seed=1), wish(tag="b", seed=2))
        first, second = sorted(host().installed)
        (step,), changed, _waiting = brought(host, Wish(first, state="absent"))
        assert (step.action, step.is_done, changed) == ("remove", True, True)
        assert list(host().installed) == [second]
        (step,), changed, _waiting = brought(host, Wish(first, state="absent"))
        assert (step.action, step.is_done, changed) == ("", True, False)

    def test_what_is_loaded_does_not_go(self, host, wish, api):
        (step,), _changed, _waiting = brought(host, wish())
        api.load(step.name)
        with pytest.raises(UpkeepError, match="is not removed, because it is loaded: run 'ollama stop"):
            brought(host, Wish(step.name.upper().replace("LOCALHOST", "localhost"), state="absent"))
        assert list(host().installed) == [step.name]


class TestFiles:
    @pytest.fixture
    def file(self, tmp_path):
        small_model(tmp_path, 9)
        return tmp_path / "small-9.gguf"

    def test_a_model_is_made_of_a_file_and_the_second_time_is_there(self, host, file):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        for number in (1, 2):
            (step,), changed, _waiting = brought(host, Wish("mine:v1", file=str(file), digest=digest))
            assert (step.is_done, changed) == (True, number == 1)
        assert list(host().installed) == ["mine:v1"]

    def test_room_for_two_is_needed(self, host, file):
        (step,) = steps_for(host(), [Wish("mine:v1", file=str(file))])
        assert step.missing_bytes == 2 * file.stat().st_size

    def test_another_file_than_the_pin_is_refused(self, host, file):
        with pytest.raises(UpkeepError, match=r"has the digest .*, and bbbbbbbbbbbb is pinned: it is another file"):
            brought(host, Wish("mine:v1", file=str(file), digest="b" * 64))
        assert host().installed == {}

    def test_what_is_no_model_is_refused(self, host, tmp_path):
        (tmp_path / "text.gguf").write_text("this is no model at all, nor anything like one")
        for path, sentence in ((tmp_path / "text.gguf", "this is no GGUF file"), (tmp_path / "nope", "cannot be read")):
            with pytest.raises(UpkeepError, match=f"model mine:v1: .*{sentence}"):
                brought(host, Wish("mine:v1", file=str(path)))

    @pytest.mark.parametrize("content", [b"root:secret:19000:0:99999:7:::", None])
    def test_a_link_that_is_turned_after_the_look_gives_no_other_file_away(self, host, file, tmp_path, content, monkeypatch):
        other = tmp_path / "shadow"
        other.write_bytes(content or file.read_bytes() + b"more")
        link = tmp_path / "link.gguf"
        link.symlink_to(file)
        now = host()
        steps = steps_for(now, [Wish("mine:v1", file=str(link))])
        link.unlink()
        link.symlink_to(other)
        monkeypatch.setattr(Api, "put_blob", lambda *_given: pytest.fail("it was handed to the server"))
        with pytest.raises(UpkeepError, match=r"at least 24|was changed while it was read|this is no GGUF file"):
            carry_out(now, steps, 20)

    def test_a_part_of_a_model_is_refused(self, host, file, monkeypatch):
        monkeypatch.setattr(
            _upkeep, "read_header", lambda path: {"metadata": {"split.count": 3}, "file_bytes": 1, "tensors": []}
        )
        with pytest.raises(UpkeepError, match="is one of 3 parts, which Ollama does not put together"):
            brought(host, Wish("mine:v1", file=str(file)))

    def test_it_is_described_for_a_plan(self, host, file, wish):
        now = host()
        steps = steps_for(now, [Wish("mine:v1", file=str(file)), wish(seed=9)])
        made, pulled = (described(now, step) for step in steps)
        assert (made["name"], pulled["name"]) == ("mine:v1", steps[1].name)
        assert made["layers"] == pulled["layers"]


@pytest.mark.parametrize(
    ("wishes", "sentence"),
    [
        ([Wish("a b")], r"'a b' is no model's name: write \[HOST\[:PORT\]/\]"),
        ([Wish("")], "'' is no model's name"),
        ([Wish("gemma3", state="absent"), Wish("GEMMA3:latest")], "model GEMMA3:latest is asked for twice: name it once"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(host, wishes, sentence):
    with pytest.raises(UpkeepError, match=sentence):
        steps_for(host(), wishes)


def test_a_unit_that_is_not_there():
    with pytest.raises(UpkeepError, match=r"systemd knows no ollama\.service here: install Ollama first"):
        upkeep_of(lambda command: Completed(0, "LoadState=not-found\n", ""), "system", "ollama.service")


def test_a_unit_that_does_not_run(tmp_path):
    text = f'LoadState=loaded\nMainPID=0\nEnvironment="OLLAMA_HOST=127.0.0.1:1" "OLLAMA_MODELS={tmp_path}"\n'
    with pytest.raises(UpkeepError, match=r"ollama\.service does not run, and models come through it: start it \(GET "):
        upkeep_of(lambda command: Completed(0, text, ""), "system", "ollama.service")


def test_a_server_that_is_down_is_told(tmp_path):
    with pytest.raises(ApiError, match="Connection refused"):
        upkeep_at(Api("http://127.0.0.1:1", 5), str(tmp_path))
