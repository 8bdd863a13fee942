# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A secret of the operator's environment stands in nothing that is shown or kept, from the plan to the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.gpufleet.ollama.plugins.action import fleet_report, ollama_plan
from ansible_collections.gpufleet.ollama.plugins.filter.plan_table import plan_table
from ansible_collections.gpufleet.ollama.plugins.filter.plans_table import plans_table
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import environment_lines
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._differences import (
    file_differences,
    process_differences,
    server_differences,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._dropin import difference
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secret_file import parted
from ansible_collections.gpufleet.ollama.tests.unit.answers import completed
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[4]
GEMMA = {
    "name": "gemma3:4b",
    "header": json.loads((ROOT / "tests/data/headers/gemma3_4b.json").read_text()),
}
HOST = {"devices": [{"memory_total_bytes": 24 << 30}]}
MODELS = ollama_plan.HOST_INFO_RETURNS["models"]["contains"]
PAGE = ROOT / "roles/ollama_report/templates/report.html.j2"
DROPIN = "/etc/systemd/system/ollama.service.d/zz-gpufleet.conf"

# What no ordinary text holds, so that it is the secret wherever it stands.
letters = st.characters(min_codepoint=0x21, max_codepoint=0x17F, exclude_characters='\x7f&?#@:/,;"')
secrets = st.text(letters, min_size=3, max_size=12).map("Zq".__add__)
passwords = st.text(st.sampled_from("abc@/: %$"), max_size=6).map("Zq{}x".format)
names = st.sampled_from(
    ["HF_TOKEN", "OPENAI_API_KEY", "DB_PASS", "PGPASSWORD", "GITHUB_PAT", "OTEL_EXPORTER_OTLP_HEADERS", "JWT"]
)
environments = st.fixed_dictionaries(
    {"OLLAMA_KEEP_ALIVE": st.just("5m")},
    optional={
        "HTTPS_PROXY": passwords.map("http://user:{}@proxy:3128".format),
        "http_proxy": passwords.map("user:{}@proxy".format),
        "HF_ENDPOINT": secrets.map("https://mirror/?x=1&token={}".format),
        "EXTRA": secrets.map("--verbose --api-key {} --port 1".format),
    },
)


@pytest.fixture
def shown(action_of, tmp_path, monkeypatch):
    """`shown(environment)` gives the texts that a run with this environment shows, writes or sends to the host."""
    asked = []

    def execute(_self, module_name, module_args, task_vars):
        asked.append(module_args)
        return {"failures": [], "models": completed({"models": [GEMMA]}, MODELS)}

    monkeypatch.setattr(ollama_plan.ActionModule, "_execute_module", execute)

    def run(environment):
        def plan(**more):
            options = {"gather": ["models"], "gpu": HOST, "operator_environment": dict(environment), **more}
            return action_of(ollama_plan.ActionModule, "ollama_plan", options).run(
                task_vars={"inventory_hostname": "a"}
            )

        as_text = plan(as_json=True)
        whole = {"plan": json.loads(as_text["plan_json"])}
        refused = plan(operator_environment={**environment, "OLLAMA_NUM_PARALLEL": "many"})
        assert "OLLAMA_NUM_PARALLEL" in refused["msg"]
        folder = tmp_path / "report"
        known = {"a": {"ollama_plan_result": as_text}, "b": {"ollama_plan": whole["plan"]}}
        # A plan of another origin, which may hold what ours does not.
        known["c"] = {"ollama_plan": {**whole["plan"], "environment": dict(environment)}}
        options = {"hosts": list(known), "dir": str(folder), "template": str(PAGE)}
        report = action_of(fleet_report.ActionModule, "fleet_report", options).run(
            task_vars={"hostvars": known}
        )
        assert not report.get("failed"), report
        return [
            *map(str, (as_text, refused, report, asked)),
            plan_table(whole["plan"], "a"),
            plan_table(known["c"]["ollama_plan"], "c"),
            plans_table({"a": whole["plan"]}),
            (folder / "report.json").read_text(),
            (folder / "report.html").read_text(),
        ]

    return run


@settings(
    max_examples=25, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(names, secrets, min_size=1), environments)
def test_no_text_of_a_run_holds_a_secret(shown, named, environment):
    texts = shown({**environment, **named})
    assert all("Zq" not in text for text in texts)
    assert all(any(f"{name}=********" in text for text in texts) for name in named)
    assert any("OLLAMA_KEEP_ALIVE=5m" in text for text in texts)


@given(st.dictionaries(names, secrets, min_size=1), environments)
def test_no_difference_and_no_diff_holds_a_secret(named, environment):
    environment = {**environment, **named}
    text = parted("\n".join(["[Service]", *environment_lines(environment), ""]), DROPIN)
    others = {name: f"{value}x" for name, value in environment.items()}
    told = [
        *file_differences("/d", others, environment),
        *process_differences("o.service", {}, environment, {}, []),
        *process_differences("o.service", environment, others, {}, []),
        *server_differences(
            "o.service", {name: (value, others[name]) for name, value in environment.items()}
        ),
    ]
    assert len(told) >= len(environment)
    for shown_text in [*map(str, told), difference(DROPIN, None, text), difference(DROPIN, text, "")]:
        assert "Zq" not in shown_text
