# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A benchmark measures the right service, cuts nobody off, and what it leaves heals by itself or by one command."""

from __future__ import annotations

import json
import time

import pytest

NAME = "zzz-gpufleet-benchmark.conf"
SETTINGS = {
    "ollama_benchmark_parallels": [1, 2],
    "ollama_benchmark_prompt_lengths": [16],
    "ollama_benchmark_output_lengths": [16],
    "ollama_benchmark_requests_per_client": 1,
    "ollama_benchmark_rounds": 1,
    "ollama_override_health_timeout": 20,
    "ollama_override_stable_seconds": 1,
    "ollama_override_drain_timeout": 2,
}
FAST = {"throughput": {"law": "linear", "tokens_per_second": 40, "time_scale": 0.25}}
STARTS = "journalctl --unit={} --output=cat --no-pager | grep --count 'msg=\"server config\"' || true"
# Somebody's long request, and then the next one.
CLIENT = """\
import json, time, urllib.request

request = {"model": "llama3.2:3b", "prompt": "x", "options": {"num_predict": 100000}}
while True:
    try:
        urllib.request.urlopen("http://127.0.0.1:11434/api/generate", json.dumps(request).encode()).read()
    except (OSError, ValueError):
        time.sleep(0.2)
"""


def dropin(unit="ollama.service"):
    return f"/run/systemd/system/{unit}.d/{NAME}"


@pytest.fixture
def make(make_host):
    """Makes a host with one model."""

    def made(**settings):
        return make_host(gpus="rtx3060_12gb", models={"llama3.2:3b": None}, **{"ollama": FAST, **settings})

    return made


def use_it(host):
    host.write("/root/client.py", CLIENT)
    host.shell("systemd-run --quiet --unit=client python3 /root/client.py")


def as_it_is(host, unit="ollama.service"):
    environment = host.process_environment(unit)
    return (
        {name: value for name, value in environment.items() if name.startswith("OLLAMA_")},
        host.exists(dropin(unit)),
        host.shell("systemctl list-units --all --no-legend 'gpufleet-*'"),
    )


