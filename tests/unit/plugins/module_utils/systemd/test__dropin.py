# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our drop-in: verified beforehand, replaced whole, its former versions kept; nobody else's file is touched."""

from __future__ import annotations

import errno
import os

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _dropin, _place
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._dropin import (
    MARKER,
    DropinRequest,
    change,
    difference,
    with_marker,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._lock import LockError
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._place import DropinError
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import Completed, Manager

UNIT, NAME = "ollama.service", "zz-gpufleet.conf"
TEXT = '[Service]\nEnvironment="A={}"\n'


class FakeSystemd:
    """Answers like systemctl and systemd-analyze; keeps what it was asked and what was staged."""

    def __init__(self, complaint="", code=0, exists=True):
        self.complaint, self.code, self.exists = complaint, code, exists
        self.asked, self.staged, self.modes = [], [], []

    def __call__(self, command):
        self.asked.append(command)
        if "verify" not in command:
            return Completed(0, f"LoadState={'loaded' if self.exists else 'not-found'}\n", "")
        directory = command[1].split("=", 1)[1].rstrip(":")
        (name,) = os.listdir(os.path.join(directory, f"{UNIT}.d"))
        path = os.path.join(directory, f"{UNIT}.d", name)
        with open(path, encoding="utf-8") as stream:
            self.staged.append(stream.read())
        self.modes.append(os.stat(path).st_mode & 0o777)
        return Completed(self.code, "", self.complaint.replace("STAGED", path))


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(_dropin, "dropin_base_directory", lambda scope, runtime: str(tmp_path / ("run" if runtime else "etc")))
    monkeypatch.setattr(_dropin, "state_directory", lambda scope, unit: str(tmp_path / "state"))
    return tmp_path


def apply(
    systemd,
    state="present",
    content=None,
    keep=5,
    check_mode=False,
    version=252,
    scope="system",
    taken_back="",
    rollout="",
    name=NAME,
):
    manager = Manager(scope, version, (), ())
    asked = DropinRequest(UNIT, name, state, keep, check_mode, content, taken_back, rollout=rollout)
    return change(systemd, manager, asked)


def path(world):
    return world / "etc" / f"{UNIT}.d" / NAME


def test_the_dropin_is_verified_staged_alone_and_put_in_place(world):
    systemd = FakeSystemd()
    outcome = apply(systemd, content=TEXT.format(1))
    assert (outcome.changed, outcome.existed, outcome.exists, outcome.formers) == (True, False, True, 1)
    assert path(world).read_text() == f"{MARKER}\n{TEXT.format(1)}"
    assert path(world).stat().st_mode & 0o777 == 0o644
    assert (systemd.staged, systemd.modes) == ([path(world).read_text()], [0o600])
    verify = systemd.asked[-1]
    assert verify[0] == "env"
    assert verify[1].startswith("SYSTEMD_UNIT_PATH=/")
    assert verify[1].endswith(":")
    assert verify[2:] == ["systemd-analyze", "verify", "--recursive-errors=no", UNIT]


def test_a_second_time_changes_nothing_and_asks_nothing(world):
    apply(FakeSystemd(), content=TEXT.format(1))
    systemd = FakeSystemd()
    outcome = apply(systemd, content=TEXT.format(1))
    assert (outcome.changed, outcome.diff, systemd.asked) == (False, "", [])


@pytest.mark.parametrize(("version", "options"), [(249, []), (250, ["--recursive-errors=no"])])
def test_before_systemd_250_the_option_is_left_out(world, version, options):
    systemd = FakeSystemd()
    apply(systemd, content=TEXT.format(1), version=version)
    assert systemd.asked[-1][2:] == ["systemd-analyze", "verify", *options, UNIT]


def test_a_user_unit_is_verified_by_the_users_rules(world):
    systemd = FakeSystemd()
    apply(systemd, content=TEXT.format(1), scope="user")
    assert systemd.asked[-1][2:5] == ["systemd-analyze", "--user", "verify"]


@pytest.mark.parametrize("code", [0, 1])
def test_a_complaint_about_our_file_refuses_it_and_names_the_real_path(world, code):
    systemd = FakeSystemd("STAGED:3: Invalid syntax, ignoring: A_TOKEN=hunter2\n", code)
    with pytest.raises(DropinError) as raised:
        apply(systemd, content='[Service]\nEnvironment="A_TOKEN=hunter2"\n')
    assert f"{path(world)}:3: Invalid syntax, ignoring: A_TOKEN=********" in str(raised.value)
    assert not path(world).exists()


def test_a_complaint_about_another_file_is_passed_on(world):
    outcome = apply(
        FakeSystemd("/etc/other.conf:1: Unknown key, ignoring.\nfine\n", 1), content=TEXT.format(1)
    )
    assert outcome.complaints == ("/etc/other.conf:1: Unknown key, ignoring.",)
    assert path(world).exists()


@pytest.mark.parametrize("code", [126, 127])
def test_without_the_verifier_nothing_is_written(world, code):
    with pytest.raises(DropinError, match="without systemd-analyze"):
        apply(FakeSystemd("env: systemd-analyze: No such file", code), content=TEXT.format(1))
    assert not path(world).exists()


def test_a_unit_that_does_not_exist_yet_is_said(world):
    outcome = apply(FakeSystemd(exists=False), content=TEXT.format(1), check_mode=True)
    assert outcome.complaints == (
        "there is no ollama.service yet, so that systemd could not verify the drop-in",
    )


def test_check_mode_verifies_and_changes_nothing(world):
    systemd = FakeSystemd()
    outcome = apply(systemd, content=TEXT.format(1), check_mode=True)
    assert outcome.changed
    assert systemd.staged
    assert list(world.iterdir()) == []


def test_a_file_that_is_not_ours_is_left_alone(world):
    path(world).parent.mkdir(parents=True)
    path(world).write_text("[Service]\n")
    for state in ("present", "absent", "restored"):
        with pytest.raises(DropinError, match=r"was not written by gpufleet.ollama and is left alone"):
            apply(FakeSystemd(), state, TEXT.format(1))
    assert path(world).read_text() == "[Service]\n"


def test_an_environment_file_that_goes_while_it_is_read_is_one_sentence(world, monkeypatch):
    apply(FakeSystemd(), content=TEXT.format(1))

    def gone(*_arguments):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(_place, "with_secret_file", gone)
    with pytest.raises(DropinError, match=r"\.env cannot be read: No such file or directory"):
        apply(FakeSystemd(), content=TEXT.format(2))


def test_a_former_version_that_cannot_be_read_is_one_sentence(world, monkeypatch):
    for number in (1, 2):
        made = apply(FakeSystemd(), content=TEXT.format(number))

    def torn(*_arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(_dropin._former, "former", torn)
    with pytest.raises(DropinError, match=r"the former drop-in .* cannot be read: Input/output error"):
        apply(FakeSystemd(), "restored", taken_back=made.change)


def test_a_file_that_cannot_be_read_is_one_sentence(world):
    path(world).mkdir(parents=True)
    with pytest.raises(DropinError, match="cannot be read: not a regular file"):
        apply(FakeSystemd(), content=TEXT.format(1))


def test_absent_removes_the_file_and_its_empty_directory(world):
    apply(FakeSystemd(), content=TEXT.format(1))
    outcome = apply(FakeSystemd(), "absent")
    assert (outcome.changed, outcome.exists) == (True, False)
    assert not path(world).parent.exists()
    assert not apply(FakeSystemd(), "absent").changed


def test_the_directory_stays_while_others_need_it(world):
    apply(FakeSystemd(), content=TEXT.format(1))
    (path(world).parent / "override.conf").write_text("")
    apply(FakeSystemd(), "absent")
    assert path(world).parent.exists()


def values(files):
    return [file.read_text().split('"')[1] for file in sorted(files)]


def value(world):
    return values([path(world)])[0] if path(world).exists() else None


def test_a_rollback_undoes_the_last_change_once_and_older_ones_where_they_are_named(world):
    changes = [apply(FakeSystemd(), content=TEXT.format(number)).change for number in (1, 2, 3)]
    first = apply(FakeSystemd(), "restored")
    assert (value(world), first.restored, first.changed) == ("A=2", True, True)
    assert first.told == f"{UNIT} is back on what it had before change {changes[2]}: {NAME} with A=2."
    again = apply(FakeSystemd(), "restored")
    assert (value(world), again.restored, again.changed) == ("A=2", False, False)
    assert "was taken back before; to go on, name an older one as gpufleet_rollout" in again.told
    assert f"({changes[1]}, {changes[0]})" in again.told
    assert "to go on" not in apply(FakeSystemd(), "restored", rollout=changes[2]).told
    assert apply(FakeSystemd(), "restored", rollout=changes[0]).restored
    assert value(world) is None
    assert values((world / "state" / "withdrawn" / NAME).iterdir()) == ["A=1", "A=2", "A=3"]
    assert apply(FakeSystemd(), content=TEXT.format(4)).change == "change-00000004"


def test_a_rollback_of_the_only_change_names_no_older_one(world):
    apply(FakeSystemd(), content=TEXT.format(1))
    assert apply(FakeSystemd(), "restored").restored
    again = apply(FakeSystemd(), "restored")
    assert (again.restored, again.told.endswith(" was taken back before.")) == (False, True)


def test_a_version_from_before_changes_had_numbers_is_numbered_when_it_is_taken_back(world):
    former = world / "state" / "former" / NAME
    former.mkdir(parents=True)
    (former / "20260101T000000.000000Z.conf").write_text(f'{MARKER}\n[Service]\nEnvironment="A=1"\n')
    path(world).parent.mkdir(parents=True)
    path(world).write_text(f'{MARKER}\n[Service]\nEnvironment="A=2"\n')
    assert apply(FakeSystemd(), "restored").restored
    assert value(world) == "A=1"
    assert [file.name for file in (world / "state" / "withdrawn" / NAME).iterdir()] == ["change-00000001.conf"]


def test_where_nothing_is_known_a_rollback_leaves_all_as_it_is_and_says_so(world):
    outcome = apply(FakeSystemd(), "restored")
    assert (outcome.changed, outcome.restored, outcome.superseded) == (False, False, False)
    assert outcome.told.startswith(f"{UNIT} stays as it is: no former drop-in of {UNIT} is known in ")


def test_a_rollback_returns_to_before_a_rollout_and_not_one_further(world):
    """A host that took itself back in the rollout, or was not changed by it, stays where it is."""
    for number, rollout in enumerate(("r-1", "r-2", "r-3"), start=1):
        last = apply(FakeSystemd(), content=TEXT.format(number), rollout=rollout)
    assert last.change == "change-00000003+r-3"
    apply(FakeSystemd(), "restored", taken_back=last.change)
    for wanted in ("", "r-3"):
        outcome = apply(FakeSystemd(), "restored", rollout=wanted)
        assert (value(world), outcome.restored) == ("A=2", False)
        assert "rollout r-3 was taken back before" in outcome.told
    assert "rollout r-9 has changed nothing" in apply(FakeSystemd(), "restored", rollout="r-9").told
    assert outcome.rollouts == ("r-1", "r-2", "r-3")
    outcome = apply(FakeSystemd(), "restored", rollout="r-1")
    assert (value(world), outcome.restored) == (None, True)
    assert outcome.told == f"{UNIT} is back on what it had before rollout r-1: no {NAME}."


def test_a_clock_that_was_ahead_changes_no_order(world):
    former = world / "state" / "former" / NAME
    former.mkdir(parents=True)
    for second in range(3):
        (former / f"20310101T00000{second}.000000Z.conf").write_text(
            f'{MARKER}\n[Service]\nEnvironment="A=2031"\n'
        )
    for number in (4, 5, 6):
        apply(FakeSystemd(), content=TEXT.format(number), keep=3)
    assert apply(FakeSystemd(), "restored").restored
    assert value(world) == "A=5"


def test_what_a_killed_run_left_unproven_can_be_taken_back_and_what_is_proven_not(world):
    made = apply(FakeSystemd(), content=TEXT.format(1)).change
    assert apply(FakeSystemd(), content=TEXT.format(1)).change == made
    for other in ("change-00000009", "change-00000000", ""):
        assert apply(FakeSystemd(), "proven", taken_back=other).change == made
    seen = apply(FakeSystemd(), "proven", taken_back=made)
    assert (seen.change, seen.changed, seen.restored, seen.superseded, seen.diff) == ("", False, False, False, "")
    assert apply(FakeSystemd(), content=TEXT.format(1)).change == ""
    second = apply(FakeSystemd(), content=TEXT.format(2)).change
    apply(FakeSystemd(), "restored", taken_back=second)
    assert apply(FakeSystemd(), content=TEXT.format(1)).change == ""


def test_a_drop_in_is_unproven_until_a_run_has_seen_the_service_healthy_on_it(world):
    where = _place.place(UNIT, "system", NAME, str(world / "etc"), str(world / "state"))
    assert not _place.is_unproven(where)
    first = apply(FakeSystemd(), content=TEXT.format(1))
    made = first.change
    # A change is told by its name; a way back has none.
    assert not first.unproven
    assert _place.is_unproven(where)
    apply(FakeSystemd(), "proven", taken_back=made, check_mode=True)
    assert _place.is_unproven(where)
    apply(FakeSystemd(), "proven", taken_back=made)
    assert not _place.is_unproven(where)
    assert apply(FakeSystemd(), "restored").unproven
    assert _place.is_unproven(where)
    assert not apply(FakeSystemd(), "proven").unproven
    assert not _place.is_unproven(where)
    # Of a change whose former version is gone nothing can be taken back, and so nothing is to be proven.
    apply(FakeSystemd(), content=TEXT.format(2))
    for kept in (world / "state" / "former" / NAME).iterdir():
        kept.unlink()
    assert not _place.is_unproven(where)


def test_check_mode_tells_what_a_rollback_would_do_and_not_that_it_was_done(world):
    apply(FakeSystemd(), content=TEXT.format(1), rollout="r-1")
    told = f"{UNIT} {{}} back on what it had before rollout r-1: no {NAME}."
    assert apply(FakeSystemd(), "restored", check_mode=True).told == told.format("would be")
    assert apply(FakeSystemd(), "restored").told == told.format("is")


def test_an_old_name_of_our_dropin_goes_with_the_new_one_and_comes_back_with_it(world):
    apply(FakeSystemd(), content=TEXT_WITH_BOTH.format(1, "hunter2"), rollout="r-1")
    new = path(world).with_name("zzzz.conf")
    outcome = apply(FakeSystemd(), content=TEXT.format(2), name="zzzz.conf", rollout="r-2")
    assert (value(world), secrets(world).exists(), values([new])) == (None, False, ["A=2"])
    assert f"+++ {new}" in outcome.diff
    assert f"--- {path(world)}" in outcome.diff
    assert "hunter2" not in outcome.diff
    assert not apply(FakeSystemd(), content=TEXT.format(2), name="zzzz.conf").changed
    back = apply(FakeSystemd(), "restored", name="zzzz.conf")
    assert (value(world), new.exists()) == ("A=1", False)
    assert 'HF_TOKEN="hunter2"' in secrets(world).read_text()
    assert back.told.endswith(": no zzzz.conf; zz-gpufleet.conf with A=1, HF_TOKEN=********.")


def test_a_benchmark_leaves_our_dropin_and_is_left(world):
    apply(FakeSystemd(), content=TEXT.format(1), rollout="r-1")
    for name in ("zzz-gpufleet-benchmark.conf", "zzz-mine.conf"):
        apply(FakeSystemd(), content=TEXT.format(9), name=name, rollout="benchmark")
        assert value(world) == "A=1"
        assert not apply(FakeSystemd(), content=TEXT.format(1)).changed
        assert path(world).with_name(name).exists()
        ours = _place.place(UNIT, "system", NAME, str(world / "etc"), str(world / "state"))
        theirs = ours.named(name)
        for one, other in ((ours, theirs), (theirs, ours)):
            with open(other.path, encoding="utf-8") as stream:
                assert not _place.is_former_name(one, other.path, stream.read())
    assert apply(FakeSystemd(), "restored").told.endswith(f"before rollout r-1: no {NAME}.")
    assert path(world).with_name("zzz-mine.conf").exists()


def test_an_edit_by_hand_is_told_from_what_was_written(world):
    where = _place.place(UNIT, "system", NAME, str(world / "etc"), str(world / "state"))
    assert _place.is_edited(where, None) is None
    apply(FakeSystemd(), content=TEXT.format(1))
    assert _place.is_edited(where, path(world).read_text()) is False
    assert _place.is_edited(where, path(world).read_text().replace("A=1", "A=7")) is True
    apply(FakeSystemd(), "restored")
    assert _place.is_edited(where, None) is False


def test_folders_have_their_modes_whatever_the_umask(world):
    (world / "etc").mkdir()
    before = os.umask(0o077)
    try:
        apply(FakeSystemd(), content=TEXT.format(1))
    finally:
        os.umask(before)
    assert path(world).parent.stat().st_mode & 0o777 == 0o755
    os.umask(0o000)
    try:
        apply(FakeSystemd(), content=TEXT.format(2))
    finally:
        os.umask(before)
    kept = list((world / "state").rglob("*"))
    assert {file.stat().st_mode & 0o777 for file in kept if file.is_dir()} == {0o700}
    assert {file.stat().st_mode & 0o777 for file in kept if file.is_file()} == {0o600}


def test_each_change_can_be_taken_back_by_its_name(world):
    apply(FakeSystemd(), content=TEXT.format(1))
    mine = apply(FakeSystemd(), content=TEXT.format(2))
    assert apply(FakeSystemd(), content=TEXT.format(2)).change == mine.change
    taken_back = apply(FakeSystemd(), "restored", taken_back=mine.change)
    assert (taken_back.changed, taken_back.superseded) == (True, False)
    assert "A=1" in path(world).read_text()


def test_what_another_run_wrote_since_is_not_taken_back_with_ours(world):
    first = apply(FakeSystemd(), content=TEXT.format("original"))
    mine = apply(FakeSystemd(), content=TEXT.format("mine"))
    theirs = apply(FakeSystemd(), content=TEXT.format("theirs"))
    outcome = apply(FakeSystemd(), "restored", taken_back=mine.change)
    assert (outcome.changed, outcome.superseded, outcome.diff) == (False, True, "")
    assert "A=theirs" in path(world).read_text()
    # When theirs is taken back too, the host has what it had before both.
    assert not apply(FakeSystemd(), "restored", taken_back=theirs.change).superseded
    assert "A=original" in path(world).read_text()
    assert apply(FakeSystemd(), "restored", taken_back=first.change).exists is False
    withdrawn = values((world / "state" / "withdrawn" / NAME).iterdir())
    assert withdrawn == ["A=original", "A=mine", "A=theirs"]


def test_a_change_that_another_run_took_back_already_is_left_at_that(world):
    apply(FakeSystemd(), content=TEXT.format("original"))
    shared = apply(FakeSystemd(), content=TEXT.format("same of both")).change
    assert apply(FakeSystemd(), "restored", taken_back=shared).changed
    again = apply(FakeSystemd(), "restored", taken_back=shared)
    assert (again.changed, again.superseded) == (False, True)
    assert "A=original" in path(world).read_text()


def test_check_mode_tells_that_a_change_is_superseded_and_keeps_the_former_versions(world):
    mine = apply(FakeSystemd(), content=TEXT.format("mine"))
    apply(FakeSystemd(), content=TEXT.format("theirs"))
    kept = sorted((world / "state").rglob("*"))
    assert apply(FakeSystemd(), "restored", taken_back=mine.change, check_mode=True).superseded
    assert sorted((world / "state").rglob("*")) == kept


def test_a_former_version_that_cannot_be_moved_is_one_sentence(world, monkeypatch):
    mine = apply(FakeSystemd(), content=TEXT.format("mine"))
    apply(FakeSystemd(), content=TEXT.format("theirs"))

    def read_only(mine, replaced):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(_dropin._former, "hand_over", read_only)
    with pytest.raises(DropinError, match="cannot be moved: Read-only file system; nothing was changed"):
        apply(FakeSystemd(), "restored", taken_back=mine.change)


def test_a_restored_version_is_verified_as_any_other(world):
    for number in (1, 2):
        apply(FakeSystemd(), content=TEXT.format(number))
    with pytest.raises(DropinError, match="nothing was changed"):
        apply(FakeSystemd("STAGED:3: ignoring", 1), "restored")
    assert "A=2" in path(world).read_text()


def test_only_the_last_versions_are_kept(world):
    for number in range(5):
        apply(FakeSystemd(), content=TEXT.format(number), keep=2)
    kept = sorted((world / "state" / "former" / NAME).iterdir())
    assert [file.read_text().split('"')[1] for file in kept] == ["A=2", "A=3"]
    assert (world / "state").stat().st_mode & 0o777 == 0o700
    assert kept[0].stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("code", "reason"), [(errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only file system")]
)
def test_a_disk_that_cannot_be_written_leaves_the_old_file_and_no_trace(world, monkeypatch, code, reason):
    apply(FakeSystemd(), content=TEXT.format(1))
    before = path(world).read_text()
    real = os.fsync

    def failing(descriptor):
        if f"{UNIT}.d" in os.readlink(f"/proc/self/fd/{descriptor}") and "gpufleet-verify" not in os.readlink(
            f"/proc/self/fd/{descriptor}"
        ):
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(_dropin.os, "fsync", failing)
    with pytest.raises(DropinError, match=f"cannot be changed: {reason}; what stood there is unchanged"):
        apply(FakeSystemd(), content=TEXT.format(2))
    assert path(world).read_text() == before
    assert [file.name for file in path(world).parent.iterdir()] == [NAME]
    assert len(list((world / "state" / "former" / NAME).iterdir())) == 1


def test_a_state_folder_that_cannot_be_made_refuses_the_change(world):
    (world / "state").write_text("a file")
    with pytest.raises(LockError, match=r"the state folder .* cannot be made"):
        apply(FakeSystemd(), content=TEXT.format(1))
    assert not path(world).exists()


def test_a_former_version_that_cannot_be_kept_refuses_the_change(world):
    (world / "state").mkdir()
    (world / "state" / "former").write_text("a file")
    with pytest.raises(DropinError, match=r"cannot be kept in .*; nothing was changed"):
        apply(FakeSystemd(), content=TEXT.format(1))
    assert not path(world).exists()


def test_the_difference_shows_no_secret():
    before = with_marker('[Service]\nEnvironment="A_TOKEN=hunter2" "B=1"\n')
    after = with_marker('[Service]\nEnvironment="A_TOKEN=hunter3" "B=2"\nEnvironment="C=3"')
    text = difference("/d", before, after)
    assert "hunter" not in text
    assert (
        '-Environment="A_TOKEN=********" "B=1"\n+Environment="A_TOKEN=********" "B=2"\n+Environment="C=3"\n'
        in text
    )
    assert difference("/d", None, after).startswith("--- /dev/null\n+++ /d\n")
    assert difference("/d", after, None).startswith("--- /d\n+++ /dev/null\n")


@pytest.mark.parametrize(("secret", "is_hidden"), [("abcd", True), ("abc", False)])
def test_a_secret_of_four_characters_is_hidden_wherever_it_stands(secret, is_hidden):
    text = difference("/d", None, f'[Service]\nEnvironment="A_TOKEN={secret}"\nEnvironment="B=x{secret}y"\n')
    assert f"A_TOKEN={secret}" not in text
    assert (f"x{secret}y" in text) is not is_hidden


TEXT_WITH_BOTH = '[Service]\nEnvironment="A={}"\nEnvironment="HF_TOKEN={}"\n'


def secrets(world):
    return path(world).with_suffix(".env")


def test_secrets_lie_in_a_file_that_its_owner_alone_may_read(world):
    systemd = FakeSystemd()
    apply(systemd, content=TEXT_WITH_BOTH.format(1, "hunter2"))
    assert path(world).read_text() == (
        f'{MARKER}\n[Service]\nEnvironment="A=1"\nEnvironmentFile={secrets(world)}\n'
    )
    assert secrets(world).read_text() == f'{MARKER}\nHF_TOKEN="hunter2"\n'
    assert secrets(world).stat().st_mode & 0o777 == 0o600
    assert systemd.staged == [path(world).read_text()]
    assert not apply(systemd, content=TEXT_WITH_BOTH.format(1, "hunter2")).changed


@pytest.mark.parametrize("other", ["hunter1", "hunter3"])
def test_another_secret_is_a_change_that_shows_without_it(world, other):
    apply(FakeSystemd(), content=TEXT_WITH_BOTH.format(1, "hunter2"))
    outcome = apply(FakeSystemd(), content=TEXT_WITH_BOTH.format(1, other))
    assert outcome.changed
    assert 'HF_TOKEN="********"  # another value than before' in outcome.diff
    assert "hunter" not in outcome.diff


def test_both_files_go_back_together(world):
    first = apply(FakeSystemd(), content=TEXT_WITH_BOTH.format(1, "first1")).change
    second = apply(FakeSystemd(), content=TEXT_WITH_BOTH.format(2, "second2")).change
    apply(FakeSystemd(), content=TEXT.format(3))
    assert not secrets(world).exists()
    apply(FakeSystemd(), state="restored")
    assert "A=2" in path(world).read_text()
    assert 'HF_TOKEN="second2"' in secrets(world).read_text()
    apply(FakeSystemd(), state="restored", rollout=second)
    assert "A=1" in path(world).read_text()
    assert 'HF_TOKEN="first1"' in secrets(world).read_text()
    apply(FakeSystemd(), state="restored", rollout=first)
    assert not path(world).parent.exists()


def test_a_dropin_that_cannot_be_written_leaves_its_secrets_as_they_were(world, monkeypatch):
    apply(FakeSystemd(), content=TEXT_WITH_BOTH.format(1, "hunter2"))
    before = path(world).read_text()
    real = _dropin.replace_file

    def full(file, text, mode):
        if file == str(path(world)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file, text, mode)

    monkeypatch.setattr(_dropin, "replace_file", full)
    with pytest.raises(DropinError, match="what stood there is unchanged"):
        apply(FakeSystemd(), content=TEXT_WITH_BOTH.format(2, "hunter3"))
    assert path(world).read_text() == before
    assert secrets(world).read_text() == f'{MARKER}\nHF_TOKEN="hunter2"\n'
    assert secrets(world).stat().st_mode & 0o777 == 0o600


def test_absent_removes_both_files(world):
    apply(FakeSystemd(), content=TEXT_WITH_BOTH.format(1, "hunter2"))
    apply(FakeSystemd(), state="absent")
    assert not path(world).parent.exists()


@pytest.mark.parametrize("state", [{"state": "absent"}, {"content": TEXT.format(1)}])
def test_an_environment_file_that_was_left_behind_is_removed(world, state):
    apply(FakeSystemd(), content=TEXT_WITH_BOTH.format(1, "hunter2"))
    path(world).unlink()
    assert apply(FakeSystemd(), **state).changed
    assert not secrets(world).exists()
    assert not apply(FakeSystemd(), **state).changed


def test_a_dropin_that_was_written_with_its_secrets_is_written_again(world):
    path(world).parent.mkdir(parents=True)
    path(world).write_text(f"{MARKER}\n{TEXT_WITH_BOTH.format(1, 'hunter2')}")
    assert apply(FakeSystemd(), content=TEXT_WITH_BOTH.format(1, "hunter2")).changed
    assert "hunter2" not in path(world).read_text()
    # Nor does it come back with them.
    apply(FakeSystemd(), state="restored")
    assert "hunter2" not in path(world).read_text()
    assert "hunter2" in secrets(world).read_text()


@pytest.mark.parametrize("spoil", [lambda file: file.chmod(0o640), lambda file: file.unlink()])
def test_an_environment_file_that_others_may_read_or_that_is_gone_is_written_again(world, spoil):
    apply(FakeSystemd(), content=TEXT_WITH_BOTH.format(1, "hunter2"))
    spoil(secrets(world))
    assert apply(FakeSystemd(), content=TEXT_WITH_BOTH.format(1, "hunter2")).changed
    assert secrets(world).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [TEXT.format(1), TEXT_WITH_BOTH.format(1, "hunter2")])
def test_an_environment_file_that_is_not_ours_is_left_alone(world, content):
    secrets(world).parent.mkdir(parents=True)
    secrets(world).write_text("B=1\n")
    with pytest.raises(DropinError, match=r"zz-gpufleet\.env was not written by gpufleet\.ollama"):
        apply(FakeSystemd(), content=content)
    assert secrets(world).read_text() == "B=1\n"


def test_a_dropin_that_cannot_be_written_keeps_the_secrets_it_had(world, monkeypatch):
    apply(FakeSystemd(), content=TEXT_WITH_BOTH.format(1, "hunter2"))
    replace = _dropin.replace_file

    def full(target, text, mode):
        if target == str(path(world)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(target, text, mode)

    monkeypatch.setattr(_dropin, "replace_file", full)
    with pytest.raises(DropinError, match="No space left on device"):
        apply(FakeSystemd(), content=TEXT_WITH_BOTH.format(2, "hunter3"))
    assert 'HF_TOKEN="hunter2"' in secrets(world).read_text()
    with pytest.raises(DropinError):
        apply(FakeSystemd(), content=TEXT.format(2))
    assert 'HF_TOKEN="hunter2"' in secrets(world).read_text()


HIDDEN = "hunter2secret"


@pytest.mark.parametrize(
    "line",
    [
        f'# old: Environment="HF_TOKEN={HIDDEN}"',
        f";Environment=HF_TOKEN={HIDDEN}",
        f"# the token was {HIDDEN}",
        f'Environment="A=1" \\\n "HF_TOKEN={HIDDEN}" \\\n "B=2"',
        f"Environment=A=1\\\n\\\nHF_TOKEN={HIDDEN}",
        f'Environment="A=1" \\\n# HF_TOKEN={HIDDEN}\n "B=2"',
        f'Environment=HF_TOKEN={HIDDEN} "unterminated',
        f'Environment = "HF_TOKEN={HIDDEN}',
        f'Environment="A=1 {HIDDEN}',
        f"Environment=HF_TOKEN = {HIDDEN}",
        f"Environment=DB_PASS={HIDDEN}\r",
        f"Environment=H\\x46_TOK\\x45N={HIDDEN}",
        f"ExecStart=/bin/x --api-key {HIDDEN}",
        f"ExecStart=/usr/bin/env HF_TOKEN={HIDDEN} /bin/x",
        f"SetCredential=hf:{HIDDEN}",
        f"UnsetEnvironment=HF_TOKEN={HIDDEN}",
        f"[Unit]\nEnvironment=HF_TOKEN={HIDDEN}",
        f"ExecStartPre=/bin/curl https://user:{HIDDEN}@host/",
        f"HF_TOKEN {HIDDEN}",
    ],
)
def test_whatever_a_line_is_the_difference_shows_no_secret(line):
    text = f"{MARKER}\n[Service]\n{line}\nLimitNOFILE=100\n"
    for shown in (difference("/x", None, text), difference("/x", text, None)):
        assert HIDDEN not in shown
        assert "LimitNOFILE=100" in shown


def test_names_of_variables_and_files_are_shown_in_a_difference():
    lines = ["PassEnvironment=HF_TOKEN", "EnvironmentFile=/etc/token/hf.env", 'Environment="A=1" "B=2"']
    shown = difference("/x", None, "\n".join([MARKER, "[Service]", *lines, ""]))
    assert all(f"+{line}\n" in shown for line in lines)


def test_the_marker_is_written_once():
    assert with_marker(with_marker("[Service]")) == with_marker("[Service]")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, f"no {NAME}"),
        (f"{MARKER}\n[Service]\n", f"{NAME} with no variable"),
        (f"{MARKER}\n[Service]\nEnvironment=B=2\nEnvironment=A=1\n", f"{NAME} with A=1, B=2"),
        (f"{MARKER}\n[Service]\nEnvironment=A={'x' * 500}\n", f"{NAME} with A={'x' * 398}"),
    ],
)
def test_a_dropin_in_a_few_words(tmp_path, text, told):
    where = _dropin.place(UNIT, "system", NAME, str(tmp_path), str(tmp_path))
    assert _dropin._summary(_dropin.FileChange(where, None, text)) == told


