# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs of Ansible against one host at the same time: what the operators see, and that nothing is lost."""

from __future__ import annotations

import re
import time

import pytest

D = "/etc/systemd/system/ollama.service.d"
DROPIN = f"{D}/zz-gpufleet.conf"
BENCHMARK_DROPIN = "/run/systemd/system/ollama.service.d/zzz-gpufleet-benchmark.conf"
FORMER = "/var/lib/gpufleet/ollama.service/former/zz-gpufleet.conf"
IMPATIENT = {"ollama_override_health_timeout": 20, "ollama_override_stable_seconds": 1}


@pytest.fixture
def host(make_host):
    """A host on which a plan with one request at a time is in place."""
    made = make_host(
        gpus="rtx3060_12gb",
        models={"llama3.2:3b": None},
        ollama={"throughput": {"law": "linear", "tokens_per_second": 40, "time_scale": 1}},
    )
    first = made.playbook("site", ollama_plan_num_parallel=1, **IMPATIENT)
    assert first.return_code == 0, first.output
    return made


def in_file(host):
    return re.findall(r'"OLLAMA_NUM_PARALLEL=(\d+)"', host.read(DROPIN))


def in_process(host):
    return host.process_environment().get("OLLAMA_NUM_PARALLEL")


def at_the_same_time(host, *parallels, apart_s=0.0):
    """Whether the run for each parallel value succeeded, and what it said."""
    running = []
    for parallel in parallels:
        running.append(host.start_playbook("site", ollama_plan_num_parallel=parallel, **IMPATIENT))
        time.sleep(apart_s)
    outputs = [one.communicate()[0] for one in running]
    return [(one.returncode == 0, " ".join(output.split())) for one, output in zip(running, outputs)]


@pytest.mark.parametrize("apart_s", [pytest.param(0.0, marks=pytest.mark.essential), 1.0, 3.0])
def test_two_rollouts_end_in_what_one_of_them_wants(host, apart_s):
    original = host.read(DROPIN)
    runs = dict(zip(("2", "3"), at_the_same_time(host, 2, 3, apart_s=apart_s)))
    decided = in_process(host)
    assert [decided] == in_file(host)
    assert runs[decided][0], runs[decided][1]  # the run whose values are there says that it succeeded
    for parallel, (succeeded, output) in runs.items():
        if parallel != decided:
            assert succeeded or "nother run has changed" in output
    assert host.property("NeedDaemonReload") == "no"
    formers = host.shell(f"cat {FORMER}/*.conf")
    assert original in formers

    repaired = host.playbook("site", ollama_plan_num_parallel=2, **IMPATIENT)
    assert repaired.return_code == 0, repaired.output
    assert (in_file(host), in_process(host)) == (["2"], "2")


def test_the_same_rollout_twice_restarts_once_and_both_succeed(host):
    starts = "journalctl --unit=ollama --output=cat --no-pager | grep --count 'msg=\"server config\"'"
    before = int(host.shell(starts))
    runs = at_the_same_time(host, 2, 2)
    assert [succeeded for succeeded, _output in runs] == [True, True], runs
    assert (in_file(host), in_process(host)) == (["2"], "2")
    assert int(host.shell(starts)) == before + 1


def test_a_rollout_during_a_benchmark_is_refused_and_disturbs_nothing(host):
    settings = {
        "ollama_benchmark_parallels": [1, 2],
        "ollama_benchmark_prompt_lengths": [16],
        "ollama_benchmark_output_lengths": [64],
        "ollama_benchmark_requests_per_client": 4,
        "ollama_benchmark_rounds": 1,
    }
    original = host.read(DROPIN)
    benchmark = host.start_playbook("benchmark", **settings, **IMPATIENT)
    deadline = time.monotonic() + 300
    while not host.exists(BENCHMARK_DROPIN):
        assert time.monotonic() < deadline, "the benchmark did not get as far as its first measurement"
        time.sleep(0.2)

    site = host.playbook("site", ollama_plan_num_parallel=2, **IMPATIENT)

    said = " ".join(site.output.split())
    assert site.return_code != 0
    assert f"No host was changed. host: {BENCHMARK_DROPIN}:" in said
    assert "wait until that run has ended" in said
    assert host.read(DROPIN) == original
    output, _unused = benchmark.communicate()
    assert benchmark.returncode == 0, output
    assert not host.exists(BENCHMARK_DROPIN)
    assert (in_file(host), in_process(host)) == (["1"], "1")

    repaired = host.playbook("site", ollama_plan_num_parallel=2, **IMPATIENT)
    assert repaired.return_code == 0, repaired.output
    assert in_process(host) == "2"
