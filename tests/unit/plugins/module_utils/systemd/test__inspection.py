# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at a unit: files on disk, what systemd holds, what the process has, and what differs from what is wanted."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _inspection, _show
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._inspection import inspect, listening
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._process import Socket
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secret_file import MARKER
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import Completed, Manager

UNIT, NAME = "ollama.service", "zz-gpufleet.conf"
WANTED = '[Service]\nEnvironment="A=3"\n'


def fail(error):
    raise error


class World:
    """A unit's files in a folder, a real process as its main process, and what systemctl shows."""

    def __init__(self, root, monkeypatch):
        self.root = root
        self.pid = 0
        self.properties = {
            "LoadState": "loaded",
            "ActiveState": "active",
            "NeedDaemonReload": "no",
            "Environment": "",
        }
        monkeypatch.setattr(
            _inspection, "dropin_base_directory", lambda scope, runtime: str(root / ("run" if runtime else "etc"))
        )
        monkeypatch.setattr(_inspection, "state_directory", lambda scope, unit: str(root / "state"))
        self.write("lib/ollama.service", "[Service]\nEnvironment=PATH=/bin\nExecStart=/bin/ollama serve\n")

    def write(self, path, text):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return str(target)

    def dropin(self, name, text):
        return self.write(f"etc/{UNIT}.d/{name}", text)

    def ours(self, text):
        return self.dropin(NAME, f"{MARKER}\n{text}")

    def look(self, content=None, environment=(), foreseen=None):
        return inspect(self.run, self.manager(environment), UNIT, NAME, content, foreseen=foreseen)

    def run(self, command):
        shown = {**self.properties, "MainPID": self.pid, "FragmentPath": self.root / "lib" / "ollama.service"}
        return Completed(0, "".join(f"{name}={value}\n" for name, value in shown.items()), "")

    def manager(self, environment=()):
        return Manager("system", 252, (str(self.root / "etc"), str(self.root / "lib")), environment)


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


@pytest.fixture
def running(world):
    """Starts the main process with an environment."""
    processes = []

    def start(environment):
        process = subprocess.Popen(["/bin/sleep", "60"], env=environment)
        processes.append(process)
        world.pid = process.pid
        while environment and not Path(f"/proc/{process.pid}/environ").read_bytes():
            time.sleep(0.001)

    yield start
    for process in processes:
        process.kill()
        process.wait()


def layers(inspection):
    return [(difference.layer, difference.variable) for difference in inspection.differences]


def test_every_variable_with_its_place(world):
    override = world.dropin("override.conf", "[Service]\nEnvironment=A=1 HF_TOKEN=hunter2\n")
    ours = world.ours('[Service]\nEnvironment="A=3"\n')
    found = world.look().to_dict()
    assert [file["path"] for file in found["files"]] == [
        str(world.root / "lib/ollama.service"),
        override,
        ours,
    ]
    assert found["variables"]["A"] == {
        "value": "3",
        "file": ours,
        "line": 3,
        "kind": "drop-in",
        "overridden": [{"file": override, "line": 2, "kind": "drop-in", "value": "1"}],
    }
    assert found["variables"]["HF_TOKEN"]["value"] == "********"
    assert world.look().to_dict(show_secrets=True)["variables"]["HF_TOKEN"]["value"] == "hunter2"
    assert (found["wanted"], found["differences"], found["conflicts"]) == (None, [], [])


def test_a_specifier_has_the_value_that_systemd_gave_it(world):
    literal = world.write("env", "D=%h\n")
    world.dropin("a.conf", f"[Service]\nEnvironment=A=%h/x B=1 C=%h\nEnvironmentFile={literal}\n")
    world.write("lib/ollama.service", "[Service]\nEnvironment=E=%h\n")
    world.properties["Environment"] = "A=/root/x B=2 D=/root E=/root"
    values = {name: one["value"] for name, one in world.look().to_dict()["variables"].items()}
    # What systemd has not read yet stays as it is written, and in an environment file a % is one.
    assert values == {"A": "/root/x", "B": "1", "C": "%h", "D": "%h", "E": "/root"}


def test_our_dropin_lies_where_the_next_boot_keeps_it_unless_it_is_said_to_be_for_this_one(world):
    sights = [_inspection.look(world.run, world.manager(), UNIT, NAME, *runtime) for runtime in ((), (False,), (True,))]
    assert [sight.where.path.split("/")[-3] for sight in sights] == ["etc", "etc", "run"]


