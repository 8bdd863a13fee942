# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that is not there: its answers are those that a real one gave to the same questions."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

sys.path.append(str(Path(__file__).parents[1]))
import payload

DOCUMENTATION = """
name: stand_in
short_description: answer module executions from a recording
description:
  - What is left of a run with this connection is the work of the control node.
  - Other commands, which only make and remove temporary folders, are run on the control node.
author: The gpufleet.ollama developers (@gpufleet)
options:
  answers:
    description: Folder in which a file for each question (C(payload.py) names it) holds the answer.
    type: path
    required: true
    vars:
      - name: stand_in_answers
extends_documentation_fragment:
  - connection_pipelining
"""

SERVICE_ID = re.compile(rb'("service_id": )"[0-9a-f]{32}"')


class Connection(ConnectionBase):
    transport = "stand_in"
    has_pipelining = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        if not in_data:
            done = subprocess.run(["/bin/sh", "-c", cmd], capture_output=True, check=False)
            return done.returncode, done.stdout, done.stderr
        answer = Path(self.get_option("answers"), payload.key(in_data))
        if not answer.exists():
            asked = f"{payload.module_name(in_data)} with {payload.options(in_data)}"
            raise AnsibleConnectionFailure(f"no real host was asked this: {asked}")
        # Of one host alone: two names of one service are refused.
        own = hashlib.sha256(str(self._play_context.remote_addr).encode()).hexdigest()[:32]
        return 0, SERVICE_ID.sub(rf'\g<1>"{own}"'.encode(), answer.read_bytes()), b""

    def put_file(self, in_path: str, out_path: str) -> None:
        raise AnsibleConnectionFailure(f"{in_path} -> {out_path}: an unchanged host is sent no file")

    def fetch_file(self, in_path: str, out_path: str) -> None:
        raise AnsibleConnectionFailure(f"{in_path}: an unchanged host is asked for no file")

    def close(self) -> None:
        self._connected = False
