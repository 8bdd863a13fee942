# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics by Prometheus' own programs: promtool, a node_exporter that reads the file, a Prometheus that answers.

``pytest tests/report`` needs Debian's packages prometheus and prometheus-node-exporter. Grafana is not in Debian: that its
dashboard can be drawn is not tested, only that Prometheus answers each of its queries.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._history import with_history
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._host_data import HostData
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._metrics import METRICS, metrics
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._report import fleet_report
from ansible_collections.gpufleet.ollama.tests.report.fleet import fleet
from ansible_collections.gpufleet.ollama.tests.report.test_page import make_page

CHECKOUT = Path(__file__).resolve().parents[2]
FILES = CHECKOUT / "roles" / "ollama_report" / "files"
DASHBOARD = json.loads((FILES / "gpufleet-dashboard.json").read_text(encoding="utf-8"))
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
GUIDE = (CHECKOUT / "docs" / "monitoring.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```text\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
PROGRAMS = {name: shutil.which(name) for name in ("promtool", "prometheus", "prometheus-node-exporter")}
PATIENCE_SECONDS = 60
# What stands in a label as it is, and what would end it.
EVIL = 'a"} 1\n# TYPE b\\c\0\x01\r\x7fü\u2028'

pytestmark = pytest.mark.skipif(
    None in PROGRAMS.values(),
    reason="no Prometheus on this machine: apt-get install prometheus prometheus-node-exporter",
)


def text() -> str:
    """The metrics of fifty hosts, some with odd names, one of which has everything that can be told."""
    hosts = [
        HostData(
            name.replace("gpu0000", EVIL),
            plan=known.get("ollama_plan"),
            verified=known.get("ollama_verify_result"),
            failure=known.get("ollama_report_failure", ""),
            unreachable=known.get("ollama_report_unreachable", ""),
        )
        for name, known in fleet(50).items()
    ]
    plan = next(host.plan for host in hosts if host.plan and host.plan["gpus"] and host.plan["models"])
    load = {"model": EVIL, "kind": "compute", "gpu": 0, "basis": "exact", "parallel": 1, "context_length": 1}
    load |= {
        "predicted_bytes": 1,
        "seen_bytes": 2,
        "difference_bytes": 1,
        "when": "",
        "is_beyond": True,
        "is_absurd": False,
    }
    history = {
        "model": EVIL,
        "loads": 3,
        "evicted": 2,
        "spilled": 1,
        "failed": 1,
        "error": "",
        "at_least": False,
    }
    short = [{**gpu, "free_bytes": 0} for gpu in plan["gpus"]]
    unsafe = {**plan, "safe": False, "gpus": short, "seen": [load], "history": [history]}
    hosts.append(HostData("full", plan=unsafe, verified={"differences": [], "conflicts": []}))
    return "".join(
        metrics(with_history(fleet_report(hosts, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())), ()))
    )


def promtool(*arguments: str, told: str = "") -> str:
    done = subprocess.run(["promtool", *arguments], input=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def answer(address: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{address}", timeout=10) as reply:
        read: bytes = reply.read()
        return read.decode()


def patiently(ask: Callable[[], Any]) -> Any:
    """What is answered once there is an answer that is not empty."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            if told := ask():
                return told
        except urllib.error.URLError:
            pass
        assert time.monotonic() < end, "no answer"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder, port = tmp_path_factory.mktemp("textfiles"), free_port()
    (folder / "gpufleet.prom").write_text(text(), encoding="utf-8")
    (folder / "other.prom").write_text(
        "".join(
            metrics(
                with_history(
                    fleet_report([HostData("other", failure="no model")], "2026-01-01T00:00:00Z"), ()
                )
            )
        )
    )
    options = [
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={folder}",
    ]
    running = subprocess.Popen(
        ["prometheus-node-exporter", *options, f"--web.listen-address=127.0.0.1:{port}"],
        stderr=subprocess.DEVNULL,
    )
    try:
        patiently(lambda: answer(f"{port}/metrics"))
        yield port
    finally:
        running.kill()
        running.wait()


@pytest.fixture(scope="module")
def query(exporter: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], list[Any]]]:
    """`query(expression)` gives what Prometheus answers, once it has read the metrics twice."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    scrape = {
        "job_name": "node",
        "scrape_interval": "1s",
        "static_configs": [{"targets": [f"127.0.0.1:{exporter}"]}],
    }
    config = {"scrape_configs": [scrape], "rule_files": [str(FILES / "gpufleet.rules.yml")]}
    (folder / "prometheus.yml").write_text(json.dumps(config))
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    running = subprocess.Popen(
        ["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL
    )

    def ask(expression: str) -> list[Any]:
        told = json.loads(answer(f"{port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"))
        assert told["status"] == "success"
        found: list[Any] = told["data"]["result"]
        return found

    try:
        patiently(lambda: ask("count_over_time(gpufleet_host_state[1m]) > 1"))
        yield ask
    finally:
        running.kill()
        running.wait()


def test_promtool_finds_nothing_to_say_about_the_metrics() -> None:
    assert promtool("check", "metrics", told=text()) == ""


def test_the_alert_rules_are_right_and_do_what_their_tests_say() -> None:
    assert "SUCCESS" in promtool("check", "rules", "--lint-fatal", str(FILES / "gpufleet.rules.yml"))
    assert "SUCCESS" in promtool("test", "rules", str(CHECKOUT / "tests" / "report" / "rules.test.yml"))


def test_node_exporter_reads_every_metric_of_two_fleets(exporter: int) -> None:
    told = answer(f"{exporter}/metrics")
    assert "node_textfile_scrape_error 0" in told
    assert {metric.name for metric in METRICS if f"# TYPE {metric.name} " not in told} == set()
    assert 'gpufleet_host_state{host="other",state="failed"} 1' in told


def test_prometheus_reads_them_whatever_stands_in_a_name(query: Callable[[str], list[Any]]) -> None:
    # A scrape of a busy machine may come too late, and what it should have told is then not there.
    assert patiently(lambda: [one["value"][1] for one in query("up")] == ["1"])
    names = {one["metric"]["host"] for one in patiently(partial(query, "gpufleet_host_state"))}
    assert (len(names), len([name for name in names if "# TYPE b" in name])) == (52, 1)


@pytest.mark.parametrize("expression", QUERIES)
def test_prometheus_answers_every_query_of_the_dashboard(
    query: Callable[[str], list[Any]], expression: str
) -> None:
    assert patiently(partial(query, expression.replace("$host", ".*")))


def test_prometheus_answers_every_rule_of_the_guide(query: Callable[[str], list[Any]]) -> None:
    assert len(EXAMPLES) == 3
    for rule in map(str.strip, EXAMPLES):
        query(rule)
        # Without its threshold each has a value here.
        assert patiently(partial(query, re.sub(r" ([<>]|==) [\d.]+$", "", rule))), rule


def test_the_role_writes_what_promtool_accepts(tmp_path: Path) -> None:
    file = tmp_path / "gpufleet.prom"
    make_page(tmp_path, fleet(5), f"-eollama_report_metrics_file={file}")
    assert promtool("check", "metrics", told=file.read_text(encoding="utf-8")) == ""
    assert "gpufleet_host_state" in file.read_text(encoding="utf-8")
