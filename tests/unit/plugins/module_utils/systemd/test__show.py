# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemctl prints becomes a state; absence of systemd is one sentence."""

from __future__ import annotations

import os
import re
import time
from types import SimpleNamespace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _show
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._precedence import (
    EnvironmentFileReference,
    expand_unit_specifiers,
    secret_file_setting,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    Completed,
    SystemdError,
    manager,
    memory_limit_bytes,
    parse_properties,
    parse_unit_state,
    parse_version,
    unit_state,
)

SHOWN = """\
Id=ollama.service
Names=ollama.service alias.service
LoadState=loaded
LoadError=
ActiveState=active
SubState=running
Result=success
UnitFileState=enabled
FragmentPath=/etc/systemd/system/ollama.service
Environment=PATH=/bin "A=x y\u2028z"
NeedDaemonReload=yes
MainPID=42
NRestarts=3
ExecMainStartTimestampMonotonic=5000000
InvocationID=0123456789abcdef0123456789abcdef
User=ollama
"""


def answering(stdout="", stderr="", code=0):
    asked = []

    def run(command):
        asked.append(command)
        return Completed(code, stdout, stderr)

    return run, asked


def test_a_state_from_what_systemctl_shows():
    run, asked = answering(SHOWN)
    state = unit_state(run, "system", "ollama.service")
    assert asked[0][:2] == ["systemctl", "show"]
    assert asked[0][-2:] == ["--", "ollama.service"]
    assert state.exists
    assert state.aliases == ("ollama.service", "alias.service")
    assert state.environment == (("PATH", "/bin"), ("A", "x y\u2028z"))
    assert (state.need_daemon_reload, state.main_pid, state.restarts, state.user) == (True, 42, 3, "ollama")
    assert state.started_at.endswith("+00:00")


def test_when_a_unit_was_started_is_told_by_the_clock_and_since_1970(monkeypatch):
    monkeypatch.setattr(_show, "_booted_at_s", lambda: 1000.25)
    state = parse_unit_state("ollama.service", parse_properties(f"{SHOWN}Job=17\n"))
    assert (state.started_at_s, state.started_at, state.job) == (1005.25, "1970-01-01T00:16:45+00:00", 17)


def test_the_host_was_booted_so_long_ago_as_its_clock_says():
    assert abs(_show._booted_at_s() + time.clock_gettime(time.CLOCK_MONOTONIC) - time.time()) < 5


def test_a_unit_that_does_not_exist_and_never_ran():
    state = parse_unit_state(
        "x.service", parse_properties("LoadState=not-found\nMainPID=0\nNRestarts=[not set]\n")
    )
    assert not state.exists
    assert (state.main_pid, state.restarts, state.started_at) == (0, 0, None)
    assert (state.started_at_s, state.job) == (None, 0)
    assert not parse_unit_state("x.service", {}).exists


def test_a_user_unit_is_asked_of_the_users_manager():
    run, asked = answering(SHOWN)
    unit_state(run, "user", "ollama.service")
    assert asked[0][:3] == ["systemctl", "--user", "show"]


@pytest.mark.parametrize("code", [1, -15])
def test_a_failing_systemctl_is_one_sentence(code):
    run, _asked = answering(stderr="Failed to connect to bus\n", code=code)
    with pytest.raises(
        SystemdError, match=r"systemctl show ollama\.service failed: Failed to connect to bus"
    ):
        unit_state(run, "system", "ollama.service")


def test_the_manager(tmp_path):
    run, _asked = answering('Version=252.38-1~deb12u1\nUnitPath=/etc/s /usr/s\nEnvironment=LANG=C "A=b c"\n')
    found = manager(run, "system", booted=str(tmp_path))
    assert found.version == 252
    assert found.unit_path == ("/etc/s", "/usr/s")
    assert dict(found.environment) == {"LANG": "C", "A": "b c"}


def test_a_host_without_systemd_is_one_sentence(tmp_path):
    run, asked = answering()
    with pytest.raises(SystemdError, match="this host was not booted with systemd"):
        manager(run, "system", booted=str(tmp_path / "absent"))
    assert asked == []


