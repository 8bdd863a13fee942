# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules log of their options ("Invoked with ..."), and that nothing ordinary is hidden in their results."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from ansible.module_utils import basic
from ansible_collections.gpufleet.ollama.plugins.modules import gpu_facts, ollama_host_info

MODULES = Path(__file__).parents[4] / "plugins" / "modules"
PACKAGE = "ansible_collections.gpufleet.ollama.plugins.modules"
ON_THE_HOST = sorted(path.stem for path in MODULES.glob("*.py") if "AnsibleModule(" in path.read_text())
SECRET_OPTIONS = {"environment", "content", "dropin_content", "secrets"}


class Specified(Exception):
    """The options of a module, in place of their being read."""


@pytest.mark.parametrize("name", ON_THE_HOST)
def test_options_that_carry_an_environment_or_a_dropin_are_not_logged(name, monkeypatch):
    def specify(argument_spec, **_options):
        raise Specified(argument_spec)

    module = importlib.import_module(f"{PACKAGE}.{name}")
    monkeypatch.setattr(module, "AnsibleModule", specify)
    with pytest.raises(Specified) as specified:
        module.main()
    spec = specified.value.args[0]
    logged = [option for option in spec if option in SECRET_OPTIONS and not spec[option].get("no_log")]
    assert logged == []
    ordinary = [option for option in spec if option not in SECRET_OPTIONS and spec[option].get("no_log")]
    assert ordinary == []


@pytest.mark.parametrize("module", [gpu_facts, ollama_host_info])
def test_of_an_environment_no_secret_is_logged_or_returned_and_the_rest_is(module, run_module, monkeypatch):
    logged = []
    monkeypatch.setattr(
        basic.AnsibleModule, "log", lambda _self, message, log_args=None: logged.append((message, log_args))
    )
    seen = []

    def facts(_run, _scope, _unit, environment, *_others):
        seen.append(environment)
        return {"memory": 424344, "note": "4 of 4"}

    monkeypatch.setattr(module, "gpu_facts", facts)
    environment = {"HF_TOKEN": "hunter2", "CUDA_VISIBLE_DEVICES": "4", "PIN_TOKEN": 42, "GONE_KEY": None}
    only = {"gather": ["gpu"]} if module is ollama_host_info else {}
    result = run_module(module, environment=environment, **only)
    masked = {**environment, "HF_TOKEN": "********", "PIN_TOKEN": "********"}
    assert seen == [masked]
    assert result["invocation"]["module_args"]["environment"] == masked
    assert result["ansible_facts"]["gpufleet_gpu"] == {"memory": 424344, "note": "4 of 4"}
    assert "Invoked" in str(logged)
    assert "hunter2" not in str(logged) + json.dumps(result)