@pytest.mark.parametrize(
    ("in_sync", "conflicts", "refusals", "planned"),
    [(True, [], [], True), (False, [], [], False), (True, [1], [], False), (True, [], [1], False)],
)
def test_there_is_nothing_to_apply_where_all_is_in_sync_and_nothing_is_in_the_way(in_sync, conflicts, refusals, planned):
    assert _inspection.as_planned({"in_sync": in_sync, "conflicts": conflicts, "refusals": refusals}) is planned


def test_nothing_differs_when_every_layer_has_it(world, running):
    world.ours(WANTED)
    world.properties["Environment"] = "PATH=/bin A=3"
    running({"A": "3", "PATH": "/bin"})
    found = world.look(WANTED)
    assert found.differences == ()
    assert found.process_differs == []
    told = found.to_dict()
    assert (told["main_pid"], told["in_sync"], told["as_planned"]) == (world.pid, True, True)
    running({"A": "4", "PATH": "/bin"})
    told = world.look(WANTED).to_dict()
    assert (told["in_sync"], told["as_planned"], bool(told["differences"])) == (False, False, True)


def test_a_service_that_does_not_run_has_no_process(world):
    told = world.look(WANTED).to_dict()
    assert (told["main_pid"], told["children"], told["process_environment"], told["process_differs"]) == (None, [], None, [])


def test_the_children_are_the_processes_beside_the_main_one(world, running, monkeypatch):
    running({})
    found = [_inspection.Process(world.pid + more, (str(more),), 0) for more in (-1, 0, 1)]
    monkeypatch.setattr(_inspection, "unit_processes", lambda pid: found if pid == world.pid else [])
    assert [child["command"] for child in world.look().to_dict()["children"]] == [["-1"], ["1"]]


def test_all_layers_are_compared(world, running):
    running({"PATH": "/bin"})
    world.properties["NeedDaemonReload"] = "yes"
    assert layers(world.look(WANTED)) == [("file", "A"), ("unit", "A"), ("unit", ""), ("process", "A")]


@pytest.mark.parametrize("before", ["2", "4"])
def test_a_process_that_was_not_restarted_differs_from_its_own_unit(world, running, before):
    world.ours(WANTED)
    world.properties["Environment"] = "PATH=/bin A=3"
    running({"A": before, "PATH": "/bin"})
    found = world.look(WANTED)
    assert layers(found) == [("process", "A")]
    assert found.to_dict()["process_differs"] == ["A"]


@pytest.mark.parametrize(
    ("after_s", "reload", "reason"),
    [
        (1, "no", "so what starts it sets another value (ExecStart in "),
        (1, "yes", "must be restarted"),
        (-1, "no", "must be restarted"),
    ],
)
def test_a_process_that_is_younger_than_our_dropin_was_given_it(world, running, after_s, reload, reason):
    path = world.ours(WANTED)
    booted_at = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    started_at = os.stat(path).st_mtime + after_s
    world.properties.update(
        Environment="PATH=/bin A=3",
        NeedDaemonReload=reload,
        ExecMainStartTimestampMonotonic=int((started_at - booted_at) * 1e6),
    )
    running({"A": "9", "PATH": "/bin"})
    messages = [difference.message for difference in world.look(WANTED).differences]
    assert any("runs with A=9, wanted 3: it was started" in one and reason in one for one in messages)


def test_what_an_environment_file_decides_is_no_difference_of_the_process(world, running):
    path = world.write("env", "A=9\n")
    world.dropin("a.conf", f"[Service]\nEnvironment=A=1\nEnvironmentFile={path}\n")
    world.properties["Environment"] = "A=1"
    running({"A": "9"})
    found = world.look()
    assert found.process_differs == []
    assert found.to_dict()["environment_files"] == [path]
    assert found.to_dict()["variables"]["A"]["kind"] == "environment file"


def test_a_variable_our_dropin_dropped_must_leave_the_process(world, running):
    world.ours("[Service]\nEnvironment=A=3 B=1\n")
    world.properties["Environment"] = "A=3 B=1"
    running({"A": "3", "B": "1"})
    assert layers(world.look(WANTED)) == [("file", "B"), ("process", "B")]
    world.ours(WANTED)
    world.write(
        "state/former/zz-gpufleet.conf/20260101T000000.000000Z.conf",
        f"{MARKER}\n[Service]\nEnvironment=A=3 B=1\n",
    )
    assert layers(world.look(WANTED)) == [("process", "B")]
    assert layers(world.look(WANTED, environment=(("B", "1"),))) == []