@pytest.mark.parametrize("code", [1, -15])
@pytest.mark.parametrize(("scope", "hint"), [("user", "enable-linger"), ("system", "PID 1")])
def test_a_manager_that_does_not_answer(tmp_path, scope, hint, code):
    run, _asked = answering(stderr="no bus", code=code)
    with pytest.raises(
        SystemdError, match=rf"the {scope} service manager does not answer \(no bus\): .*{hint}"
    ):
        manager(run, scope, booted=str(tmp_path))


@pytest.mark.parametrize(
    ("text", "version"),
    [("252.38-1~deb12u1", 252), ("systemd 247 (247.3-7)", 247), ("v255", 255), ("", 0)],
)
def test_versions(text, version):
    assert parse_version(text) == version


def test_repeated_properties_are_joined():
    assert parse_properties("A=1\nB=x=y\nA=2\nno property\n") == {"A": "1 2", "B": "x=y"}


def test_unit_files_are_found_on_disk_not_in_what_systemd_loaded(tmp_path):
    fragment = tmp_path / "lib" / "o.service"
    for path, text in [
        (fragment, "[Service]\n"),
        (tmp_path / "etc" / "o.service.d" / "zz.conf", "z"),
        (tmp_path / "etc" / "o.service.d" / "masked.conf", ""),
        (tmp_path / "lib" / "o.service.d" / "masked.conf", "m"),
        (tmp_path / "own" / "o.service.d" / "aa.conf", "\udcff"),
    ]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, errors="surrogateescape")
    (tmp_path / "etc" / "o.service.d" / "masked.conf").unlink()
    (tmp_path / "etc" / "o.service.d" / "masked.conf").symlink_to("/dev/null")
    state = parse_unit_state("o.service", {"FragmentPath": str(fragment), "Names": "o.service"})
    (tmp_path / "etc" / "service.d").write_text("no folder")
    path = [str(tmp_path / name) for name in ("absent", "etc", "lib")]
    files = _show.unit_files(state, path, str(tmp_path / "own"))
    assert [(os.path.basename(file.path), file.text) for file in files] == [
        ("o.service", "[Service]\n"),
        ("aa.conf", "\udcff"),
        ("zz.conf", "z"),
    ]


@pytest.mark.parametrize(("load_state", "is_read"), [("loaded", True), ("masked", False), ("merged", True), ("", True)])
def test_the_fragment_of_a_unit_is_read_unless_it_is_masked(tmp_path, load_state, is_read):
    (tmp_path / "o.service").write_text("[Service]\n")
    state = parse_unit_state("o.service", {"FragmentPath": str(tmp_path / "o.service"), "LoadState": load_state})
    assert len(_show.unit_files(state, [], str(tmp_path))) == is_read
    assert _show.unit_files(parse_unit_state("o.service", {"LoadState": load_state}), [], str(tmp_path)) == []


def test_of_a_masked_unit_only_the_dropins_are_read(tmp_path):
    dropin = tmp_path / "o.service.d" / "zz.conf"
    dropin.parent.mkdir()
    dropin.write_text("z")
    state = parse_unit_state("o.service", {"FragmentPath": "/dev/null", "LoadState": "masked", "Names": "o.service"})
    assert [file.path for file in _show.unit_files(state, [], str(tmp_path))] == [str(dropin)]


def test_environment_files_may_be_patterns_and_may_be_absent(tmp_path):
    for name in ("b.env", "a.env"):
        (tmp_path / name).write_text(name)
    references = [
        EnvironmentFileReference(str(tmp_path / "absent"), "/u", 1),
        EnvironmentFileReference(str(tmp_path / "*.env"), "/u", 2),
    ]
    found = _show.environment_files(references, "/d/zz.conf", "unused")
    assert [text for _path, text in found] == ["a.env", "b.env"]


@pytest.mark.parametrize(
    "folder", ["/etc/a.service.d", r"/etc/a\x2db.service.d", "/home/100%/[x]/a.service.d"]
)
def test_our_environment_file_is_the_one_that_is_given(folder):
    pattern = secret_file_setting(f"{folder}/zz.conf").partition("=")[2]
    references = [EnvironmentFileReference(expand_unit_specifiers(pattern, ""), "/u", 1)]
    assert _show.environment_files(references, f"{folder}/zz.conf", "A=1") == [(f"{folder}/zz.env", "A=1")]
    assert _show.environment_files(references, f"{folder}/zz.conf", None) == []


