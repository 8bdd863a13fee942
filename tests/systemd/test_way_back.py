# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back: to what ran before a rollout, in service or said to be out of it, and never one further."""

from __future__ import annotations

import pytest

D = "/etc/systemd/system/ollama.service.d"
DROPIN = f"{D}/zz-gpufleet.conf"
STATE = "/var/lib/gpufleet/ollama.service"
FORMER = f"{STATE}/former/zz-gpufleet.conf"
RECORD = f"{STATE}/written/zz-gpufleet.conf.json"
ONE_GPU = {"gpus": "rtx3060_12gb", "models": {"llama3.2:3b": None}}
IMPATIENT = {
    "ollama_override_health_timeout": 12,
    "ollama_override_stable_seconds": 1,
    "ollama_override_drain_timeout": 1,
}
THREE = {"OLLAMA_NUM_PARALLEL": 3}
FAILS_AT_THREE = {"action": "exit_on_start", "status": 1, "when": {"OLLAMA_NUM_PARALLEL": "3"}}


def parallel(host):
    return host.process_environment().get("OLLAMA_NUM_PARALLEL")


def rollouts(host):
    """The rollouts of which something is kept, oldest first."""
    return [name.split("+")[1].split(".")[0] for name in host.shell(f"ls {FORMER}").split()]


@pytest.fixture
def hooks(tmp_path):
    """Task files around a restart that note on the host when they ran; `post` fails where the host says so."""
    for name, condition in (("pre", ""), ("post", "test ! -e /run/post-fails && ")):
        tasks = f"- name: Hook {name}\n  ansible.builtin.shell: {condition}echo {name} >>/run/hooks\n"
        (tmp_path / f"{name}.yml").write_text(tasks)
    return {f"ollama_override_{name}_restart_tasks": str(tmp_path / f"{name}.yml") for name in ("pre", "post")}


def called(host):
    """Which of the task files ran since the last call, in their order."""
    return host.shell("touch /run/hooks; cat /run/hooks; rm /run/hooks").split()


def test_a_rollback_takes_the_fleet_back_to_before_the_last_rollout_and_no_host_one_further(make_hosts, hooks):
    faulty = {**ONE_GPU, "ollama": {"faults": [FAILS_AT_THREE]}}
    canary, other = make_hosts(canary=faulty, other=ONE_GPU)
    everywhere = ("--limit=all",)
    for number in (1, 2):
        applied = canary.playbook("site", *everywhere, ollama_plan_num_parallel=number, **IMPATIENT)
        assert applied.return_code == 0, applied.output
    failed = canary.playbook("site", *everywhere, ollama_plan_num_parallel=3, **IMPATIENT)
    assert failed.return_code != 0
    assert (parallel(canary), parallel(other)) == ("2", "2")

    back = canary.playbook("rollback", *everywhere, **hooks, **IMPATIENT)
    assert back.return_code == 0, back.output
    assert (parallel(canary), parallel(other)) == ("2", "2")
    said = " ".join(back.output.split())
    assert ", known to canary" in said
    assert ", known to canary, other" not in said
    assert "was taken back before" in said
    assert "has changed nothing of ollama.service" in said
    assert called(canary) + called(other) == []

    unknown = canary.playbook("rollback", *everywhere, gpufleet_rollout="20200101T000000Z-0000", **IMPATIENT)
    assert unknown.return_code != 0
    assert "No host was changed: none of them knows the rollout 20200101T000000Z-0000" in unknown.output

    first, second = rollouts(other)
    assert rollouts(canary) == [first, second]
    back = canary.playbook("rollback", *everywhere, gpufleet_rollout=second, **hooks, **IMPATIENT)
    assert back.return_code == 0, back.output
    assert (parallel(canary), parallel(other)) == ("1", "1")
    assert called(canary) == called(other) == ["pre", "post"]
    said = " ".join(back.output.split())
    assert f"Taken back is the rollout {second}, known to canary, other" in said
    for name in ("canary", "other"):
        told = f"{name}: ollama.service is back on what it had before rollout {second}: zz-gpufleet.conf with"
        assert told in said


