# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timer that removes a drop-in runs programs, no shell, and is of one drop-in alone."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._place import place
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._timer import timer_command, timer_name
from hypothesis import given
from hypothesis import strategies as st

RUN = "/run/systemd/system"


def where(unit="ollama.service", name="zzz-x.conf", scope="system", base=RUN):
    return place(unit, scope, name, base, "/var/lib/gpufleet")


def test_the_programs_are_run_one_after_the_other():
    command = timer_command(where(), 60, "/usr/bin/rm", "/usr/bin/systemctl")
    assert command == [
        "systemd-run",
        "--unit=gpufleet-ollama_2e_service-zzz-x",
        f"--description=Remove {RUN}/ollama.service.d/zzz-x.conf and restart ollama.service",
        "--on-active=60",
        "--collect",
        "--quiet",
        "--property=Type=oneshot",
        f'--property=ExecStartPre="/usr/bin/rm" "-f" "--" "{RUN}/ollama.service.d/zzz-x.conf"'
        f' "{RUN}/ollama.service.d/zzz-x.env"',
        '--property=ExecStartPre="/usr/bin/systemctl" "daemon-reload"',
        *("/usr/bin/systemctl", "restart", "--no-block", "--", "ollama.service"),
    ]


def test_a_user_s_timer_is_of_the_user_s_manager():
    command = timer_command(where(scope="user", base="/home/a b"), 60, "/bin/rm", "/bin/systemctl")
    assert command[:2] == ["systemd-run", "--user"]
    removed = '"/home/a b/ollama.service.d/zzz-x.conf" "/home/a b/ollama.service.d/zzz-x.env"'
    assert f'--property=ExecStartPre="/bin/rm" "-f" "--" {removed}' in command
    assert '--property=ExecStartPre="/bin/systemctl" "--user" "daemon-reload"' in command
    assert command[-6:] == ["/bin/systemctl", "--user", "restart", "--no-block", "--", "ollama.service"]


def test_a_backslash_is_one_to_systemd_too():
    command = timer_command(where(unit=r"ollama@a\x2db.service"), 60, "/bin/rm", "/bin/systemctl")
    assert any(r'"/run/systemd/system/ollama@a\\x2db.service.d/zzz-x.conf"' in word for word in command)


names = st.from_regex(r"[A-Za-z0-9:_.\\@-]{1,12}", fullmatch=True)


@given(names, names)
def test_two_units_have_two_timers(one, other):
    first, second = (timer_name(where(unit=f"{name}.service")) for name in (one, other))
    assert (first == second) == (one == other)
    assert "@" not in first