def test_others_environment_files_are_read_beside_ours(tmp_path):
    (tmp_path / "a.env").write_text("A=1")
    references = [EnvironmentFileReference(str(tmp_path / name), "/u", 1) for name in ("zz.env", "absent", "a.env")]
    found = _show.environment_files(references, str(tmp_path / "zz.conf"), "B=2")
    assert found == [(str(tmp_path / "zz.env"), "B=2"), (str(tmp_path / "a.env"), "A=1")]


@pytest.mark.parametrize(("size", "is_read"), [(5, True), (6, False)])
def test_environment_files_may_have_so_many_bytes_together(tmp_path, monkeypatch, size, is_read):
    monkeypatch.setattr(_show, "FILE_LIMIT_BYTES", 10)
    (tmp_path / "1.env").write_text("12345")
    (tmp_path / "2.env").write_text("1" * size)
    references = [EnvironmentFileReference(str(tmp_path / "*"), "/u", 1)]
    if is_read:
        assert len(_show.environment_files(references, "/d/zz.conf", None)) == 2
    else:
        with pytest.raises(ValueError, match=r"longer than 10 bytes in all, up to .*2\.env"):
            _show.environment_files(references, "/d/zz.conf", None)


def test_a_file_that_systemd_would_not_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_show, "FILE_LIMIT_BYTES", 3)
    (tmp_path / "f").write_text("four")
    with pytest.raises(ValueError, match="is larger than 3 bytes"):
        _show.read_text(str(tmp_path / "f"))
    (tmp_path / "f").write_text("two")
    assert _show.read_text(str(tmp_path / "f")) == "two"


def test_systemd_reads_files_of_4_mib_and_we_of_the_journal_1_mib():
    assert (_show.FILE_LIMIT_BYTES, _show.JOURNAL_LIMIT_BYTES) == (4 << 20, 1 << 20)


@pytest.fixture
def journalctl(tmp_path, monkeypatch):
    """A journalctl that prints its arguments and then many lines."""
    program = tmp_path / "journalctl"
    program.write_text('#!/bin/sh\necho "$@"\nseq 1000\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def test_the_journal_of_one_run_is_read_from_its_start_or_its_end(journalctl):
    first = _show.journal_of_invocation("0" * 32, lines=3)
    assert first[0].endswith(f"_SYSTEMD_INVOCATION_ID={'0' * 32}")
    assert first[1:] == ["1", "2"]
    assert _show.journal_of_invocation("0" * 32, from_end=True, lines=2)[-2:] == ["1000", ""]


def test_400_lines_of_a_run_are_read_unless_others_are_asked_for(journalctl):
    assert len(_show.journal_of_invocation("0" * 32)) == 400
    assert len(_show.journal_of_invocation("0" * 32, from_end=True)) == 400


def test_no_more_of_the_journal_is_read_than_its_limit(journalctl, monkeypatch):
    monkeypatch.setattr(_show, "JOURNAL_LIMIT_BYTES", 300)
    assert len("\n".join(_show.journal_of_invocation("0" * 32))) == 300


@pytest.mark.parametrize(("scope", "option"), [("system", "--unit=o.service"), ("user", "--user-unit=o.service")])
def test_the_last_messages_of_a_unit_are_those_since_a_moment(journalctl, scope, option):
    found = _show.last_messages_of_unit(scope, "o.service", since_s=1.5, lines=2000)
    assert found[0].endswith(f"{option} --since=@1.500000 --lines=2000")
    assert _show.last_messages_of_unit(scope, "o.service", since_s=1.5, lines=3) == ["999", "1000", ""]


@pytest.fixture
def ids(tmp_path, monkeypatch):
    """Says which machine this is, and which boot of it."""

    def are(machine: str, boot: str = "boot") -> None:
        for name, text in (("MACHINE_ID", machine), ("BOOT_ID", boot)):
            (tmp_path / name).write_text(f"{text}\n")
            monkeypatch.setattr(_show, name, str(tmp_path / name))

    return are


def test_a_service_has_an_id_that_no_other_one_of_the_fleet_has(ids):
    state = parse_unit_state("o.service", {"Names": "o.service a.service"})
    found = []
    for machine, boot, scope, unit in (
        ("one", "boot", "system", state),
        ("two", "boot", "system", state),
        # A cloned machine has another boot; a user's service and another unit are others.
        ("one", "other", "system", state),
        ("one", "boot", "user", state),
        ("one", "boot", "system", parse_unit_state("o.service", {})),
    ):
        ids(machine, boot)
        found.append(_show.service_id(scope, unit))
    assert len(set(found)) == 5
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in found)
    # Whichever of its names it is asked for by.
    ids("one")
    assert _show.service_id("system", parse_unit_state("a.service", {"Names": "a.service o.service"})) == found[0]


