# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs of site.yml and drift.yml write as metrics, served by Debian's node_exporter as the package leaves it."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.tests.report.exposition import read_metrics

from .conftest import CHECKOUT

MODEL = "llama3.2:3b"
CARD = {"gpus": "rtx3060_12gb", "models": {MODEL: None}}
MONITOR = {"packages": ("prometheus", "prometheus-node-exporter"), "ollama": False, "groups": ("monitor",)}
PLACE = "/var/lib/prometheus/node-exporter/gpufleet.prom"
FETCH = "python3 -c 'import urllib.request; print(urllib.request.urlopen(\"http://localhost:9100/metrics\").read().decode())'"
RULES = ("roles/ollama_report/files/gpufleet.rules.yml", "tests/report/rules.test.yml")


def test_metrics_of_real_runs_are_served_by_node_exporter_and_the_alert_rules_work(make_hosts, tmp_path):
    host, monitor = make_hosts(a=CARD, monitor=MONITOR)
    file = tmp_path / "gpufleet.prom"
    settings = {
        "ollama_report_metrics_file": str(file),
        "ollama_plan_wanted": [{"name": MODEL, "context_length": 4096, "requests": 2}],
    }
    applied = host.playbook("site", **settings)
    assert applied.return_code == 0, applied.output
    told = read_metrics(file.read_text())
    assert told["gpufleet_host_state"].value(host="a", state="in sync") == 1
    for value in ("num_parallel", "max_loaded_models", "context_tokens"):
        planned = told[f"gpufleet_planned_{value}"].value(host="a")
        assert planned is not None
        assert planned == told[f"gpufleet_running_{value}"].value(host="a")
    assert told["gpufleet_model_planned_slots"].value(host="a", model=MODEL) == 2

    assert monitor.run("promtool", "check", "metrics", input=file.read_text()) == ""
    monitor.write(PLACE, file.read_text())
    served = monitor.shell(FETCH)
    assert "node_textfile_scrape_error 0" in served
    assert 'gpufleet_host_state{host="a",state="in sync"} 1' in served
    for rules in RULES:
        monitor.write(f"/root/{rules}", (CHECKOUT / rules).read_text())
    assert "SUCCESS" in monitor.run("promtool", "test", "rules", f"/root/{RULES[1]}")

    host.shell("systemctl stop ollama")
    assert host.playbook("drift", **settings).return_code == 0
    told = read_metrics(file.read_text())
    assert told["gpufleet_host_state"].value(host="a", state="drifted") == 1
    assert told["gpufleet_host_layer_in_sync"].value(host="a", layer="process") == 0
    assert "gpufleet_running_num_parallel" not in told