def test_an_empty_content_wants_no_dropin(world, running):
    world.ours(WANTED)
    running({"A": "3"})
    assert layers(world.look("")) == [("file", "A"), ("process", "A")]


def test_conflicts_and_overrides_are_foreseen_before_anything_is_written(world):
    last = world.dropin("zzz.conf", "[Service]\nEnvironment=A=9\n")
    found = world.look(WANTED).to_dict()
    assert found["conflicts"][0]["file"] == last
    assert found["conflicts"][0]["line"] == 2
    os.unlink(last)
    override = world.dropin("override.conf", "[Service]\nEnvironment=A=9\n")
    found = world.look(WANTED).to_dict()
    assert found["conflicts"] == []
    assert found["overrides"] == [f"our drop-in overrides A set in {override}:2"]


def test_refusals(world, monkeypatch):
    world.properties["LoadState"] = "masked"
    assert world.look().refusals == (
        "systemd does not load ollama.service, its state is masked: repair the unit first",
    )
    world.properties.update(LoadState="bad-setting", LoadError="org.freedesktop.systemd1.BadUnitSetting")
    assert "(org.freedesktop.systemd1.BadUnitSetting)" in world.look().refusals[0]
    world.properties["LoadState"] = "not-found"
    monkeypatch.setattr(_inspection, "missing", lambda unit, scope: f"{scope} has no {unit}")
    assert world.look(WANTED).refusals == ("system has no ollama.service",)
    assert world.look(WANTED).differences == ()


def test_a_file_that_another_run_of_ours_wrote_is_not_to_be_edited(world):
    path = world.dropin("zzz-gpufleet-benchmark.conf", f"{MARKER}\n{WANTED}")
    (conflict,) = world.look(WANTED.replace("3", "4")).conflicts
    assert conflict.message.startswith(f"{path}:3 sets A, and another run of gpufleet.ollama wrote that file")
    assert f"wait until that run has ended, or remove {path} if it was killed" in conflict.message


def test_a_unit_that_only_starts_a_container_is_refused(world, tmp_path):
    script = tmp_path / "start.sh"
    script.write_text("#!/bin/sh\ndocker run ollama/ollama\n")
    for start in ("/usr/bin/docker start -a ollama", str(script)):
        world.write("lib/ollama.service", f"[Service]\nExecStart={start}\n")
        assert "runs its program in a container (docker)" in world.look().refusals[0]


def test_a_file_of_our_name_by_somebody_else_is_refused(world):
    world.dropin(NAME, "[Service]\n")
    assert "was not written by gpufleet.ollama" in world.look().refusals[0]


def test_what_cannot_be_read_is_a_problem_and_no_crash(world, monkeypatch):
    world.pid = 2**22 + 1
    assert f"process {world.pid} of ollama.service cannot be read" in world.look().problems[0]
    monkeypatch.setattr(_inspection, "server_environment", lambda pid: fail(PermissionError()))
    assert "may not be read: run as root (become)" in world.look().problems[0]
    world.pid = 0
    (world.root / "lib" / "ollama.service").unlink()
    assert "a file of ollama.service cannot be read" in world.look().problems[0]


def test_a_drop_in_that_cannot_be_read_is_not_said_to_lack_anything(world, running, monkeypatch):
    running({"A": "3"})
    world.properties["Environment"] = "A=3"
    monkeypatch.setattr(_inspection, "unit_files", lambda *_where: fail(PermissionError(13, "Permission denied")))
    found = world.look(WANTED)
    assert (found.differences, len(found.problems)) == ((), 1)


def test_two_names_of_one_service_have_one_id_and_other_services_have_others(world, monkeypatch):
    monkeypatch.setattr(_show, "MACHINE_ID", "/nowhere")
    assert world.look().service_id == ""
    monkeypatch.setattr(_show, "MACHINE_ID", world.write("machine-id", "0123abcd\n"))
    found = [world.look().service_id]
    for names in ("ollama.service", f"alias.service {UNIT}", f"{UNIT} alias.service", "other.service"):
        world.properties["Names"] = names
        found.append(world.look().service_id)
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert len({*found}) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in found)


