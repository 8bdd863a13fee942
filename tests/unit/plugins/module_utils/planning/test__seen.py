# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What recorded loads took is what is foretold; what takes more is kept, and what is absurd is not believed."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import GIB, MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._engine import MemoryEngine
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_log import (
    EngineDevice,
    LoggedBuffer,
    ServerLog,
    read_server_log,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning import _seen
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._seen import (
    Observed,
    compared,
    observed_from_list,
    observed_of,
    together,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import scheduler_model
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import rules
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, shape

VERSION = "0.33.0-rc2"
NAMES = ("gemma3:4b", "llama3.1:8b", "llama3.2:3b", "qwen3:8b", "nomic-embed-text")
BLOBS = {name: shape(name).digest for name in NAMES}
START = (
    'time=T level=INFO source=llama_server.go:433 msg="starting llama-server" cmd="/x/llama-server --model /b/{} --port 1'
    ' --host 127.0.0.1 -c {} -np {} --flash-attn {}{} -b {} -ub {} --context-shift"'
)


@lru_cache(maxsize=None)
def recorded() -> tuple[tuple[str, ServerLog], ...]:
    """Recorded loads of one GPU of the published models whose headers are here, each by itself."""
    found = []
    for line in (DATA / "ollama_scheduler.jsonl").read_text().splitlines():
        scenario = json.loads(line)
        for step in scenario["steps"] if len(scenario["host"]["gpus_gib"]) == 1 else ():
            runners = {runner["model"]: runner for runner in step["runners"]}
            told = runners.get(step["request"]["model"])
            loads = step["observed"].get("loads") or [{}]
            done, _slash, count = loads[-1].get("offloaded", "0/1").partition("/")
            if (
                told
                and told["model"] in BLOBS
                and done == count
                and told["ngl"] is None
                and not told["cache_k"]
            ):
                model = BLOBS[told["model"]]
                lines = [
                    START.format(model, told["c"], told["np"], told["flash_attn"], "", told["b"], told["ub"])
                ]
                lines += [
                    f"{a}: {b} {kind} buffer size = {size:.2f} MiB"
                    for a, b, kind, size in loads[-1]["buffers"]
                ]
                lines.append('source=sched.go:728 msg="loaded runners" count=1')
                found.append((told["model"], replace(read_server_log(lines), version=VERSION)))
    return tuple(found)


def rows_of(log: ServerLog, most_bytes: int = 80 * GIB, version: str = VERSION) -> tuple[_seen.SeenLoad, ...]:
    models = [scheduler_model(shape(name)) for name in NAMES]
    return compared(log, models, MemoryEngine(), rules(version), [most_bytes])


def test_recorded_loads_took_what_is_foretold():
    logs = recorded()
    assert len(logs) > 40
    assert {name for name, _log in logs} >= {"gemma3:4b", "llama3.1:8b", "llama3.2:3b"}
    for _name, log in logs:
        rows = rows_of(log)
        assert {row.kind for row in rows} == {"weights", "kv_cache", "compute"}
        assert not any(row.is_beyond or row.is_absurd for row in rows), [
            row.message for row in rows if row.is_beyond
        ]
        assert observed_of(rows) == ()


def one(more_mib: float, kind: str = "compute", device: str = "CUDA0") -> ServerLog:
    """A recorded load that took so much more."""
    log = next(log for name, log in recorded() if name == "llama3.1:8b")
    (load,) = log.loads
    buffers = tuple(
        LoggedBuffer(one.device, one.kind, one.size_bytes + round(more_mib * MIB))
        if (one.device, one.kind) == (device, kind)
        else one
        for one in load.buffers
    )
    return replace(log, loads=(replace(load, buffers=buffers),))


@pytest.mark.parametrize(
    ("more_mib", "is_beyond", "is_kept"),
    [(0.2, False, False), (0.3, True, True), (582, True, True), (-0.3, True, False)],
)
def test_a_difference_beyond_the_bound_is_told_and_only_more_is_kept(more_mib, is_beyond, is_kept):
    rows = rows_of(one(more_mib))
    assert any(row.is_beyond for row in rows) is is_beyond
    assert bool(observed_of(rows)) is is_kept


def test_what_took_more_is_told_with_all_that_reproduces_it():
    log = one(582)
    row = next(row for row in rows_of(log) if row.is_beyond)
    assert row.message.startswith(
        f"llama3.1:8b ({row.parallel} x {row.context_length}, batch {row.batch}) took 582 MiB more"
    )
    assert "(exact)" in row.message
    assert row.to_dict()["difference_bytes"] == row.seen_bytes - row.predicted_bytes
    (observed,) = observed_of(rows_of(log))
    assert observed.more_bytes == ((0, 0, row.difference_bytes),)
    assert observed_from_list([observed.to_dict()]) == (observed,)


def test_more_than_the_gpu_has_is_not_believed():
    rows = rows_of(one(90 * 1024))
    (row,) = (row for row in rows if row.is_absurd)
    assert "is said to have taken" in row.message
    assert observed_of(rows) == ()


def without(*kinds: str) -> ServerLog:
    """A recorded load of which the server has not said what these buffers take on the GPU."""
    (load,) = one(0).loads
    kept = tuple(one for one in load.buffers if not (one.is_on_gpu and one.kind in kinds))
    return replace(one(0), loads=(replace(load, buffers=kept),))


@pytest.mark.parametrize(
    "log",
    [
        replace(one(582), version="0.32.0"),
        replace(one(582), loads=(replace(one(582).loads[0], layers=33, layers_on_gpu=20),)),
        replace(one(582), loads=(replace(one(582).loads[0], buffers=one(582).loads[0].buffers[:2]),)),
        one(2048, "weights", "CPU_Mapped"),
        without("weights"),
        without("compute"),
        without("weights", "kv_cache", "compute"),
    ],
    ids=[
        *("another version", "layers on the CPU", "lines are missing", "experts on the CPU"),
        *("no weights", "no compute buffer", "nothing on a GPU"),
    ],
)
def test_loads_that_say_nothing_about_the_rules(log):
    assert rows_of(log) == ()


def test_loads_of_a_version_without_llama_server_are_not_compared():
    assert rows_of(replace(one(582), version="0.24.0"), version="0.24.0") == ()


def test_a_cache_of_which_nothing_is_said_took_nothing():
    """As of a model that only embeds, which has none."""
    seen = {row.kind: row.seen_bytes for row in rows_of(without("kv_cache"))}
    assert (set(seen), seen["kv_cache"]) == ({"weights", "kv_cache", "compute"}, 0)


def test_a_difference_is_told_in_a_sentence():
    (row,) = (row for row in rows_of(one(582)) if row.is_beyond)
    row = replace(row, predicted_bytes=64 * MIB, seen_bytes=646 * MIB + MIB // 2, when="T")
    settings = f"llama3.1:8b ({row.parallel} x {row.context_length}, batch {row.batch})"
    assert row.message == (
        f"{settings} took 582 MiB more of GPU 0 for its compute buffer than foretold (exact): 646.50 MiB, not 64.00 MiB, at T"
    )
    assert f"{settings} took 64 MiB less of GPU 0" in replace(row, seen_bytes=0).message


def test_a_gpu_has_no_less_than_was_seen_of_it():
    seen = max(row.seen_bytes for row in rows_of(one(0)))
    for has_bytes, absurd in ((seen, 0), (seen - 1, 1)):
        assert sum(row.is_absurd for row in rows_of(one(0), has_bytes)) == absurd


class Unsure(MemoryEngine):
    def start(self, model, launch, free_bytes):
        started = super().start(model, launch, free_bytes)
        return replace(started, memory=replace(started.memory, basis="estimate"))


def test_less_than_an_upper_bound_is_no_surprise():
    models = [scheduler_model(shape("llama3.1:8b"))]
    for more_mib, is_beyond in ((-30, False), (30, True)):
        rows = compared(one(more_mib), models, Unsure(), rules(VERSION), [80 * GIB])
        assert {row.basis for row in rows} == {"estimate"}
        assert any(row.is_beyond for row in rows) is is_beyond


def test_of_tags_of_one_file_the_one_with_the_projector_is_compared_where_one_was_loaded():
    plain = shape("llama3.1:8b")
    seeing = replace(plain, name="seeing", projector_bytes=GIB)
    models = [scheduler_model(plain), scheduler_model(seeing)]
    for has_projector, known, name in (
        (False, models, "llama3.1:8b"),
        (True, models, "seeing"),
        (True, models[:1], "llama3.1:8b"),
        (False, models[1:], "seeing"),
    ):
        rows = compared(launched(has_projector=has_projector), known, MemoryEngine(), rules(VERSION), [80 * GIB])
        assert {row.model for row in rows} == {name}


def over_two_gpus(free_gib=(24, 24), more=()) -> ServerLog:
    """A load divided over two GPUs that took as foretold, but for so much more, by GPU and kind."""
    launch = launched(context_total=4 * 8192, parallel=4, batch=512)
    (load,) = launch.loads
    devices = tuple(EngineDevice(f"CUDA{number}", "", size * GIB) for number, size in enumerate(free_gib))
    sizes = {(number, kind): 1 for number in range(2) for kind in ("weights", "kv_cache", "compute")}

    def log() -> ServerLog:
        buffers = tuple(LoggedBuffer(f"CUDA{number}", kind, size) for (number, kind), size in sizes.items())
        return replace(launch, loads=(replace(load, devices=devices, buffers=buffers),))

    sizes.update({(row.gpu, row.kind): row.predicted_bytes for row in rows_of(log())})
    for key, size in more:
        sizes[key] += size
    return log()


def test_a_load_over_two_gpus_is_compared_on_each():
    model, rows = shape("llama3.1:8b"), rows_of(over_two_gpus())
    assert [row.gpu for row in rows] == [0, 0, 0, 1, 1, 1]
    assert not any(row.is_beyond for row in rows)
    assert {(row.context_length, row.parallel) for row in rows} == {(8192, 4)}
    # 32 layers of 8 heads of 128 elements in keys and values of two bytes, and all weights but the embeddings.
    taken = {kind: [row.seen_bytes for row in rows if row.kind == kind] for kind in ("kv_cache", "weights")}
    assert sum(taken["kv_cache"]) == 4 * 8192 * 32 * 2 * 8 * 128 * 2
    assert 0.9 * model.text_bytes < sum(taken["weights"]) <= model.text_bytes
    assert all(min(sizes) > 0.3 * sum(sizes) for sizes in taken.values())
    first, second = (over_two_gpus(more=[((gpu, "kv_cache"), 5 * MIB)]) for gpu in range(2))
    assert [one.more_bytes for one in observed_of(rows_of(first))] == [((0, 5 * MIB, 0),)]
    assert [one.more_bytes for one in observed_of(rows_of(second))] == [((0, 0, 0), (0, 5 * MIB, 0))]


@pytest.mark.parametrize("free_gib", [(24,), (2, 2), (9, 0)], ids=["one is not told", "it spills", "it was fitted anew"])
def test_a_load_over_two_gpus_of_which_the_rules_do_not_know_what_lies_where_says_nothing(free_gib):
    (load,) = over_two_gpus().loads
    devices = tuple(EngineDevice(f"CUDA{number}", "", size * GIB) for number, size in enumerate(free_gib))
    assert rows_of(replace(over_two_gpus(), loads=(replace(load, devices=devices),))) == ()


def launched(**changes: object) -> ServerLog:
    log = one(582)
    (load,) = log.loads
    return replace(log, loads=(replace(load, launched=replace(load.launched, **changes)),))


@pytest.mark.parametrize(
    "changes",
    [
        {"kv_cache_type": "q5_1"},
        {"flash_attention": "perhaps"},
        {"parallel": 0},
        {"parallel": 4, "context_total": 3},
        {"batch": 0},
        {"has_adapter": True},
        {"num_gpu": 0},
        {"num_gpu": 33},
        # The engine refuses it.
        {"kv_cache_type": "q8_0", "flash_attention": "off"},
    ],
)
def test_launches_that_say_nothing_about_the_rules(changes):
    assert rows_of(launched()) != ()
    assert rows_of(launched(**changes)) == ()


@pytest.mark.parametrize("changes", [{"parallel": 4, "context_total": 4}, {"kv_cache_type": "", "batch": 1}])
def test_launches_that_are_just_such_as_the_rules_know(changes):
    assert rows_of(launched(**changes)) != ()


@pytest.mark.parametrize(("more_mib", "is_compared"), [(15.5, True), (16.5, False)])
def test_less_than_a_layer_on_the_cpu_is_no_layer(more_mib, is_compared):
    assert bool(rows_of(one(more_mib, "weights", "CPU_Mapped"))) is is_compared


@pytest.mark.parametrize(
    ("more_bytes", "is_beyond"), [(MIB // 4, False), (MIB // 4 + 1, True), (-MIB // 4, False), (-MIB // 4 - 1, True)]
)
def test_what_is_foretold_exactly_is_so_within_a_quarter_of_a_mib(more_bytes, is_beyond):
    row = next(row for row in rows_of(one(0)) if row.kind == "compute")
    assert row.basis == "exact"
    rows = rows_of(one((row.predicted_bytes + more_bytes - row.seen_bytes) / MIB))
    assert [row.is_beyond for row in rows if row.kind == "compute"] == [is_beyond]


def test_of_many_loads_64_are_compared():
    log = one(0)
    assert len(rows_of(replace(log, loads=log.loads * 65))) == 64 * 3


BASE = Observed("sha256-a", VERSION, 10488, 8192, 4, 512, "f16", "auto", ((1, 2, 3),))


@pytest.mark.parametrize(
    ("remembered", "now", "kept"),
    [
        ([BASE], [], [BASE]),
        ([], [BASE], [BASE]),
        ([replace(BASE, version="0.32.0")], [BASE], [BASE]),
        ([replace(BASE, version="0.32.0"), replace(BASE, version="0.40.2")], [], []),
        ([BASE], [replace(BASE, more_bytes=((3, 2, 1),))], [replace(BASE, more_bytes=((3, 2, 3),))]),
        (
            [BASE],
            [replace(BASE, more_bytes=((0, 0, 0), (9, 9, 9)))],
            [replace(BASE, more_bytes=((1, 2, 3), (9, 9, 9)))],
        ),
        (
            [replace(BASE, more_bytes=((0, 0, 0), (9, 0, 9)))],
            [BASE],
            [replace(BASE, more_bytes=((1, 2, 3), (9, 0, 9)))],
        ),
        ([BASE], [replace(BASE, parallel=2)], [BASE, replace(BASE, parallel=2)]),
    ],
)
def test_what_was_remembered_and_what_is_seen_now_never_become_less(remembered, now, kept):
    assert list(together(remembered, now, VERSION)) == kept


def test_of_many_the_newest_are_kept():
    many = [replace(BASE, parallel=count) for count in range(1, 100)]
    assert together(many, [], VERSION) == tuple(many[-32:])


@pytest.mark.parametrize(
    "rubbish",
    [
        [1],
        [{}],
        [{**BASE.to_dict(), "more_bytes": [[-1, 0, 0]]}],
        [{**BASE.to_dict(), "more_bytes": [[1, 2]]}],
        [{**BASE.to_dict(), "more_bytes": [[1, 2, 3, 4]]}],
        [{**BASE.to_dict(), "parallel": "x"}],
        5,
    ],
)
def test_a_record_of_another_form_is_one_sentence(rubbish):
    with pytest.raises(ValueError, match="what was observed of loads is not in the form that was written"):
        observed_from_list(rubbish)
