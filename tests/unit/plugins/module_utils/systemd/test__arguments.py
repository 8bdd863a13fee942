# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments by which modules name a service, and the environment that they are given."""

from __future__ import annotations

from types import SimpleNamespace

from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._arguments import (
    ENVIRONMENT_ARGUMENT,
    SERVICE_ARGUMENTS,
    take_environment,
)


def test_the_service_is_the_systems_own_ollama_unless_somebody_says_otherwise():
    assert {name: option["default"] for name, option in SERVICE_ARGUMENTS.items()} == {
        "unit": "ollama.service",
        "scope": "system",
    }
    assert SERVICE_ARGUMENTS["scope"]["choices"] == ["system", "user"]


def test_an_environment_is_not_logged_where_a_module_is_invoked():
    assert ENVIRONMENT_ARGUMENT["environment"]["no_log"] is True
    assert ENVIRONMENT_ARGUMENT["environment"]["default"] == {}


def test_its_secrets_are_masked_and_its_other_values_do_not_hide_what_looks_like_them():
    module = SimpleNamespace(
        params={"environment": {"OLLAMA_NUM_PARALLEL": 4, "OLLAMA_API_KEY": "sk-1234"}, "unit": "ollama.service"},
        no_log_values={"4", "sk-1234"},
    )
    environment = take_environment(module)
    assert environment["OLLAMA_NUM_PARALLEL"] == 4
    assert "sk-1234" not in str(module.params)
    assert module.params["environment"] is environment
    assert module.no_log_values == set()