def test_a_process_that_ends_meanwhile_is_looked_for_again(world, running, monkeypatch):
    running({"A": "3"})
    real = _inspection.server_environment
    answers = [OSError(3, "No such process"), None]

    def read(pid):
        failure = answers.pop(0)
        if failure:
            raise failure
        return real(pid)

    monkeypatch.setattr(_inspection, "server_environment", read)
    found = world.look(WANTED)
    assert (found.process, found.problems, answers) == ({"A": "3"}, (), [])


def test_an_environment_file_that_cannot_be_read_is_a_problem(world, monkeypatch):
    monkeypatch.setattr(_inspection, "environment_files", lambda *_references: fail(OSError("broken")))
    assert world.look().problems == (
        "an environment file cannot be read: broken; run as root (become)",
    )
    told = world.look(WANTED).to_dict()
    assert (told["problems"], told["unseen"]) == ([*world.look().problems], [*world.look().problems])
    # What was not seen may be anything.
    world.properties["Environment"] = "A=3"
    world.ours(WANTED)
    told = world.look(WANTED).to_dict()
    assert (told["differences"], told["in_sync"]) == ([], False)


def test_a_state_folder_that_cannot_be_read_is_taken_for_empty(world, monkeypatch):
    monkeypatch.setattr(_inspection, "newest_former", lambda where: fail(OSError()))
    assert layers(world.look(WANTED)) == [("file", "A"), ("unit", "A")]


def test_a_unit_without_processes_listens_nowhere(world):
    assert listening(world.look()) == []


def test_a_unit_listens_where_its_own_processes_do(world, monkeypatch):
    sockets = [
        Socket("::", 11434, listening, "::", 0, port, pid)
        for port, listening, pid in ((1, True, 7), (2, True, None), (3, False, 7), (4, False, None))
    ]
    monkeypatch.setattr(_inspection, "tcp_sockets", lambda owners: sockets)
    assert listening(world.look()) == [{"address": "::", "port": 11434, "pid": 7}]


WANTED_WITH_BOTH = '[Service]\nEnvironment="A=3"\nEnvironment="HF_TOKEN=hunter2"\n'


def with_secrets(world, value="hunter2", mode=0o600):
    """Our drop-in and its environment file, as they are written."""
    file = world.dropin("zz-gpufleet.env", f'{MARKER}\nHF_TOKEN="{value}"\n')
    os.chmod(file, mode)
    return world.ours(f'[Service]\nEnvironment="A=3"\nEnvironmentFile={file}\n'), file


def test_secrets_of_our_environment_file_are_as_wanted_in_every_layer(world, running):
    dropin, file = with_secrets(world)
    world.properties["Environment"] = "PATH=/bin A=3"
    running({"PATH": "/bin", "A": "3", "HF_TOKEN": "hunter2"})
    found = world.look(WANTED_WITH_BOTH)
    assert (found.differences, found.conflicts, found.overrides, found.problems) == ((), (), (), ())
    shown = found.to_dict()
    assert shown["variables"]["HF_TOKEN"]["file"] == file
    assert shown["variables"]["A"]["file"] == dropin
    assert shown["wanted"] == {"A": "3", "HF_TOKEN": "********"}
    assert "hunter2" not in str(shown)


def test_another_secret_differs_without_being_shown(world, running):
    with_secrets(world, "hunter3")
    world.properties["Environment"] = "PATH=/bin A=3"
    running({"PATH": "/bin", "A": "3", "HF_TOKEN": "hunter3"})
    found = world.look(WANTED_WITH_BOTH)
    assert layers(found) == [("file", "HF_TOKEN"), ("process", "HF_TOKEN")]
    assert "HF_TOKEN=********, wanted another value" in found.differences[0].message
    assert "hunter" not in str(found.to_dict())


def test_a_secret_that_others_can_read_is_a_difference(world):
    with_secrets(world, mode=0o644)
    world.properties["Environment"] = "PATH=/bin A=3"
    (exposed,) = world.look(WANTED_WITH_BOTH).differences
    assert "zz-gpufleet.env can be read by others than its owner" in exposed.message
    world.ours('[Service]\nEnvironment="A=3" "HF_TOKEN=hunter2"\n')
    assert "sets HF_TOKEN for all to read" in world.look(WANTED_WITH_BOTH).differences[0].message


