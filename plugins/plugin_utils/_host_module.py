# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way in which every module of this collection that runs on a host is executed, and its answer taken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import (
    ANSWER_CHARACTERS,
    MESSAGE_CHARACTERS,
    Returns,
    UnfitAnswer,
    checked,
    shown,
)

# Of what a program wrote that answered nothing.
LAST_WORDS = 500


class HostModule(ActionBase):
    """Executes a module on the host and takes of its answer only what `checked` does.

    A subclass is the action of one module and sets `returns`.
    """

    TRANSFERS_FILES = False
    _supports_check_mode = True
    # Ansible polls a job of its own accord, and what that returns would pass by.
    _supports_async = False
    returns: ClassVar[Returns] = {}

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        module = self._task.action.rpartition(".")[2]
        return {**result, **self.answer_of(module, self._task.args, self.returns, task_vars or {})}

    def answer_of(
        self, module: str, options: Mapping[str, Any], returns: Returns, task_vars: dict[str, Any]
    ) -> dict[str, Any]:
        """What a module of this collection, executed on the host, has answered."""
        try:
            answer: dict[str, Any] = self._execute_module(
                module_name=f"gpufleet.ollama.{module}", module_args=dict(options), task_vars=task_vars
            )
        except AnsibleConnectionFailure as error:
            # Its text is what the host wrote, such as sshd's banner. ansible-core 2.18 keeps that as a template
            # where it is raised (executor/task_executor.py, _execute), and not where it is returned.
            return {"unreachable": True, "msg": shown(str(error)[:MESSAGE_CHARACTERS])}
        name = shown(str(task_vars.get("inventory_hostname", "the host")))
        try:
            taken = checked(answer, returns)
        except UnfitAnswer as error:
            return {
                "failed": True,
                "msg": f"{name} has answered to {module} what this collection's module does not: {error}; "
                "look at the host's Python and at who is root there",
            }
        if not answer.get("_ansible_parsed", True):
            taken["msg"] = f"{taken.get('msg', '')} {_last_words(answer)}".strip()
        return self._with_interpreter(taken)

    def _with_interpreter(self, taken: dict[str, Any]) -> dict[str, Any]:
        """Hands on which Python Ansible has found there by itself, since it would search again otherwise."""
        key = getattr(self, "_discovered_interpreter_key", None)
        if key:
            taken.setdefault("ansible_facts", {})[key] = self._discovered_interpreter
        return taken

    def _parse_returned_data(self, res: dict[str, Any], *others: Any) -> dict[str, Any]:
        """Ansible's own, which parses all that was written, however much."""
        if len(res.get("stdout") or "") > 2 * ANSWER_CHARACTERS:
            said = f"the answer is larger than {2 * ANSWER_CHARACTERS >> 20} MiB"
            res = {**res, "stdout": json.dumps({"failed": True, "msg": said})}
        parsed: dict[str, Any] = super()._parse_returned_data(res, *others)
        return parsed


def _last_words(answer: Mapping[str, Any]) -> str:
    """The end of what a program wrote in place of an answer, as it names the cause: a full disk, a missing sudo."""
    for stream in ("module_stderr", "module_stdout"):
        text = str(answer.get(stream) or "").strip()
        if text:
            return f"It wrote: {shown(text[-LAST_WORDS:])}"
    return "It wrote nothing."