def wait_for(condition, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"this did not come about within {seconds} s"
        time.sleep(0.2)


def test_the_unit_of_the_inventory_is_measured_and_no_other(make):
    host = make()
    host.shell(
        "systemctl disable --now ollama; "
        "sed 's/^\\[Service\\]/&\\nEnvironment=OLLAMA_HOST=127.0.0.1:11500/' /etc/systemd/system/ollama.service"
        " > /etc/systemd/system/second.service; systemctl daemon-reload; systemctl start second"
    )
    before = as_it_is(host, "second.service")
    run = host.playbook("benchmark", ollama_override_unit="second.service", **SETTINGS)
    assert run.return_code == 0, run.output
    assert "<svg" in (host.folder / "report" / "benchmark.html").read_text()
    assert as_it_is(host, "second.service") == before
    assert host.property("ActiveState") == "inactive"
    kept = json.loads(host.read("/var/lib/gpufleet/second.service/benchmark.json"))
    assert [point["parallel"] for point in kept["models"][0]["points"]] == [1, 2]


@pytest.mark.essential
def test_a_server_that_somebody_uses_is_not_touched_and_it_is_said_who(make):
    host = make()
    use_it(host)
    wait_for(lambda: "llama-server" in host.shell("ps ax -o args"))
    starts, before = host.shell(STARTS.format("ollama")), as_it_is(host)
    run = host.playbook("benchmark", **SETTINGS)
    said = " ".join(run.output.split())
    assert run.return_code != 0
    assert "Nothing was changed: ollama.service serves others: 1 connection to the API from 127.0.0.1" in said
    assert host.shell(STARTS.format("ollama")) == starts
    assert as_it_is(host) == before
    assert host.property("ActiveState", "client") == "active"


def test_a_server_that_somebody_comes_to_use_is_not_restarted_for_the_next_value(make):
    host = make(ollama={"throughput": {"law": "linear", "tokens_per_second": 10, "time_scale": 1}})
    running = host.start_playbook("benchmark", **{**SETTINGS, "ollama_benchmark_parallels": [1, 2, 3]})
    wait_for(lambda: host.exists(dropin()) and "llama-server" in host.shell("ps ax -o args"))
    use_it(host)
    output, _unused = running.communicate()
    assert running.returncode != 0, output
    assert "ollama.service serves others" in " ".join(output.split())
    assert "OLLAMA_NUM_PARALLEL:3" not in host.shell("journalctl --unit=ollama --output=cat --no-pager")
    assert not host.exists(dropin())


def interrupted(host):
    """A benchmark that was interrupted while it measured; what it had said."""
    slow = {**SETTINGS, "ollama_benchmark_output_lengths": [4000]}
    running = host.start_playbook("benchmark", **slow)
    wait_for(lambda: host.exists(dropin()) and "llama-server" in host.shell("ps ax -o args"))
    running.kill()
    output, _unused = running.communicate()
    return " ".join(output.split())


def test_what_an_interrupted_benchmark_leaves_is_said_and_repaired_by_that_command(make):
    host = make()
    before = as_it_is(host)
    said = interrupted(host)
    assert host.exists(dropin())
    assert f"has {dropin()}. If this run is interrupted, the host removes it" in said
    command = "gpufleet.ollama.benchmark -e gpufleet_benchmark_restore=true --limit host"
    assert f"ansible-playbook -i {host.fleet.inventory} {command}" in said
    run = host.playbook("benchmark", gpufleet_benchmark_restore=True, **SETTINGS)
    assert run.return_code == 0, run.output
    assert as_it_is(host) == before


def test_what_an_interrupted_benchmark_leaves_is_gone_after_a_boot(make):
    host = make()
    before = as_it_is(host)
    interrupted(host)
    assert host.process_environment() != before[0]
    host.reboot()
    wait_for(lambda: host.property("ActiveState") == "active")
    assert as_it_is(host) == before
    run = host.playbook("drift", gpufleet_drift_fail=False)
    assert run.return_code == 0, run.output


def test_the_host_puts_its_state_back_by_itself(make):
    host = make()
    before = as_it_is(host)
    host.write(dropin(), "[Service]\nEnvironment=OLLAMA_NUM_PARALLEL=7\n")
    host.shell("systemctl daemon-reload; systemctl restart ollama")
    later = {"dropin_name": NAME, "runtime": True}
    first = host.module("systemd_dropin_timer", seconds=3600, **later)
    assert host.module("systemd_dropin_timer", seconds=5, **later)["timer"] == first["timer"]
    assert first["timer"] in host.shell("systemctl list-timers --all --no-legend")
    wait_for(lambda: not host.exists(dropin()), seconds=60)
    wait_for(lambda: host.property("ActiveState") == "active" and as_it_is(host) == before, seconds=60)
    assert host.module("systemd_dropin_timer", state="absent", **later)["changed"] is False


def test_a_service_of_a_user_is_measured_in_the_user_s_own_manager(make):
    host = make()
    units = "/home/ana/.config/systemd/user"
    host.shell(
        f"useradd --create-home --shell /bin/bash ana; loginctl enable-linger ana; mkdir -p {units}; "
        "chmod --recursive a+rX /usr/share/ollama; "
        "sed -e '/^User=/d; /^Group=/d' -e 's/^\\[Service\\]/&\\nEnvironment=OLLAMA_HOST=127.0.0.1:11600 "
        "OLLAMA_MODELS=\\/usr\\/share\\/ollama\\/.ollama\\/models/' "
        f"/etc/systemd/system/ollama.service > {units}/ollama.service; chown --recursive ana /home/ana/.config"
    )
    manage = "runuser -u ana -- env XDG_RUNTIME_DIR=/run/user/$(id -u ana) systemctl --user"
    wait_for(lambda: "yes" in host.shell("test -S /run/user/$(id -u ana)/bus && echo yes || true"))
    host.shell(f"{manage} daemon-reload; {manage} start ollama")
    as_ana = {"ansible_become": True, "ansible_become_method": "su", "ansible_become_user": "ana"}
    run = host.playbook("benchmark", ollama_override_scope="user", **as_ana, **SETTINGS)
    assert run.return_code == 0, run.output
    assert "$XDG_RUNTIME_DIR/systemd/user/ollama.service.d" in run.output
    kept = json.loads(host.read("/home/ana/.local/state/gpufleet/ollama.service/benchmark.json"))
    assert [point["parallel"] for point in kept["models"][0]["points"]] == [1, 2]
    assert host.shell(f"{manage} list-units --all --no-legend 'gpufleet-*'; ls /run/user/*/systemd/user") == ""
    assert "OLLAMA_NUM_PARALLEL" not in host.process_environment()


def test_a_host_is_out_of_service_from_the_first_value_to_the_last(make, tmp_path):
    for name in ("pre", "post"):
        noted = f"echo {name} $(systemctl show --value -p MainPID ollama) >>/run/hooks"
        (tmp_path / f"{name}.yml").write_text(f"- name: Hook\n  ansible.builtin.shell: {noted}\n")
    hooks = {f"ollama_override_{name}_restart_tasks": str(tmp_path / f"{name}.yml") for name in ("pre", "post")}
    host = make()
    before = host.property("MainPID")
    run = host.playbook("benchmark", **hooks, **SETTINGS)
    assert run.return_code == 0, run.output
    after = host.property("MainPID")
    assert host.read("/run/hooks").split() == ["pre", before, "post", after]
    # After a run that was interrupted the host may have restored itself, and still be out of service.
    run = host.playbook("benchmark", gpufleet_benchmark_restore=True, **hooks, **SETTINGS)
    assert run.return_code == 0, run.output
    assert host.read("/run/hooks").split()[4:] == ["post", after]
