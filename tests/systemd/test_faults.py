# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong in the world: what the operator sees, that nothing is lost, that the next run repairs."""

from __future__ import annotations

import time

import pytest
from engine import HostsError  # conftest.py has put the hosts' own programs on the path

# Which of them run in `make test` is marked: those that an operator meets most, and that cost most when met.
essential = pytest.mark.essential

D = "/etc/systemd/system/ollama.service.d"
DROPIN = f"{D}/zz-gpufleet.conf"
THREE = {"OLLAMA_NUM_PARALLEL": 3}
FAULT_AT_THREE = {"OLLAMA_NUM_PARALLEL": "3"}


def parallel(host):
    return host.process_environment().get("OLLAMA_NUM_PARALLEL")


@essential
def test_an_override_by_hand_is_overridden_and_reported(host):
    theirs = "[Service]\nEnvironment=OLLAMA_NUM_PARALLEL=9 OLLAMA_ORIGINS=*\n"
    host.write(f"{D}/override.conf", theirs)
    run = host.service(THREE)
    assert run.return_code == 0, run.output
    assert f"our drop-in overrides OLLAMA_NUM_PARALLEL set in {D}/override.conf:2" in run.output
    environment = host.process_environment()
    assert environment["OLLAMA_NUM_PARALLEL"] == "3"
    assert environment["OLLAMA_ORIGINS"] == "*"
    assert host.read(f"{D}/override.conf") == theirs
    assert host.service(THREE).changed == 0


@pytest.mark.parametrize(
    ("path", "text", "sentence"),
    [
        pytest.param(
            f"{D}/zzz-local.conf",
            "[Service]\n\n# mine\nEnvironment=OLLAMA_NUM_PARALLEL=9\n",
            f"{D}/zzz-local.conf:4 sets OLLAMA_NUM_PARALLEL after our drop-in zz-gpufleet.conf: remove that line",
            marks=essential,
        ),
        (
            f"{D}/zzz-local.conf",
            "[Service]\nUnsetEnvironment=OLLAMA_NUM_PARALLEL\n",
            f"{D}/zzz-local.conf:2 removes OLLAMA_NUM_PARALLEL again",
        ),
        (
            "/etc/systemd/system/service.d/zzz-all.conf",
            "[Service]\nEnvironment=OLLAMA_NUM_PARALLEL=9\n",
            "/etc/systemd/system/service.d/zzz-all.conf:2 sets OLLAMA_NUM_PARALLEL after our drop-in",
        ),
    ],
)
def test_what_would_overrule_us_stops_the_run_before_any_change(host, path, text, sentence):
    pid = host.property("MainPID")
    host.write(path, text)
    run = host.service(THREE)
    assert run.return_code != 0
    assert f"Nothing was changed: {sentence}" in run.output
    assert not host.exists(DROPIN)
    assert host.read(path) == text
    assert host.property("MainPID") == pid
    host.shell(f"rm {path}")
    assert host.service(THREE).return_code == 0
    assert parallel(host) == "3"


@essential
def test_an_environment_file_that_beats_us_stops_the_run(host):
    pid = host.property("MainPID")
    host.write("/etc/default/ollama", "# defaults\nOLLAMA_NUM_PARALLEL=9\n")
    host.write(f"{D}/env.conf", "[Service]\nEnvironmentFile=-/etc/default/ollama\n")
    run = host.service(THREE)
    assert run.return_code != 0
    assert (
        "/etc/default/ollama:2 sets OLLAMA_NUM_PARALLEL, and an EnvironmentFile wins over every drop-in"
        in run.output
    )
    assert not host.exists(DROPIN)
    assert host.property("MainPID") == pid
    host.shell("sed -i /NUM_PARALLEL/d /etc/default/ollama")
    assert host.service(THREE).return_code == 0
    assert parallel(host) == "3"
    assert host.read("/etc/default/ollama") == "# defaults\n"


def test_a_file_of_our_name_that_we_did_not_write_is_left_alone(host):
    host.write(DROPIN, "[Service]\nEnvironment=OLLAMA_DEBUG=1\n")
    run = host.service(THREE)
    assert run.return_code != 0
    assert f"{DROPIN} was not written by gpufleet.ollama and is left alone" in run.output
    assert host.read(DROPIN) == "[Service]\nEnvironment=OLLAMA_DEBUG=1\n"