@pytest.mark.parametrize(("place", "differs"), [(63, True), (64, False)])
def test_of_a_machines_id_64_characters_count(ids, place, differs):
    state = parse_unit_state("o.service", {})
    found = set()
    for letter in "ab":
        ids("0" * place + letter)
        found.add(_show.service_id("system", state))
    assert len(found) == 1 + differs


def test_a_service_of_an_unknown_machine_has_no_id(ids, monkeypatch):
    ids("one")
    monkeypatch.setattr(_show, "MACHINE_ID", "/nowhere")
    assert _show.service_id("system", parse_unit_state("o.service", {})) == ""


@pytest.mark.parametrize("invocation", ["", "-f", "0" * 31, "0" * 32 + "\n"])
def test_what_is_no_invocation_is_not_handed_to_journalctl(journalctl, invocation):
    assert _show.journal_of_invocation(invocation) == []


def test_a_missing_journalctl_is_an_empty_journal(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _show.journal_of_invocation("0" * 32) == []


def test_where_dropins_and_state_lie(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/somebody/else")
    monkeypatch.setattr(_show.pwd, "getpwuid", lambda uid: SimpleNamespace(pw_dir="/home/u"))
    assert _show.dropin_base_directory("system") == "/etc/systemd/system"
    assert _show.dropin_base_directory("user") == "/home/u/.config/systemd/user"
    monkeypatch.setattr(_show.os, "geteuid", lambda: 1000)
    assert _show.dropin_base_directory("system", runtime=True) == "/run/systemd/system"
    assert _show.dropin_base_directory("user", runtime=True) == "/run/user/1000/systemd/user"
    assert _show.state_directory("system", "o.service") == "/var/lib/gpufleet/o.service"
    assert _show.state_directory("user", "o.service") == "/home/u/.local/state/gpufleet/o.service"


@pytest.mark.parametrize(
    "unit",
    ["../../../tmp/x", "a/b.service", "/etc/ollama.service", "..", "", "ollama", "o.service\n", "a" * 300 + ".service"],
)
@pytest.mark.parametrize("scope", ["system", "user"])
def test_a_path_has_no_state_folder(unit, scope):
    with pytest.raises(_show.UnitNameError, match=r"is not the name of a systemd service: write it like ollama\.service"):
        _show.state_directory(scope, unit)


@pytest.mark.parametrize("unit", ["ollama.service", "ollama@gpu0.service", "a\\x2db.service"])
def test_a_service_has_a_state_folder_of_its_name(unit):
    assert _show.state_directory("system", unit) == f"/var/lib/gpufleet/{unit}"


def test_environment_files_that_are_none_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "1.pipe")
    os.symlink("/dev/zero", tmp_path / "2.device")
    (tmp_path / "3.folder").mkdir()
    os.symlink(tmp_path / "absent", tmp_path / "4.nothing")
    (tmp_path / "5.env").write_text("A=b")
    os.symlink(tmp_path / "5.env", tmp_path / "6.link")
    found = _show.environment_files([EnvironmentFileReference(str(tmp_path / "*"), "unit", 1)], "/d/zz.conf", None)
    assert found == [(str(tmp_path / "5.env"), "A=b"), (str(tmp_path / "6.link"), "A=b")]


@pytest.mark.parametrize("text", ["²", "9" * 5000, "-1", "", "٣"])
def test_an_odd_number_is_none(text):
    state = parse_unit_state("x.service", {"MainPID": text, "NRestarts": text})
    assert (state.main_pid, state.restarts, parse_version("9" * 5000)) == (0, 0, 999_999_999)


def test_64_environment_files_are_read(tmp_path):
    for number in range(64):
        (tmp_path / f"{number:02}.env").write_text("A=b")
    found = _show.environment_files([EnvironmentFileReference(str(tmp_path / "*"), "unit", 1)], "/d/zz.conf", None)
    assert len(found) == 64


@pytest.mark.parametrize(
    ("count", "size_bytes", "message"),
    [(65, 1, r"\* names more than 64 files"), (3, 2_000_000, "they are longer than 4194304 bytes in all")],
)
def test_environment_files_are_not_read_without_end(count, size_bytes, message, tmp_path):
    for number in range(count):
        (tmp_path / f"{number}.env").write_text("#" * size_bytes)
    with pytest.raises(ValueError, match=message):
        _show.environment_files([EnvironmentFileReference(str(tmp_path / "*"), "unit", 1)], "/d/zz.conf", None)


@pytest.mark.parametrize(
    ("files", "unreadable", "scope", "closed"),
    [
        ([], [], "system", False),
        (["system.journal"], [], "system", False),
        (["system.journal"], ["system.journal"], "system", True),
        (["system.journal"], ["system.journal"], "user", True),
        (["system.journal", "user-7.journal"], ["system.journal"], "user", False),
        (["system.journal", "user-7.journal"], ["system.journal"], "system", True),
        (["system.journal", "user-8.journal"], ["system.journal"], "user", True),
    ],
)
def test_a_journal_is_closed_where_it_is_there_and_may_not_be_read(
    tmp_path, monkeypatch, files, unreadable, scope, closed
):
    (tmp_path / "0123").mkdir()
    for name in files:
        (tmp_path / "0123" / name).write_text("")
    monkeypatch.setattr(_show, "JOURNALS", (str(tmp_path), "/nowhere"))
    monkeypatch.setattr(_show.os, "geteuid", lambda: 7)
    monkeypatch.setattr(_show.os, "access", lambda path, mode: path.rpartition("/")[2] not in unreadable)
    assert _show.journal_is_closed(scope) is closed


def test_the_scripts_among_the_programs_of_a_unit_are_read(tmp_path):
    """A program may be a link; of a binary, a long script and one that is not there nothing is known."""
    texts = {
        "script": "#!/bin/sh\nexec ollama serve\n",
        "longest": "#!" + "x" * (64 * 1024 - 2),
        "long": "#!" + "x" * (64 * 1024 - 1),
        "binary": "\x7fELF",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "link").symlink_to("script")
    names = [str(tmp_path / name) for name in (*texts, "absent", "link", "link")]
    assert _show.script_texts(names) == {
        str(tmp_path / "script"): texts["script"],
        str(tmp_path / "longest"): texts["longest"],
        str(tmp_path / "link"): texts["script"],
    }


def test_what_a_script_reads_in_need_not_begin_as_one(tmp_path):
    (tmp_path / "env").write_text("A=1\n")
    assert _show.script_texts([str(tmp_path / "env")]) == {}
    assert _show.script_texts([str(tmp_path / "env")], are_sourced=True) == {str(tmp_path / "env"): "A=1\n"}


def test_of_many_programs_eight_are_looked_at(tmp_path):
    (tmp_path / "script").write_text("#!/bin/sh\n")
    names = [str(tmp_path / "absent")] * 7 + [str(tmp_path / "script")]
    assert set(_show.script_texts(names)) == {str(tmp_path / "script")}
    assert _show.script_texts([names[0], *names]) == {}


@pytest.mark.parametrize(
    ("shown", "limit"),
    [
        ({"MemoryMax": "34359738368", "MemoryHigh": "infinity"}, 32 << 30),
        ({"MemoryMax": "infinity", "MemoryHigh": "17179869184"}, 16 << 30),
        ({"MemoryMax": "34359738368", "MemoryHigh": "17179869184"}, 16 << 30),
        ({"MemoryMax": "infinity", "MemoryHigh": "infinity"}, None),
        ({"MemoryMax": "18446744073709551615"}, None),
        ({"MemoryMax": str((1 << 60) - 1)}, (1 << 60) - 1),
        ({"MemoryMax": "[not set]"}, None),
        ({}, None),
    ],
)
def test_what_a_unit_may_take_of_the_memory(shown, limit):
    assert memory_limit_bytes(shown) == limit