def test_the_last_20_rollouts_are_known(tmp_path):
    where = _dropin.place(UNIT, "system", NAME, str(tmp_path), str(tmp_path))
    names = [f"change-{number:08d}+r-{number}" for number in range(1, 26)]
    assert _dropin._rollouts(where, names) == [f"r-{number}" for number in range(6, 26)]


@pytest.mark.parametrize(
    ("lines", "entries"),
    [
        (["# a", "B=1", "; c", "D=2"], ["# a", "B=1", "; c", "D=2"]),
        (["A=1 \\", "# why", " B=2", "C=3"], ["A=1 \\\n# why\n B=2", "C=3"]),
        (["A=1 \\", "\t; why \\", " B=2 \\", " C=3"], ["A=1 \\\n\t; why \\\n B=2 \\\n C=3"]),
        (["A=1 \\"], ["A=1 \\"]),
    ],
)
def test_lines_that_are_continued_are_shown_with_what_continues_them(lines, entries):
    assert list(_dropin._entries(lines)) == entries


@pytest.fixture
def three_steps(tmp_path):
    """Two drop-ins that are to be written, and between them one that is to be removed."""
    where = _dropin.place(UNIT, "system", "b.conf", str(tmp_path), str(tmp_path))
    return [
        _dropin.FileChange(where.named("a.conf"), "a before", "a after"),
        _dropin.FileChange(where, "b before", None),
        _dropin.FileChange(where.named("c.conf"), None, "c after"),
    ]


def test_what_is_to_be_there_is_written_before_anything_is_removed(three_steps, monkeypatch):
    done = []
    monkeypatch.setattr(_dropin, "_replace", lambda path, before, after: done.append((path[-6:], before, after)))
    _dropin._replace_all(three_steps)
    assert done == [("a.conf", "a before", "a after"), ("c.conf", None, "c after"), ("b.conf", "b before", None)]


def test_where_one_file_cannot_be_changed_the_others_are_put_back_the_last_first(three_steps, monkeypatch):
    done = []

    def replace(path, before, after):
        done.append((path[-6:], before, after))
        if path.endswith("b.conf") or (path.endswith("c.conf") and after is None):
            raise DropinError("a full disk")

    monkeypatch.setattr(_dropin, "_replace", replace)
    with pytest.raises(DropinError, match="a full disk"):
        _dropin._replace_all(three_steps)
    assert done[3:] == [("c.conf", "c after", None), ("a.conf", "a after", "a before")]
