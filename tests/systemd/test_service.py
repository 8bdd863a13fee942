# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role ollama_override does on a host where nothing goes wrong."""

from __future__ import annotations

import pytest

DROPIN = "/etc/systemd/system/ollama.service.d/zz-gpufleet.conf"

THREE = {"OLLAMA_NUM_PARALLEL": 3, "OLLAMA_KEEP_ALIVE": "24h"}


@pytest.mark.essential
@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_the_process_has_the_environment_and_a_second_run_restarts_nothing(make_host, suite):
    host = make_host(suite)
    first = host.service(THREE)
    assert first.return_code == 0, first.output
    environment = host.process_environment()
    assert environment["OLLAMA_NUM_PARALLEL"] == "3"
    assert environment["OLLAMA_KEEP_ALIVE"] == "24h"
    assert environment["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert host.property("NeedDaemonReload") == "no"
    assert host.run("stat", "--format=%a %U:%G", DROPIN) == "644 root:root\n"
    assert host.run("stat", "--format=%a %U:%G", "/var/lib/gpufleet/ollama.service") == "700 root:root\n"

    pid = host.property("MainPID")
    second = host.service(THREE)
    assert second.return_code == 0, second.output
    assert second.changed == 0
    assert host.property("MainPID") == pid

    verified = host.verify(THREE)
    assert verified.return_code == 0, verified.output


def test_a_value_changed_by_hand_is_repaired(host):
    host.service(THREE)
    host.shell(f"sed -i s/PARALLEL=3/PARALLEL=7/ {DROPIN}; systemctl daemon-reload; systemctl restart ollama")
    found = host.verify(THREE)
    assert found.return_code != 0
    assert f"{DROPIN} sets OLLAMA_NUM_PARALLEL=7, wanted 3" in found.output
    assert "ollama.service runs with OLLAMA_NUM_PARALLEL=7, wanted 3" in found.output
    assert "Ollama in ollama.service took OLLAMA_NUM_PARALLEL=7, wanted 3" in found.output
    repaired = host.service(THREE)
    assert repaired.return_code == 0, repaired.output
    assert host.process_environment()["OLLAMA_NUM_PARALLEL"] == "3"


def test_a_variable_that_is_no_longer_wanted_leaves_the_process(host):
    host.service(THREE)
    run = host.service({"OLLAMA_NUM_PARALLEL": 3})
    assert run.return_code == 0, run.output
    assert "OLLAMA_KEEP_ALIVE" not in host.process_environment()
    assert host.service({"OLLAMA_NUM_PARALLEL": 3}).changed == 0


def test_absent_returns_the_service_to_what_it_was(host):
    before = host.process_environment()
    host.service(THREE)
    run = host.service({}, ollama_override_state="absent")
    assert run.return_code == 0, run.output
    assert not host.exists("/etc/systemd/system/ollama.service.d")
    after = host.process_environment()
    assert {
        k: v for k, v in after.items() if k not in ("INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID")
    } == {k: v for k, v in before.items() if k not in ("INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID")}
    assert host.service({}, ollama_override_state="absent").changed == 0
    # What remains is what a rollback needs; it is in force nowhere, and may be removed.
    left = {path.split("/")[4] for path in host.shell("find /var/lib/gpufleet -type f").split()}
    assert left == {"ollama.service"}
    assert host.exists("/var/lib/gpufleet/ollama.service/former/zz-gpufleet.conf")
    host.shell("rm -r /var/lib/gpufleet")
    assert host.service(THREE).return_code == 0


def test_check_mode_tells_what_a_run_would_do_and_does_nothing(host):
    pid = host.property("MainPID")
    foreseen = host.service(THREE, "--check", "--diff")
    assert foreseen.return_code == 0, foreseen.output
    assert '+Environment="OLLAMA_NUM_PARALLEL=3"' in foreseen.output
    assert foreseen.changed == 2  # the drop-in and the restart
    assert not host.exists(DROPIN)
    assert not host.exists("/var/lib/gpufleet")
    assert host.property("MainPID") == pid
    host.service(THREE)
    assert host.service(THREE, "--check", "--diff").changed == 0


def test_check_mode_on_a_host_without_the_service_says_so_and_a_real_run_refuses(make_host):
    host = make_host(ollama=False)
    foreseen = host.service(THREE, "--check")
    assert foreseen.return_code == 0, foreseen.output
    assert "there is no ollama.service on this host" in foreseen.output
    assert "would fail here" in foreseen.output
    run = host.service(THREE)
    assert run.return_code != 0
    assert "Nothing was changed: there is no ollama.service on this host" in run.output
    assert not host.exists(DROPIN)
    assert not host.exists("/var/lib/gpufleet")


@pytest.mark.essential
def test_secrets_show_nowhere(host):
    value = "hunter2-\"%$' secret"
    environment = {"HF_TOKEN": value, "HTTPS_PROXY": "http://user:hunter2@proxy.example:3128"}
    runs = [
        host.service(environment, "-vvv", "--diff", "--check"),
        host.service(environment, "-vvv", "--diff"),
        host.verify({**environment, "HF_TOKEN": "hunter2 as well"}, "-vvv"),
        host.service({}, "-vvv", "--diff"),
        host.playbook("rollback", "-vvv", "--diff", "--check"),
        host.playbook("rollback", "-vvv", "--diff"),
        host.service({}, "-vvv", "--diff", "--check", ollama_override_state="absent"),
        host.service({}, "-vvv", "--diff", ollama_override_state="absent"),
    ]
    assert [run.return_code for run in runs] == [0, 0, 2, 0, 0, 0, 0, 0]
    for run in runs:
        # The play's own variables are the operator's; what Ansible and the collection print must not hold them.
        assert "hunter2" not in run.output
    assert '+HF_TOKEN="********"' in runs[1].output
    assert '+HF_TOKEN="********"' in runs[5].output
    assert '-HF_TOKEN="********"' in runs[7].output
    assert "http://********@proxy.example:3128" in runs[1].output
    # Ollama itself logs its proxy; what Ansible and systemd log must not hold it.
    journal = host.shell("journalctl --no-pager | grep -v ' ollama\\['")
    assert "hunter2" not in journal


@pytest.mark.essential
@pytest.mark.parametrize("suite", ["bullseye", "trixie"])
def test_secrets_lie_where_root_alone_can_read_them_and_reach_the_process(make_host, suite):
    host = make_host(suite)
    secret_file = DROPIN.replace(".conf", ".env")
    both = {"OLLAMA_KEEP_ALIVE": "24h", "HF_TOKEN": "hunter2-\"%$' \\ `secret"}
    run = host.service(both)
    assert run.return_code == 0, run.output
    assert both.items() <= host.process_environment().items()
    assert host.run("stat", "--format=%a %U:%G", secret_file) == "600 root:root\n"
    assert "hunter2" not in host.read(DROPIN)
    assert "hunter2" not in host.shell("runuser -u nobody -- systemctl show ollama.service")
    assert "hunter2" not in host.shell(
        "runuser -u nobody -- grep -rs hunter2 /etc/systemd /run /var/lib/gpufleet || true"
    )
    assert host.service(both).changed == 0

    # As it was written before there was such a file.
    pid = host.property("MainPID")
    host.shell(
        f"sed -i 's/^EnvironmentFile=.*/Environment=HF_TOKEN=hunter2/' {DROPIN}; systemctl daemon-reload"
    )
    moved = host.service(both)
    assert moved.return_code == 0, moved.output
    assert "hunter2" not in host.read(DROPIN) + host.property("Environment")
    assert host.property("MainPID") == pid

    other = {**both, "HF_TOKEN": "hunter3"}
    run = host.service(other)
    assert run.return_code == 0, run.output
    assert other.items() <= host.process_environment().items()
    assert host.playbook("rollback").return_code == 0
    assert both.items() <= host.process_environment().items()
    host.shell(f"chmod 644 {secret_file}")
    assert "zz-gpufleet.env can be read by others than its owner" in host.verify(both).output
    assert host.service(both).return_code == 0
    assert host.run("stat", "--format=%a", secret_file) == "600\n"
    assert host.service({}, ollama_override_state="absent").return_code == 0
    assert not host.exists("/etc/systemd/system/ollama.service.d")
    assert "HF_TOKEN" not in host.process_environment()


def test_a_program_of_the_units_user_is_not_run_by_root(make_host):
    host = make_host(models={"llama3.2:3b": None})
    host.shell(
        "install -d -o ollama /home/ollama/bin; systemctl stop ollama; "
        "printf '#!/bin/sh\\nid -un >>/tmp/ran-by; echo version is 0.12.6\\n' >/home/ollama/bin/ollama; "
        "chown ollama /home/ollama/bin/ollama; chmod 755 /home/ollama/bin/ollama; "
        "mkdir -p /etc/systemd/system/ollama.service.d; "
        "printf '[Service]\\nExecStart=\\nExecStart=/home/ollama/bin/ollama serve\\n' "
        ">/etc/systemd/system/ollama.service.d/program.conf; systemctl daemon-reload"
    )
    told = host.module("ollama_model_info")
    assert told["version"] == "0.12.6"
    assert host.read("/tmp/ran-by") == "ollama\n"
    host.shell(
        "printf 'User=\\n' >>/etc/systemd/system/ollama.service.d/program.conf; rm /tmp/ran-by; systemctl daemon-reload"
    )
    told = host.module("ollama_model_info", models_path=told["models_path"])
    assert told["version"] is None
    assert "is not run, because others than root can change /home/ollama/bin" in " ".join(told["problems"])
    assert not host.exists("/tmp/ran-by")


def test_an_instance_of_a_template_has_its_own_environment(host):
    host.shell(
        "sed 's/^Environment=.*/&\\nEnvironment=OLLAMA_HOST=127.0.0.1:1234%i/' /etc/systemd/system/ollama.service"
        " > /etc/systemd/system/ollama@.service; systemctl daemon-reload; systemctl start ollama@0 ollama@1"
    )
    for number in (0, 1):
        run = host.service({"CUDA_VISIBLE_DEVICES": number}, ollama_override_unit=f"ollama@{number}.service")
        assert run.return_code == 0, run.output
    for number in (0, 1):
        environment = host.process_environment(f"ollama@{number}.service")
        assert environment["CUDA_VISIBLE_DEVICES"] == str(number)
        assert environment["OLLAMA_HOST"] == f"127.0.0.1:1234{number}"
    assert "CUDA_VISIBLE_DEVICES" not in host.process_environment()

    run = host.playbook("rollback", ollama_override_unit="ollama@1.service")
    assert run.return_code == 0, run.output
    assert "CUDA_VISIBLE_DEVICES" not in host.process_environment("ollama@1.service")
    assert host.process_environment("ollama@0.service")["CUDA_VISIBLE_DEVICES"] == "0"


def test_a_rollback_goes_back_once_and_further_where_an_older_change_is_named(host):
    rollback = [
        {
            "ansible.builtin.include_role": {
                "name": "gpufleet.ollama.ollama_override",
                "tasks_from": "rollback",
            }
        }
    ]
    host.service({"OLLAMA_NUM_PARALLEL": 2})
    host.service({"OLLAMA_NUM_PARALLEL": 3})
    assert host.play(rollback).return_code == 0
    assert host.process_environment()["OLLAMA_NUM_PARALLEL"] == "2"
    pid = host.property("MainPID")
    again = host.play(rollback)
    assert again.return_code == 0, again.output
    assert "name an older one as gpufleet_rollout (change-00000001)" in " ".join(again.output.split())
    assert host.property("MainPID") == pid
    assert host.play(rollback, ollama_override_rollout="change-00000001").return_code == 0
    assert "OLLAMA_NUM_PARALLEL" not in host.process_environment()
    assert not host.exists(DROPIN)


def test_what_is_written_was_read_by_systemd_before(make_host):
    host = make_host("bookworm")
    refused = host.module("systemd_dropin", content='[Service]\nEnvironment="OLLAMA_NUM_PARALLEL=3\n')
    assert refused["failed"]
    assert "systemd would ignore a part of our drop-in, nothing was changed" in refused["msg"]
    assert f"{DROPIN}:3" in refused["msg"]
    assert not host.exists(DROPIN)


def test_hooks_run_around_the_restart_and_the_requests_in_flight_are_awaited(host):
    hooks = {}
    for name in ("pre", "post"):
        file = host.folder / f"{name}.yml"
        file.write_text(
            f"- name: Hook\n  ansible.builtin.shell: systemctl show --value -p MainPID ollama > /run/{name}\n"
        )
        hooks[f"ollama_override_{name}_restart_tasks"] = str(file)
    run = host.service(THREE, **hooks)
    assert run.return_code == 0, run.output
    assert host.read("/run/pre") != host.read("/run/post")
    assert host.read("/run/post").strip() == host.property("MainPID")
    host.service(THREE, **hooks)
    host.shell("rm /run/pre")
    host.service(THREE, **hooks)
    assert not host.exists("/run/pre")


def test_debian_11_takes_it_too(make_host):
    host = make_host("bullseye")
    refused = host.module("systemd_dropin", content="[Service]\nEnvironment=OLLAMA_NUM_PARALLEL:3 '\n")
    assert "systemd would ignore a part of our drop-in" in refused["msg"]
    # Ollama panics at an origin without a scheme.
    odd = {**THREE, "OLLAMA_ORIGINS": 'http://x,http://"%$\\'}
    run = host.service(odd)
    assert run.return_code == 0, run.output
    assert host.process_environment()["OLLAMA_ORIGINS"] == odd["OLLAMA_ORIGINS"]
    assert host.service(odd).changed == 0


def test_a_service_of_a_user(host):
    host.shell(
        "useradd --create-home worker; loginctl enable-linger worker; mkdir -p ~worker/.config/systemd/user;"
        "printf '[Service]\\nEnvironment=OLLAMA_HOST=127.0.0.1:12000\\nExecStart=/usr/local/bin/ollama serve\\n'"
        " > ~worker/.config/systemd/user/mine.service; chown -R worker: ~worker/.config"
    )
    host.shell(
        "timeout 20 sh -c 'until systemctl is-active --quiet user@$(id -u worker); do sleep 0.2; done'"
    )
    # The module files must be readable for the user Ansible becomes; the host has no setfacl.
    settings = {
        "ansible_become": True,
        "ansible_become_method": "ansible.builtin.su",
        "ansible_become_user": "worker",
        "ansible_shell_allow_world_readable_temp": True,
        "ollama_override_unit": "mine.service",
        "ollama_override_scope": "user",
    }
    run = host.service(THREE, **settings)
    assert run.return_code == 0, run.output
    assert "PARALLEL=3" in host.read("/home/worker/.config/systemd/user/mine.service.d/zz-gpufleet.conf")
    assert host.exists("/home/worker/.local/state/gpufleet/mine.service")
    environment = host.shell("tr '\\0' '\\n' < /proc/$(pgrep --full --uid worker 'ollama serve')/environ")
    assert "OLLAMA_NUM_PARALLEL=3" in environment.split("\n")
    assert host.service(THREE, **settings).changed == 0

    run = host.playbook("rollback", **settings)
    assert run.return_code == 0, run.output
    assert not host.exists("/home/worker/.config/systemd/user/mine.service.d")
    environment = host.shell("tr '\\0' '\\n' < /proc/$(pgrep --full --uid worker 'ollama serve')/environ")
    assert "OLLAMA_NUM_PARALLEL" not in environment


def test_models_are_loaded_again_after_a_restart(make_host):
    host = make_host(gpus="rtx3090_x2", models={"llama3.2:1b": None, "nomic-embed-text": None})
    models = [
        {"name": "llama3.2:1b", "context_length": 4096, "num_parallel": 3, "placement": "gpu"},
        {"name": "nomic-embed-text", "placement": "gpu"},
    ]
    environment = {**THREE, "OLLAMA_CONTEXT_LENGTH": 4096}
    run = host.service(environment, ollama_override_preload=True, ollama_override_preload_models=models)
    assert run.return_code == 0, run.output
    looked = host.module("ollama_load", models=models)
    assert [model["loaded"] for model in looked["models"]] == [True, True]
    assert (looked["changed"], looked["differences"]) == (False, [])
    assert looked["models"][0]["num_parallel"] == 3

    run = host.service({**environment, "OLLAMA_NUM_PARALLEL": 2}, ollama_override_reload_models=True)
    assert run.return_code == 0, run.output
    verified = host.verify(
        {**environment, "OLLAMA_NUM_PARALLEL": 2}, ollama_verify_load=True, ollama_verify_models=models
    )
    assert verified.return_code != 0
    assert "llama3.2:1b runs with number of slots 2, planned 3" in verified.output


def test_requests_in_flight_are_awaited_before_the_restart(make_host):
    host = make_host(
        gpus="rtx3060_12gb",
        models={"llama3.2:1b": None},
        ollama={"faults": [{"action": "hang", "paths": ["/api/chat"], "seconds": 15}]},
    )
    # A client that comes before the server listens goes away again.
    host.module("ollama_wait")
    host.shell(
        'systemd-run --quiet --unit=client python3 -c "import urllib.request as u; '
        "u.urlopen(u.Request('http://127.0.0.1:11434/api/chat', data=b'{}')).read()\""
    )
    # 2CAA is the port, 01 an established connection; the server accepts it in the next moment.
    host.shell("timeout 10 sh -c 'until grep -q \":2CAA .* 01 \" /proc/net/tcp; do sleep 0.1; done'; sleep 1")
    waited = host.module("ollama_wait", condition="idle", timeout_seconds=2)
    assert (waited["idle"], waited["reason"]) == (False, "1 connection to the API from 127.0.0.1")
    run = host.service(THREE, ollama_override_drain_timeout=30)
    assert run.return_code == 0, run.output
    assert "although it is not idle" not in run.output
    assert host.property("Result", "client.service") in ("success", "exit-code")
    host.shell("! systemctl is-active --quiet client")