def test_a_secret_of_ours_wins_over_the_environment_file_of_another_and_says_who_wins_over_it(world):
    with_secrets(world)
    theirs = world.write("theirs.env", "HF_TOKEN=theirs\n")
    world.dropin("a.conf", f"[Service]\nEnvironmentFile={theirs}\n")
    assert world.look(WANTED_WITH_BOTH).conflicts == ()
    later = world.dropin("zzz.conf", f"[Service]\nEnvironmentFile={theirs}\n")
    (conflict,) = world.look(WANTED_WITH_BOTH).conflicts
    assert f"{theirs}:1 sets HF_TOKEN" in conflict.message
    os.unlink(later)
    benchmark = "zzz-gpufleet-benchmark"
    world.dropin(f"{benchmark}.env", f"{MARKER}\nHF_TOKEN=benchmark\n")
    setting = f"EnvironmentFile={world.root}/etc/{UNIT}.d/{benchmark}.env"
    world.dropin(f"{benchmark}.conf", f"{MARKER}\n[Service]\n{setting}\n")
    (held,) = world.look(WANTED_WITH_BOTH).conflicts
    assert "another run of gpufleet.ollama wrote that file" in held.message


def test_a_secret_that_is_wanted_first_is_only_missing(world):
    world.ours('[Service]\nEnvironment="A=3"\n')
    world.properties["Environment"] = "A=3"
    found = world.look(WANTED_WITH_BOTH)
    assert layers(found) == [("file", "HF_TOKEN")]
    assert found.conflicts == ()


def test_an_environment_file_of_ours_that_cannot_be_read_is_a_problem(world, monkeypatch):
    with_secrets(world)
    error = PermissionError(13, "Permission denied")
    monkeypatch.setattr(_inspection, "with_secret_file", lambda path, text: fail(error))
    assert "the secret values of our drop-in cannot be read" in world.look(WANTED_WITH_BOTH).problems[0]


def test_a_dropin_of_ours_under_a_former_name_is_still_in_force_and_no_conflict(world, running):
    """Whether it sorts before or after the new name: the change that writes the new one removes it."""
    world.ours(WANTED)
    world.properties["Environment"] = "A=3 B=9"
    running({"A": "3", "B": "9"})
    for name in ("aa-old.conf", "zzz-old.conf"):
        old = world.dropin(name, f'{MARKER}\n[Service]\nEnvironment="A=9" "B=9"\n')
        found = world.look(WANTED)
        assert [one.cause for one in found.differences] == ["former name", ""]
        assert f"{old} was written by gpufleet.ollama before our drop-in was to be" in found.differences[0].message
        assert layers(found) == [("file", ""), ("process", "B")]
        assert found.conflicts == ()
        # It counts as long as it lies there, and not for who wants to foresee what ours would make of the unit.
        assert "B" in found.variables
        assert "B" not in world.look(None, foreseen={"A": False}).variables
        os.unlink(old)


def test_what_would_overrule_our_dropin_is_told_before_there_is_one(world):
    last = world.dropin("zzz.conf", "[Service]\nEnvironment=\n")
    found = world.look(None, foreseen={"A": False, "HF_TOKEN": True})
    assert [(one.name, one.file) for one in found.conflicts] == [("A", last)]
    assert found.differences == ()
    os.unlink(last)
    last = world.dropin("zzz.conf", "[Service]\nEnvironmentFile=\n")
    assert [one.name for one in world.look(None, foreseen={"A": False, "HF_TOKEN": True}).conflicts] == ["HF_TOKEN"]
    assert world.look().conflicts == ()


def test_a_process_that_was_started_after_the_file_and_has_another_value_names_what_started_it(world, running):
    dropin = world.ours(WANTED)
    world.properties["Environment"] = "A=3"
    running({"A": "9"})
    booted_at = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)

    def starts(after_s):
        moment = os.stat(dropin).st_ctime + after_s - booted_at
        world.properties["ExecMainStartTimestampMonotonic"] = str(int(moment * 1e6))

    starts(after_s=1)
    (difference,) = world.look(WANTED).differences
    assert difference.cause == "set at start"
    assert "it was started after the drop-in was written" in difference.message
    # Moved there after the start, with the time of an older change.
    os.utime(dropin, (1, 1))
    starts(after_s=-1)
    (difference,) = world.look(WANTED).differences
    assert (difference.cause, "and must be restarted" in difference.message) == ("", True)


