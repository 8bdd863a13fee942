# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alert rules, the dashboard and the README name the metrics that there are, with the labels and states they have."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from ansible_collections.gpufleet.ollama.plugins.module_utils.report import _drift_causes
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._metrics import METRICS
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._states import STATES
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT

ROLE = CHECKOUT / "roles" / "ollama_report"
RULES = yaml.safe_load((ROLE / "files/gpufleet.rules.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
DASHBOARD = json.loads((ROLE / "files/gpufleet-dashboard.json").read_text(encoding="utf-8"))
TARGETS = [(panel, target) for panel in DASHBOARD["panels"] for target in panel["targets"]]
ALERTS = {rule["alert"]: rule for rule in RULES}
QUERIES = [*(rule["expr"] for rule in RULES), *(target["expr"] for _panel, target in TARGETS)]
LABELS = {metric.name: {"host", *metric.labels} for metric in METRICS}
METRIC = re.compile(r"\bgpufleet_[a-z_]+\b")
# What a metric is asked for, and by what it is grouped.
MATCHERS = re.compile(r"(gpufleet_[a-z_]+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)(?:=~|=|!=|!~)"([^"]*)"')
GROUPED = re.compile(r"\bby \(([^)]*)\)")
VALUES = {
    "state": set(STATES),
    "cause": {value for value in vars(_drift_causes).values() if isinstance(value, str)},
    "host": {"$host"},
}


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_metrics_labels_and_values_that_there_are(query: str) -> None:
    names = set(METRIC.findall(query))
    assert names
    assert names <= set(LABELS)
    for name, matchers in MATCHERS.findall(query):
        for label, values in MATCHER.findall(matchers):
            assert label in LABELS[name]
            assert set(values.split("|")) <= VALUES[label]
    grouped = {label.strip() for labels in GROUPED.findall(query) for label in labels.split(",")}
    assert all(grouped <= LABELS[name] for name in names)


@pytest.mark.parametrize("alert", ALERTS)
def test_what_an_alert_says_names_labels_that_its_metric_has(alert: str) -> None:
    rule = ALERTS[alert]
    told = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    assert all(told <= LABELS[name] for name in METRIC.findall(rule["expr"]))
    assert rule["labels"]["severity"] in ("info", "warning", "critical")


@pytest.mark.parametrize(
    ("panel", "target"), TARGETS, ids=lambda one: str(one.get("title", one.get("refId")))
)
def test_the_legend_of_a_panel_names_labels_that_its_query_leaves(panel: dict, target: dict) -> None:
    query = target["expr"]
    left = {label.strip() for labels in GROUPED.findall(query) for label in labels.split(",")}
    left = left or set.intersection(*(LABELS[name] for name in METRIC.findall(query)))
    assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= left


def test_every_metric_is_drawn_and_every_panel_has_a_place_of_its_own() -> None:
    drawn = {name for _panel, target in TARGETS for name in METRIC.findall(target["expr"])}
    assert drawn == set(LABELS)
    taken = [
        (column, row)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for column in range(place["x"], place["x"] + place["w"])
        for row in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(column for column, _row in taken) < 24  # Grafana's grid
    assert METRIC.findall(DASHBOARD["templating"]["list"][1]["query"]) == ["gpufleet_host_state"]


def test_the_readme_lists_every_metric_with_its_labels() -> None:
    readme = (ROLE / "README.md").read_text(encoding="utf-8").partition("\n## Metrics\n")[2]
    listed = {}
    for row in re.findall(r"^\| (.*`gpufleet_[a-z_]+`.*?) \| (.*?) \|", readme, re.MULTILINE):
        for name in re.findall(r"`(gpufleet_[a-z_]+)`", row[0]):
            listed[name] = {"host", *re.findall(r"`(\w+)`", row[1])}
    assert listed == LABELS


def test_the_rules_of_the_tests_and_the_guide_are_those_that_are_shipped() -> None:
    tests = yaml.safe_load((CHECKOUT / "tests/report/rules.test.yml").read_text(encoding="utf-8"))
    asked = [one for test in tests["tests"] for one in test["alert_rule_test"]]
    assert {one["alertname"] for one in asked if one.get("exp_alerts")} == set(ALERTS)
    assert {one["alertname"] for one in asked if not one.get("exp_alerts")} == set(ALERTS)
    guide = (CHECKOUT / "docs/monitoring.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(Gpufleet\w+)`", guide, re.MULTILINE)) == set(ALERTS)
    assert set(METRIC.findall(guide)) - {"gpufleet_report_dir"} <= set(LABELS)