@essential
@pytest.mark.parametrize("reloaded", [False, True])
def test_a_run_that_died_before_the_restart_is_completed_by_the_next(host, reloaded):
    host.service({"OLLAMA_NUM_PARALLEL": 2})
    written = host.play(
        [
            {
                "ansible.builtin.include_role": {
                    "name": "gpufleet.ollama.ollama_override",
                    "tasks_from": "preflight",
                },
            },
            {"gpufleet.ollama.systemd_dropin": {"content": "{{ __ollama_override_content }}"}},
        ],
        ollama_override_environment=THREE,
        __ollama_override_content='[Service]\nEnvironment="OLLAMA_NUM_PARALLEL=3"\n',
    )
    assert written.return_code == 0, written.output
    if reloaded:
        host.shell("systemctl daemon-reload")
    assert parallel(host) == "2"
    found = host.verify(THREE)
    assert "ollama.service runs with OLLAMA_NUM_PARALLEL=2, wanted 3" in found.output
    run = host.service(THREE)
    assert run.return_code == 0, run.output
    assert parallel(host) == "3"
    assert host.service(THREE).changed == 0


def test_the_first_dropin_of_a_unit_is_read_although_systemd_sees_no_need(host):
    host.module("systemd_dropin", content='[Service]\nEnvironment="OLLAMA_NUM_PARALLEL=3"\n')
    run = host.service(THREE)
    assert run.return_code == 0, run.output
    assert parallel(host) == "3"


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        pytest.param({"action": "exit_on_start", "status": 1}, "ollama.service", marks=essential),
        (
            {"action": "fail", "paths": ["/api/version"], "status": 500, "error": "broken"},
            "answers 500: broken",
        ),
        ({"action": "exit_after", "seconds": 0.5, "status": 1}, "ollama.service"),
    ],
)
def test_a_service_that_does_not_come_back_healthy_runs_on_what_it_had(make_host, fault, sentence):
    host = make_host(ollama={"faults": [{**fault, "when": FAULT_AT_THREE}]})
    assert host.service({"OLLAMA_NUM_PARALLEL": 2}).return_code == 0
    former = host.read(DROPIN)
    run = host.service(THREE, ollama_override_health_timeout=12, ollama_override_stable_seconds=2)
    assert run.return_code != 0
    assert sentence in run.output
    assert "Its journal " in run.output
    assert "The former drop-in is back and ollama.service runs on it." in run.output
    assert host.read(DROPIN) == former
    assert parallel(host) == "2"
    assert "PARALLEL=3" in host.shell(
        "cat /var/lib/gpufleet/ollama.service/withdrawn/zz-gpufleet.conf/*.conf"
    )
    assert host.verify({"OLLAMA_NUM_PARALLEL": 2}).return_code == 0
    assert host.service({"OLLAMA_NUM_PARALLEL": 4}).return_code == 0
    assert parallel(host) == "4"


def test_the_first_dropin_that_fails_is_taken_away_again(make_host):
    host = make_host(ollama={"faults": [{"action": "exit_on_start", "status": 1, "when": FAULT_AT_THREE}]})
    run = host.service(THREE, ollama_override_health_timeout=12)
    assert run.return_code != 0
    assert not host.exists(DROPIN)
    assert host.property("ActiveState") == "active"
    assert parallel(host) is None


def test_a_foreign_process_on_the_port_is_named_with_its_unit(host):
    host.shell(
        "systemctl stop ollama; systemd-run --unit=thief --quiet python3 -m http.server --bind 127.0.0.1 11434; sleep 1"
    )
    run = host.service(THREE, ollama_override_health_timeout=8)
    assert run.return_code != 0
    assert "the port of http://127.0.0.1:11434 is taken by python3 (pid " in run.output
    assert "unit thief.service)" in run.output
    assert not host.exists(DROPIN)  # it was this run's, and has been taken away again
    host.shell("systemctl stop thief")
    assert host.service(THREE).return_code == 0


def test_a_unit_rewritten_by_an_upgrade_keeps_our_dropin(host):
    host.service(THREE)
    host.shell("OLLAMA_UID=990 sh /root/install.sh; systemctl daemon-reload; systemctl restart ollama")
    run = host.service(THREE)
    assert run.return_code == 0, run.output
    assert run.changed == 0
    assert parallel(host) == "3"


def test_a_unit_rewritten_and_not_restarted_loses_nothing(host):
    host.service(THREE)
    pid = host.property("MainPID")
    host.shell("sed -i '/^Environment=/a Environment=OLLAMA_ORIGINS=*' /etc/systemd/system/ollama.service")
    assert "systemd has not read the files of ollama.service since they changed" in host.verify(THREE).output
    run = host.service(THREE)
    assert run.return_code == 0, run.output
    # Ours is in the process already: systemd reads the file, and the upgrade's own restart brings the rest.
    assert host.property("MainPID") == pid
    assert host.property("NeedDaemonReload") == "no"
    assert host.verify(THREE).return_code == 0