def test_a_rollback_waits_for_the_requests_in_flight_and_passes_hosts_that_know_nothing(make_hosts):
    hangs = {"faults": [{"action": "hang", "paths": ["/api/chat"], "seconds": 40}]}
    fresh, applied = make_hosts(fresh=ONE_GPU, applied={**ONE_GPU, "ollama": hangs})
    assert applied.playbook("site", ollama_plan_num_parallel=2, **IMPATIENT).return_code == 0
    applied.shell(
        'systemd-run --quiet --unit=client python3 -c "import urllib.request as u; '
        "u.urlopen(u.Request('http://127.0.0.1:11434/api/chat', data=b'{}')).read()\""
    )
    # 2CAA is the port, 01 an established connection.
    applied.shell("timeout 10 sh -c 'until grep -q \":2CAA .* 01 \" /proc/net/tcp; do sleep 0.1; done'; sleep 1")
    back = fresh.playbook("rollback", "--limit=all", **{**IMPATIENT, "ollama_override_drain_timeout": 90})
    assert back.return_code == 0, back.output
    assert "although it is not idle" not in back.output
    applied.shell("! systemctl is-active --quiet client")
    assert parallel(applied) is None
    assert "fresh: ollama.service stays as it is: no former drop-in of ollama.service is known" in " ".join(
        back.output.split()
    )


@pytest.mark.essential
def test_after_a_run_that_failed_the_host_is_back_in_service_and_the_message_says_so(make_host, hooks):
    host = make_host(ollama={"faults": [FAILS_AT_THREE]})
    run = host.service(THREE, **hooks, ollama_override_health_timeout=12)
    assert run.return_code != 0
    assert "The former drop-in is back and ollama.service runs on it. The host is in service." in run.output
    assert called(host) == ["pre", "post"]
    assert host.property("ActiveState") == "active"

    host.shell("touch /run/post-fails")
    run = host.service({"OLLAMA_NUM_PARALLEL": 2}, **hooks)
    assert run.return_code != 0
    assert "The former drop-in is back and ollama.service runs on it." in run.output
    assert "The host is still out of service" in run.output
    assert called(host) == ["pre"]


def test_a_run_that_only_restarts_and_fails_leaves_the_file_that_it_found(make_host, hooks):
    host = make_host()
    for number in (2, 3):
        assert host.service({"OLLAMA_NUM_PARALLEL": number}).return_code == 0
    host.shell(
        f"printf '[Service]\\nEnvironment=OLLAMA_NUM_PARALLEL=9\\n' >{D}/zzz.conf; systemctl daemon-reload; "
        f"systemctl restart ollama; rm {D}/zzz.conf; systemctl daemon-reload; touch /run/post-fails"
    )
    assert parallel(host) == "9"
    run = host.service(THREE, **hooks)
    assert run.return_code != 0
    assert "This run has not written the drop-in, which stays as it is." in run.output
    assert "PARALLEL=3" in host.read(DROPIN)
    assert parallel(host) == "3"


def test_what_a_killed_run_wrote_is_taken_back_by_the_next_where_it_does_not_start(make_host):
    host = make_host(ollama={"faults": [FAILS_AT_THREE]})
    assert host.service({"OLLAMA_NUM_PARALLEL": 2}).return_code == 0
    written = host.read(DROPIN).replace("PARALLEL=2", "PARALLEL=3")
    assert host.module("systemd_dropin", content=written)["changed"]  # and the run is killed
    run = host.service(THREE, ollama_override_health_timeout=12)
    assert run.return_code != 0
    assert "The former drop-in is back and ollama.service runs on it." in run.output
    assert "PARALLEL=2" in host.read(DROPIN)
    assert parallel(host) == "2"


def forget_the_proof(host):
    """The state that a run leaves which was killed when the service was healthy and before that was noted."""
    host.shell(f"sed -i 's/\"proven\": true/\"proven\": false/' {RECORD}; grep -q false {RECORD}")


def test_a_run_that_was_killed_when_the_service_was_healthy_is_completed_by_the_next(make_host):
    host = make_host(**ONE_GPU)
    assert host.playbook("site", **IMPATIENT).return_code == 0
    forget_the_proof(host)
    pid = host.property("MainPID")
    checked = host.playbook("site", "--check", **IMPATIENT)
    assert (checked.return_code, checked.changed) == (0, 0), checked.output
    assert "false" in host.read(RECORD)
    run = host.playbook("site", **IMPATIENT)
    assert (run.return_code, run.changed) == (0, 0), run.output
    assert "true" in host.read(RECORD)
    assert host.property("MainPID") == pid
    assert host.report()["host"]["state"] == "in sync"


def test_what_a_killed_run_left_running_and_unhealthy_is_taken_back_by_the_next(make_host):
    broken = {"action": "fail", "paths": ["/api/version"], "status": 500, "error": "broken"}
    host = make_host(ollama={"faults": [{**broken, "when": FAILS_AT_THREE["when"]}]})
    assert host.service({"OLLAMA_NUM_PARALLEL": 2}).return_code == 0
    written = host.read(DROPIN).replace("PARALLEL=2", "PARALLEL=3")
    assert host.module("systemd_dropin", content=written)["changed"]
    host.shell("systemctl daemon-reload; systemctl restart ollama")  # and the run is killed
    run = host.service(THREE, ollama_override_health_timeout=12)
    assert run.return_code != 0
    assert "answers 500: broken" in run.output
    assert "The former drop-in is back and ollama.service runs on it." in run.output
    assert parallel(host) == "2"


