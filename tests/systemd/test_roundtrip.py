# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What we quote, a real systemd takes: values go through a real drop-in and come back from a real process."""

from __future__ import annotations

import random

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import (
    environment_lines,
    parse_assignments,
    parse_process_environment,
    parse_shown_environment,
    refusal,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secret_file import halves, parted

UNIT = "roundtrip.service"
CURATED = [
    "", " ", "  both ends  ", "\ttab\t", "%", "%%", "%h %n %i", "100%", '"', '""', "'", "\\", "\\\\", "\\n", "a\\",
    '\\"', "$HOME", "${HOME}", "$$", "`id`", "#", ";", "=", "a=b=c", "-", "*", "?", "[a]", "(x)", "a&b|c<d>e",
    "\u00e4\u00f6\u00fc", "\u65e5\u672c\u8a9e", "\U0001f999", "\u0085next line", "\u2028line separator\u2029",
    "\u00a0no break\u00a0", "\ufeffbyte order mark", "e\u0301", "\u202eright to left", "\ue000private", "\u00ad", "x" * 60000,
]  # fmt: skip
ALPHABETS = [
    " \t\"'\\%$`=#;",
    "abcXYZ019_-./:",
    '\\"%',
    "\u00e4\u00df\u4e2d\U0001f600\u0301\u200b\u2028\x85",
]


def values() -> list[str]:
    generator = random.Random(20260830)  # the same values in every run
    generated = []
    while len(generated) < 600:
        alphabet = "".join(generator.sample(ALPHABETS, generator.randint(1, len(ALPHABETS))))
        generated.append("".join(generator.choice(alphabet) for _unused in range(generator.randint(0, 40))))
    while len(generated) < 800:
        code = generator.choice((generator.randrange(0x20, 0x300), generator.randrange(0x20, 0x110000)))
        if refusal("X", chr(code)) is None:
            generated.append(f"a{chr(code)}b")
    return CURATED + generated


@pytest.mark.essential
@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_every_value_arrives_in_systemctl_show_and_in_the_process(make_host, suite):
    host = make_host(suite, ollama=False)
    wanted = {f"V{number}": value for number, value in enumerate(values())}
    assert len(wanted) >= 800
    lines = environment_lines(wanted)
    host.write(f"/etc/systemd/system/{UNIT}", "[Service]\nExecStart=/usr/bin/sleep infinity\n")
    host.write(f"/etc/systemd/system/{UNIT}.d/zz.conf", "[Service]\n" + "\n".join(lines) + "\n")
    host.shell(f"systemctl daemon-reload; systemctl start {UNIT}")

    assert "gnoring" not in host.run("journalctl", "--no-pager", "--boot", "--output=cat", "_PID=1")
    assert dict(a for line in lines for a in parse_assignments(line.split("=", 1)[1])) == wanted

    shown = host.run("systemctl", "show", "--property=Environment", "--value", UNIT)
    assert dict(parse_shown_environment(shown.rstrip("\n"))) == wanted

    pid = host.property("MainPID", UNIT)
    process = parse_process_environment(
        host.run("cat", f"/proc/{pid}/environ").encode("utf-8", "surrogateescape")
    )
    assert {name: process.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("suite", ["bullseye", "trixie"])
def test_every_secret_arrives_in_the_process_through_the_environment_file(make_host, suite):
    host = make_host(suite, ollama=False)
    wanted = {f"V{number}_KEY": value for number, value in enumerate(values())}
    # A hyphen in a unit's name is a backslash in the name of its folder.
    unit = r"round\x2dtrip.service"
    path = f"/etc/systemd/system/{unit}.d/zz.conf"
    dropin, secret_file = halves(parted("\n".join(["[Service]", *environment_lines(wanted), ""]), path))
    host.run("mkdir", "-p", path.rpartition("/")[0])
    for place, text in (
        (f"/etc/systemd/system/{unit}", "[Service]\nExecStart=/bin/sleep infinity\n"),
        (path, dropin),
        (path.replace(".conf", ".env"), secret_file),
    ):
        host.run("tee", place, input=text)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "start", unit)
    pid = host.property("MainPID", unit)
    process = parse_process_environment(
        host.run("cat", f"/proc/{pid}/environ").encode("utf-8", "surrogateescape")
    )
    assert {name: process.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("value", ["\ufffe", "\ufdd0", "\U0001ffff"])
def test_what_is_refused_would_really_be_lost(host, value):
    host.write(
        f"/etc/systemd/system/{UNIT}",
        f'[Service]\nExecStart=/usr/bin/sleep 9\nEnvironment="A=1" "B={value}"\n',
    )
    host.shell("systemctl daemon-reload")
    assert refusal("B", value) is not None
    shown = dict(parse_shown_environment(host.property("Environment", UNIT)))
    assert shown == {} or shown == {"A": "1"}


def test_the_filter_and_the_module_carry_values_through_ansible_too(host):
    wanted = {"A": ' "quoted" % \\ $HOME ', "B": "", "C": "\u00e4 \U0001f999", "D": "{{ not_a_template }}"}
    run = host.play(
        [
            {
                "gpufleet.ollama.systemd_dropin": {
                    "content": "[Service]\n{{ environment_of_test | gpufleet.ollama.systemd_environment }}\n"
                }
            },
            {
                "ansible.builtin.systemd_service": {
                    "name": "ollama.service",
                    "daemon_reload": True,
                    "state": "restarted",
                }
            },
        ],
        environment_of_test={**wanted, "D": "{{ '{{ not_a_template }}' }}"},
    )
    assert run.return_code == 0, run.output
    process = host.process_environment()
    assert {name: process.get(name) for name in wanted} == wanted