def test_a_read_only_directory_is_one_sentence_and_changes_nothing(make_host, tmp_path):
    (tmp_path / "dropins").mkdir()
    host = make_host(run_options=(f"--volume={tmp_path / 'dropins'}:{D}:ro",))
    pid = host.property("MainPID")
    run = host.service(THREE)
    assert run.return_code != 0
    assert f"{DROPIN} cannot be changed: Read-only file system; what stood there is unchanged" in run.output
    assert "Nothing was rolled back." in run.output
    assert host.property("MainPID") == pid
    assert not host.exists("/var/lib/gpufleet/ollama.service/former/zz-gpufleet.conf/*")
    host.make_writable(D)
    assert host.service(THREE).return_code == 0
    assert parallel(host) == "3"


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file_whole(make_host):
    host = make_host(run_options=(f"--tmpfs={D}:size=16k,mode=755",))
    assert host.service({"OLLAMA_NUM_PARALLEL": 2}).return_code == 0
    former = host.read(DROPIN)
    host.shell(f"cat /dev/zero > {D}/ballast 2>/dev/null || true")
    run = host.service(THREE)
    assert run.return_code != 0
    assert f"{DROPIN} cannot be changed: No space left on device; what stood there is unchanged" in run.output
    assert host.read(DROPIN) == former
    assert parallel(host) == "2"
    host.shell(f"rm {D}/ballast")
    assert host.service(THREE).return_code == 0
    assert parallel(host) == "3"


def restarted_with_three(host):
    try:
        return parallel(host) == "3"
    except HostsError:  # the process ended between the two commands that look at it
        return False


@pytest.fixture
def restarting(make_host):
    """A host on which a run has restarted the service and waits for it."""
    slow = {"action": "slow_start", "seconds": 12, "when": FAULT_AT_THREE}
    host = make_host(ollama={"faults": [slow]})
    running = host.start(host.service_playbook(THREE, ollama_override_health_timeout=60))
    deadline = time.monotonic() + 300
    while not (host.exists(DROPIN) and restarted_with_three(host)):
        assert time.monotonic() < deadline, "the run did not get as far as the restart"
        time.sleep(0.2)
    yield host, running
    running.kill()
    running.wait()


def test_a_run_killed_during_the_restart_is_repaired_by_the_next(restarting):
    host, running = restarting
    running.kill()
    running.wait()
    run = host.service(THREE)
    assert run.return_code == 0, run.output
    assert parallel(host) == "3"
    assert host.verify(THREE).return_code == 0


def test_a_connection_lost_during_the_restart_is_named_and_repaired_by_the_next_run(restarting):
    host, running = restarting
    host.shell("pkill --signal KILL --full '^sshd: root'")  # every session; the server stays
    output, _unused = running.communicate(timeout=120)
    assert running.returncode == 4, output
    assert "UNREACHABLE!" in output
    assert "PARALLEL=3" in host.read(DROPIN)
    run = host.service(THREE)
    assert run.return_code == 0, run.output
    assert parallel(host) == "3"
    assert host.verify(THREE).return_code == 0
    assert host.service(THREE).changed == 0


def test_a_host_that_was_not_booted_with_systemd_is_refused(host):
    host.shell("mv /run/systemd/system /run/systemd/elsewhere")
    run = host.service(THREE)
    host.shell("mv /run/systemd/elsewhere /run/systemd/system")
    assert run.return_code != 0
    assert "this host was not booted with systemd" in run.output


def test_settings_that_ollama_would_misread_are_refused_all_at_once(host):
    run = host.service({"OLLAMA_NUM_PARALEL": 3, "OLLAMA_GPU_OVERHEAD": "8G", "BAD\nNAME": "x"})
    assert run.return_code != 0
    assert "did you mean OLLAMA_NUM_PARALLEL?" in run.output
    assert "OLLAMA_GPU_OVERHEAD=8G does not parse" in run.output
    assert "is not a name that systemd accepts" in run.output
    assert not host.exists(DROPIN)


def test_a_variable_that_no_role_knows_is_refused(host):
    run = host.service(THREE, ollama_override_enviroment={})
    assert run.return_code != 0
    assert "ollama_override_enviroment: ollama_override knows no such variable" in run.output
    assert not host.exists(DROPIN)