@pytest.mark.parametrize(
    ("active", "enabled", "stopped", "notes"),
    [
        ("active", "enabled", False, 0),
        ("active", "disabled", False, 1),
        ("active", "static", False, 0),
        ("active", "bad", False, 0),
        ("activating", "disabled", False, 0),
        ("reloading", "disabled", False, 0),
        ("inactive", "enabled", False, 0),
        ("inactive", "disabled", True, 0),
        ("failed", "disabled", False, 0),
    ],
)
def test_who_stopped_and_disabled_a_service_wants_it_not_to_run(world, active, enabled, stopped, notes):
    world.properties.update(ActiveState=active, UnitFileState=enabled)
    found = world.look(WANTED)
    assert (bool(found.stopped), len(found.notes)) == (stopped, notes)
    assert "ollama_override_start_stopped" in found.stopped or not stopped
    assert not notes or "will not start at boot" in found.notes[0]


@pytest.mark.parametrize(("gone_times", "is_read"), [(0, True), (2, True), (3, False)])
def test_a_process_that_has_ended_is_looked_for_three_times(monkeypatch, gone_times, is_read):
    gone = iter([True] * gone_times + [False])
    slept = []

    def environment(pid):
        if next(gone):
            raise ProcessLookupError(errno.ESRCH, "No such process")
        return {"A": str(pid)}

    monkeypatch.setattr(_inspection, "unit_state", lambda *_asked: SimpleNamespace(main_pid=7))
    monkeypatch.setattr(_inspection, "server_environment", environment)
    monkeypatch.setattr(_inspection.time, "sleep", slept.append)
    problems = []
    _state, found = _inspection._state_and_process(None, "system", "o.service", problems)
    assert found == ({"A": "7"} if is_read else None)
    assert problems == ([] if is_read else ["process 7 of o.service cannot be read: No such process"])
    assert slept == [0.2] * min(gone_times, 2)


@pytest.mark.parametrize(
    ("started_at_s", "by"), [(None, ""), (99.0, ""), (100.049, ""), (100.05, "its ExecStart"), (200.0, "its ExecStart")]
)
def test_a_process_is_newer_than_a_file_by_a_tick_at_least(monkeypatch, started_at_s, by):
    where = SimpleNamespace(path="/d/zz.conf")
    for times in ((100.0, 90.0), (90.0, 100.0)):
        monkeypatch.setattr(_inspection.os, "stat", lambda path, of=times: SimpleNamespace(st_mtime=of[0], st_ctime=of[1]))
        found = _inspection._started_since(SimpleNamespace(started_at_s=started_at_s), where, ())
        monkeypatch.undo()
        assert found == by


@pytest.mark.parametrize(
    ("stats", "by"),
    [
        ({}, ""),
        ({"/d/zz.env": 100.0}, "its ExecStart"),
        ({"/d/zz.env": 300.0}, ""),
        ({"/d/zz.conf": 100.0, "/d/zz.env": 300.0}, ""),
        ({"/d/zz.conf": 300.0, "/d/zz.env": 100.0}, ""),
        ({"/d/zz.conf": None, "/d/zz.env": 100.0}, ""),
    ],
)
def test_a_process_is_newer_than_both_files_of_ours_that_are_there(monkeypatch, stats, by):
    def stat(path):
        if path not in stats:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        if stats[path] is None:
            raise PermissionError(errno.EACCES, "Permission denied")
        return SimpleNamespace(st_mtime=stats[path], st_ctime=stats[path])

    monkeypatch.setattr(_inspection.os, "stat", stat)
    found = _inspection._started_since(SimpleNamespace(started_at_s=200.0), SimpleNamespace(path="/d/zz.conf"), ())
    monkeypatch.undo()
    assert found == by


def test_the_last_command_that_starts_a_service_is_named(monkeypatch):
    commands = [SimpleNamespace(file=f"/u{number}", line=number) for number in (1, 2, 3)]
    monkeypatch.setattr(_inspection.os, "stat", lambda path: SimpleNamespace(st_mtime=1.0, st_ctime=1.0))
    found = _inspection._started_since(SimpleNamespace(started_at_s=2.0), SimpleNamespace(path="/d/zz.conf"), commands)
    monkeypatch.undo()
    assert found == "ExecStart in /u3:3"
