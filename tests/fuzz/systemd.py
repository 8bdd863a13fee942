# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd and the kernel say of a unit: its files, systemctl show, /proc; and that no secret of them is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._kernel_files import system_memory
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import (
    Assignment,
    parse_assignments,
    parse_environment_file,
    parse_process_environment,
    quote_assignment,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._differences import (
    added_settings,
    file_differences,
    readable_secrets,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._dropin import difference
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._precedence import (
    DROP_IN,
    FRAGMENT,
    UnitFile,
    conflicts,
    dropin_directories,
    dropins_in_order,
    expand_unit_specifiers,
    overrides,
    unit_environment,
    variables,
    with_dropin,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._process import (
    container_in,
    control_group,
    parse_socket_table,
    process_environment,
    process_name,
    unit_of,
    unit_processes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secret_file import (
    halves,
    joined,
    parted,
    variables_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import (
    cut_at_secret,
    masked,
    masked_command,
    masked_text,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    parse_properties,
    parse_unit_state,
    parse_version,
)
from ansible_collections.gpufleet.ollama.tests.fuzz.target import SEPARATOR, Folder, Target, split, text

OURS = "/etc/systemd/system/ollama.service.d/zz-gpufleet.conf"
# Stands in no input, so that wherever it is shown a secret is.
CANARY = "hunter2Qx7"


def _unit_files(data: bytes) -> None:
    fragment, other, ours, environment_file = map(text, split(data, 4))
    files = [
        UnitFile("/lib/systemd/system/ollama.service", FRAGMENT, fragment),
        UnitFile("/etc/systemd/system/ollama.service.d/a.conf", DROP_IN, other),
    ]
    environment = unit_environment(with_dropin(files, OURS, ours), "ollama@gpu0.service")
    resolved = variables(environment, [("/etc/default/ollama", environment_file)])
    conflicts(environment, resolved, OURS, ["OLLAMA_NUM_PARALLEL", *environment.assignments])
    overrides(resolved, OURS)
    names = ours.split()[:3]
    dropins_in_order([(one, names) for one in dropin_directories(other[:60], names, ["/etc/systemd/system"])])
    expand_unit_specifiers(other, fragment[:20])


def _secrets_shown(data: bytes) -> None:
    before, quote, after, others = map(text, split(data.replace(CANARY.encode(), b""), 4))
    ours = f"{before}\n[Service]\nEnvironment={quote}HF_TOKEN={CANARY}{after}"
    for said in _said(ours, others):
        assert CANARY not in said, said


def _said(ours: str, others: str) -> Iterator[str]:
    """All that is told of a drop-in that holds a secret."""
    yield difference(OURS, None, ours)
    yield difference(OURS, ours, others)
    yield difference(OURS, others, joined(others, ours))
    found = [*added_settings(OURS, ours), *readable_secrets(OURS, ours, exposed=True)]
    found += file_differences(OURS, variables_of(ours), variables_of(others))
    yield json.dumps([one.to_dict() for one in found])
    try:
        parted(ours, OURS)
    except ValueError as error:
        yield str(error)


def _parted(data: bytes) -> None:
    """Nothing is lost when the secrets of a drop-in move to a file of their own."""
    ours = text(data)
    whole = parted(ours, OURS)
    assert variables_of(whole) == variables_of(ours)
    assert parted(whole, OURS) == whole
    assert not readable_secrets(OURS, halves(whole)[0], exposed=False)


def _show(data: bytes) -> None:
    parse_unit_state("ollama.service", parse_properties(text(data)))
    parse_version(text(data))


def _environment(data: bytes) -> None:
    """Every notation is read, and what is written for systemd is read as it was meant."""
    value = text(data)
    parse_environment_file(value)
    parse_assignments(value)
    parse_process_environment(data)
    assert parse_assignments(quote_assignment("A", value)) == [Assignment("A", value)]


_PROC_FILES = (
    *("1/cgroup", "42/cgroup", "42/cmdline", "42/stat", "42/environ", "42/comm"),
    *("net/tcp", "meminfo"),
)


def _proc(data: bytes) -> None:
    files = dict(zip(_PROC_FILES, split(data, len(_PROC_FILES))))
    _PROC.write(files)
    proc = str(_PROC.path)
    json.dumps([process.to_dict() for process in unit_processes(42, proc)])
    unit_of(42, proc)
    container_in(control_group(42, proc))
    process_environment(42, proc)
    process_name(42, proc)
    parse_socket_table(files["net/tcp"].decode("ascii", "replace"))
    system_memory(_PROC.path)


# With so many an expression that is quadratic takes longer than an input may; all short texts are quick.
_LONG_CHARACTERS = 48 << 10


def _masking_long(data: bytes) -> None:
    _masking((data * (_LONG_CHARACTERS // max(1, len(data)) + 1))[:_LONG_CHARACTERS])


def _masking(data: bytes) -> None:
    value = data.decode("utf-8", "replace")
    shown = masked_text(value)
    assert masked_text(shown) == shown
    masked("HTTPS_PROXY", value)
    cut_at_secret(value)
    masked_command(value.split(" "))
    assert masked("HF_TOKEN", value) in ("", "********")


_PROC = Folder()

_FRAGMENT = b"""[Unit]
A=b
[Service]
Environment="A=b c" D=e
EnvironmentFile=-/etc/default/%p
UnsetEnvironment=A
ExecStart=/bin/a \\
 b
"""
_DROPIN = b"""[Service]
Environment=
Environment="OLLAMA_NUM_PARALLEL=4" "HF_TOKEN=hunter2secret"
Environment=DB_PASS=abcdefgh "B=\\x41\\u00e9\\101"
"""
_ENVIRONMENT_FILE = b"A=\"x\\\ny\"\n# c\nB='q' z\n"
_UNIT = SEPARATOR.join([_FRAGMENT, b"[Service]\nEnvironment=X_TOKEN=abcdefgh\n", _DROPIN, _ENVIRONMENT_FILE])
_MASKED = (b"HF_TOKEN=x", b"Authorization: Bearer x", b"http://u:p@h/?sig=x", b"--api-key x")

TARGETS = (
    Target("unit-files", _unit_files, honest=(_UNIT,)),
    Target(
        "secrets-shown",
        _secrets_shown,
        honest=(
            SEPARATOR.join([b"[Service]", b'"', b'" "A=b"\n', _DROPIN]),
            SEPARATOR.join([b"[Service]", b"", b" A=b\n", _ENVIRONMENT_FILE]),
        ),
        # In a comment, in a continued line, behind an unterminated quote, in another key.
        crashed=(
            SEPARATOR.join([b"[Service]\n# \\", b"", b"", b""]),
            SEPARATOR.join([b"", b'"A=1" \\\n"', b'"', b""]),
            SEPARATOR.join([b"", b'"A=1', b"", b""]),
            SEPARATOR.join([b"", b"\nExecStart=/bin/a --api-key ", b"", b""]),
        ),
    ),
    Target(
        "secret-file",
        _parted,
        (ValueError,),
        honest=(_DROPIN, b"[Service]\nEnvironment=A=b\n"),
        # The last line is continued, and the file ends.
        crashed=(
            b"[Service]\nEnvironment=HF_TOKEN=x\\",
            b'\0[Service]\nEnvironment=A=b\nEnvironment=DB_PASS=abcdefgh "B=c"\n',
        ),
    ),
    Target(
        "systemctl-show",
        _show,
        (ValueError,),
        honest=(
            b'Id=a\nMainPID=5\nEnvironment=A=b "C=d e\\$f"\nNames=a b\n'
            b"ExecMainStartTimestampMonotonic=123\nNRestarts=1\nNeedDaemonReload=yes\n",
        ),
        crashed=("MainPID=²\n".encode(), b"ExecMainStartTimestampMonotonic=9999999999999999999\n"),
    ),
    Target("environment", _environment, (ValueError,), honest=(b'b "C=d e\\$f" G=\\x41', b"%p 100 % 'x'")),
    Target(
        "proc",
        _proc,
        honest=(
            SEPARATOR.join(
                [
                    b"0::/init.scope\n",
                    b"0::/system.slice/ollama.service\n",
                    b"/bin/ollama\0serve\0",
                    b"42 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14",
                    b"A=b\0",
                    b"ollama\n",
                    b"head\n 0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 77 1\n",
                    b"MemTotal:       65536 kB\nMemAvailable:   32768 kB\n",
                ]
            ),
        ),
        # Times of a process that no kernel writes.
        crashed=(SEPARATOR.join([b"", b"0::/a\n", b"", b"42 (a) S" + b" x" * 13]),),
    ),
    Target("masking", _masking, honest=_MASKED),
    # Texts that took quadratic time are among them.
    Target(
        "masking-long", _masking_long, honest=_MASKED, crashed=(b"a", b"a://", b'key="', b"TOKEN "), share=40
    ),
)
