# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-playbook, with every module execution that its ssh connections carry appended to a file.

python recorded_playbook.py FILE ARGUMENT ...

A line is JSON: host, module, key (the same for the same question), sent_bytes, answer. It needs pipelining, where one
call of the connection is one module execution, and wraps the connection's own method, so nothing passes it by.
"""

from __future__ import annotations

import fcntl
import json
import sys
from typing import Any

import payload
from ansible.cli.playbook import main
from ansible.plugins.connection import ssh

RECORDING = sys.argv.pop(1)
_execute = ssh.Connection.exec_command


def recorded(self: ssh.Connection, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> Any:
    answer = _execute(self, cmd, in_data=in_data, sudoable=sudoable)
    if in_data:
        execution = {
            "host": self.get_option("host"),
            "module": payload.module_name(in_data),
            "key": payload.key(in_data),
            "sent_bytes": len(in_data),
            "answer": answer[1].decode(),
        }
        with open(RECORDING, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(json.dumps(execution) + "\n")
    return answer


ssh.Connection.exec_command = recorded
main()
