# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has a host's service run with other settings for a while, or without them again: one task of what takes five modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.gpufleet.ollama.plugins.action.ollama_plan import dropin_of
from ansible_collections.gpufleet.ollama.plugins.action.ollama_wait import Idling
from ansible_collections.gpufleet.ollama.plugins.filter.ollama_environment_problems import (
    ollama_environment_problems,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._arguments import SERVICE_ARGUMENTS
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._differences import PROCESS
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._place import BENCHMARK
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import documented
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._host_module import HostModule
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._role_variables import (
    SPECS,
    given_values,
    unfit_values,
)
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._task_options import forget_options
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._waiting import (
    host_of,
    in_slices,
    say,
    telling,
)

ARGUMENT_SPEC = {
    **SERVICE_ARGUMENTS,
    "environment": {"type": "dict", "no_log": True},
    "version": {"type": "str", "default": ""},
    "dropin_name": {"type": "str", "required": True},
    "guard_seconds": {"type": "int", "default": 3600},
    "may_disturb": {"type": "bool", "default": False},
}
RETURNS = {
    module: documented(module)
    for module in (
        "ollama_wait",
        "systemd_dropin",
        "systemd_dropin_timer",
        "systemd_environment_info",
        "systemd_restart",
    )
}
# How a service is restarted is said once for an inventory, by the variables of this role.
ROLE = "ollama_override"
RESTARTING = tuple(
    f"{ROLE}_{name}"
    for name in ("also_known", "drain_timeout", "health_timeout", "restart_timeout", "stable_seconds", "start_stopped")
)
# A health check, say, is no user.
IDLE_SECONDS = 5
OPTIONS = ArgumentSpecValidator(ARGUMENT_SPEC)


class _EndedError(Exception):
    """What a module answered, after which nothing more is done."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        super().__init__(str(answer.get("msg", "")))
        self.answer = dict(answer)


class ActionModule(HostModule):
    """The work of the module `ollama_benchmark_setting`."""

    _supports_check_mode = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super(HostModule, self).run(tmp, task_vars)
        found = OPTIONS.validate(dict(self._task.args))
        given = given_values(RESTARTING, task_vars or {}, self._templar.template)
        wrong = [*found.error_messages, *unfit_values(ROLE, given)]
        if wrong:
            raise AnsibleActionFail("; ".join(wrong))
        restarting = {name: given.get(name, SPECS[ROLE]["main"][name].get("default")) for name in RESTARTING}
        setting = _Setting(self, found.validated_parameters, restarting, task_vars or {})
        try:
            changed = setting.done()
        except _EndedError as ended:
            return {**result, **ended.answer}
        finally:
            forget_options(self._task)
        return {**result, "changed": changed}


class _Setting:
    """One setting of a service, from the first look to a healthy service that has it."""

    def __init__(
        self,
        action: HostModule,
        options: Mapping[str, Any],
        restarting: Mapping[str, Any],
        variables: dict[str, Any],
    ) -> None:
        self._action, self._options, self._variables = action, options, variables
        self._restarting = {name[len(ROLE) + 1 :]: value for name, value in restarting.items()}
        self._is_set = options["environment"] is not None
        self._content = f"{dropin_of(options['environment'])}\n" if self._is_set else ""
        self._host = host_of(variables)

    def done(self) -> bool:
        """Whether something has changed."""
        if self._is_set:
            self._refuse(ollama_environment_problems(
                self._options["environment"], self._options["version"], self._restarting["also_known"]
            ))  # fmt: skip
            self._refuse_users()
            self._guard("present", seconds=self._options["guard_seconds"])
        seen = self._ask("systemd_environment_info", **self._place("dropin_name"), dropin_content=self._content)
        self._refuse(seen["refusals"] or seen["problems"])
        if self._is_set:
            stopped = "" if self._restarting["start_stopped"] else seen["stopped"]
            self._refuse([stopped] if stopped else [one["message"] for one in seen["conflicts"]])
        changed = self._write_and_restart(seen)
        if not self._is_set:
            self._guard("absent")
        return changed

    def _write_and_restart(self, seen: Mapping[str, Any]) -> bool:
        what = {"state": "present", "content": self._content} if self._is_set else {"state": "absent"}
        written = self._ask("systemd_dropin", **self._place("name"), **what, rollout=BENCHMARK)
        # The process decides, whatever the files say. A service that systemd is about to start again may take its old
        # environment before the drop-in has gone.
        is_stale = any(one["layer"] == PROCESS for one in seen["differences"])
        is_down = seen["main_pid"] is None and (self._is_set or seen["active_state"] == "activating")
        restarts, to_prove = is_stale or is_down, written["change"] or written["unproven"]
        if restarts:
            self._restart(seen["main_pid"])
        elif written["changed"] or seen["need_daemon_reload"]:
            self._ask("systemd_restart", restart=False)
        if restarts or (to_prove and seen["main_pid"] is not None):
            self._wait_until_healthy()
        if to_prove:
            self._ask("systemd_dropin", **self._place("name"), state="proven", change=written["change"])
        return bool(written["changed"] or restarts)

    def _restart(self, main_pid: int | None) -> None:
        limit = int(self._restarting["drain_timeout"])
        idle = self._idle(limit)
        if not idle["idle"]:
            unit = self._options["unit"]
            say(self._host, f"{unit} is restarted although it is not idle after {limit} s: {idle['reason']}")
        seen = {} if main_pid is None else {"main_pid": main_pid}
        with telling(self._host, lambda: f"restarting {self._options['unit']}"):
            self._ask(
                "systemd_restart",
                **self._place("dropin_name"),
                **seen,
                dropin_content=self._content,
                timeout_seconds=self._restarting["restart_timeout"],
            )

    def _wait_until_healthy(self) -> None:
        limits = {"timeout_seconds": "health_timeout", "stable_seconds": "stable_seconds"}
        with telling(self._host, lambda: f"waiting until {self._options['unit']} is healthy"):
            self._ask("ollama_wait", **{option: self._restarting[name] for option, name in limits.items()})

    def _refuse_users(self) -> None:
        if self._options["may_disturb"]:
            return
        idle = self._idle(IDLE_SECONDS)
        if not idle["idle"]:
            self._refuse([
                f"{self._options['unit']} serves others: {idle['reason']}; measure while nobody uses it, or set "
                "ollama_benchmark_may_disturb"
            ])  # fmt: skip

    def _idle(self, seconds: int) -> dict[str, Any]:
        idling = Idling(lambda length: self._ask("ollama_wait", condition="idle", timeout_seconds=length), seconds)
        return in_slices(idling.slice, idling.words, lambda words: say(self._host, words))

    def _guard(self, state: str, **more: Any) -> None:
        """Has the host itself remove the drop-in, if the run does not."""
        self._ask("systemd_dropin_timer", **self._place("dropin_name"), state=state, **more)

    def _place(self, option: str) -> dict[str, Any]:
        return {option: self._options["dropin_name"], "runtime": True}

    def _ask(self, module: str, **options: Any) -> dict[str, Any]:
        asked = {"unit": self._options["unit"], "scope": self._options["scope"], **options}
        answer = self._action.answer_of(module, asked, RETURNS[module], self._variables)
        if answer.get("failed") or answer.get("unreachable"):
            raise _EndedError(answer)
        return answer

    def _refuse(self, sentences: list[str]) -> None:
        if sentences:
            raise _EndedError({"failed": True, "msg": "; ".join(sentences)})