def test_a_rollback_in_check_mode_tells_what_it_would_do_and_does_nothing(host):
    for number in (2, 3):
        assert host.service({"OLLAMA_NUM_PARALLEL": number}).return_code == 0
    run = host.playbook("rollback", "--check")
    assert run.return_code == 0, run.output
    assert "ollama.service would be back on what it had before change" in " ".join(run.output.split())
    assert "is back" not in run.output
    assert "PARALLEL=3" in host.read(DROPIN)
    assert parallel(host) == "3"


def test_a_rollback_that_was_killed_before_its_restart_is_completed_by_the_next(host):
    for number in (2, 3):
        assert host.service({"OLLAMA_NUM_PARALLEL": number}).return_code == 0
    assert host.module("systemd_dropin", state="restored")["restored"]
    assert parallel(host) == "3"
    run = host.playbook("rollback", **IMPATIENT)
    assert run.return_code == 0, run.output
    assert parallel(host) == "2"
    pid = host.property("MainPID")
    assert host.playbook("rollback", **IMPATIENT).return_code == 0
    assert host.property("MainPID") == pid


def test_a_stopped_service_goes_back_and_stays_stopped(host):
    assert host.service(THREE).return_code == 0
    host.shell("systemctl disable --now ollama")
    run = host.playbook("rollback", **IMPATIENT)
    assert run.return_code == 0, run.output
    assert not host.exists(DROPIN)
    assert host.property("ActiveState") == "inactive"


def test_another_name_for_our_dropin_leaves_no_old_one_in_force_and_a_rollback_brings_it_back(host):
    both = {"OLLAMA_KEEP_ALIVE": "24h", "HF_TOKEN": "hunter2"}
    assert host.service(both).return_code == 0
    renamed = {"ollama_override_dropin_name": "zzzz-fleet.conf"}
    told = host.verify(THREE, ollama_verify_dropin_name="zzzz-fleet.conf", ollama_verify_fail=True).output
    assert f"{DROPIN} was written by gpufleet.ollama before our drop-in was to be" in told
    run = host.service(THREE, **renamed)
    assert run.return_code == 0, run.output
    assert host.shell(f"ls {D}").split() == ["zzzz-fleet.conf"]
    environment = host.process_environment()
    assert (environment["OLLAMA_NUM_PARALLEL"], "OLLAMA_KEEP_ALIVE" in environment) == ("3", False)
    assert host.service(THREE, **renamed).changed == 0

    assert host.playbook("rollback", **renamed, **IMPATIENT).return_code == 0
    assert host.shell(f"ls {D}").split() == ["zz-gpufleet.conf", "zz-gpufleet.env"]
    assert both.items() <= host.process_environment().items()
    assert host.service({}, ollama_override_state="absent", **renamed).return_code == 0
    assert not host.exists(D)


def test_versions_kept_by_a_clock_that_was_ahead_and_foreign_files_disturb_nothing(host):
    for number in (1, 2, 3):
        assert host.service({"OLLAMA_NUM_PARALLEL": number}, ollama_override_keep_former=3).return_code == 0
    host.shell(
        f"cd {FORMER}; n=0; for f in *; do n=$((n+1)); mv $f 2031010${{n}}T000000.000000Z.${{f##*.}}; done; "
        "mkdir zzz.conf change-00000099.conf; echo x >readme.conf"
    )
    for number in (4, 5):
        assert host.service({"OLLAMA_NUM_PARALLEL": number}, ollama_override_keep_former=3).return_code == 0
    assert host.playbook("rollback", **IMPATIENT).return_code == 0
    assert parallel(host) == "4"


def test_folders_have_their_modes_whatever_the_umask_of_root(host):
    host.shell("echo 'umask 077' >/root/.bashrc; mkdir -p /var/lib/gpufleet; chmod 755 /var/lib/gpufleet")
    assert host.service(THREE).return_code == 0
    modes = host.run("stat", "--format=%a", D, "/var/lib/gpufleet", STATE, FORMER, DROPIN).split()
    assert modes == ["755", "700", "700", "700", "644"]
    assert "PARALLEL=3" in host.shell("runuser -u nobody -- systemctl cat ollama")
