# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command that starts a service makes of its variables, told with file and line."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._exec_start import (
    commands,
    conflicts,
    decisions,
    scripts,
    sourced,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._precedence import (
    DROP_IN,
    FRAGMENT,
    UnitFile,
)
from hypothesis import given
from hypothesis import strategies as st

PATH = "/etc/systemd/system/o.service"


def unit(*exec_starts, path=PATH, kind=FRAGMENT):
    return UnitFile(path, kind, "[Service]\n" + "".join(f"ExecStart={one}\n" for one in exec_starts))


def decided(files, texts=None, wanted=("A", "B")):
    found = conflicts(decisions(commands(files), texts or {}), wanted)
    return [(one.name, one.file, one.line) for one in found]


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("/usr/bin/ollama serve", []),
        ("/usr/bin/env A=9 /usr/bin/ollama serve", ["A"]),
        ("-/usr/bin/env -C /tmp -v A=9 B=1 ollama serve A=1", ["A", "B"]),
        ("env C=1 ollama serve --flag A=1", []),
        ("env -u A ollama serve", ["A"]),
        ("env --unset=A -uB ollama serve", ["A", "B"]),
        ("env -i PATH=/bin ollama serve", ["A", "B"]),
        ("env A=${A} B=$B ollama serve", []),
        ("/bin/sh -c 'A=9 exec ollama serve'", ["A"]),
        ("/bin/bash -euc 'export A=9; exec ollama serve'", ["A"]),
        ("/bin/bash -lc 'export A=9; exec ollama serve'", ["A"]),
        ("/bin/bash -c -e 'export A=9; exec ollama serve'", ["A"]),
        ("/bin/bash -o pipefail +e --login -c 'A=9 exec ollama serve'", ["A"]),
        ("/bin/bash -o pipefail -c 'A=9 exec ollama serve'", ["A"]),
        ("/bin/bash -c 'A=9 exec ollama serve' B=1", ["A"]),
        ("/bin/bash +c 'A=9 exec ollama serve'", []),
        ("/bin/bash", []),
        ("/bin/bash --norc -e", []),
        ("/bin/bash -c", []),
        ("/usr/bin/nice -n 5 /usr/bin/env A=9 /usr/bin/ollama serve", ["A"]),
        ("env C=1 taskset -c 0-7 bash -c 'B=1 ollama serve'", ["B"]),
        ("sudo -u ollama env A=1 nice /usr/bin/ollama serve", ["A"]),
        ("/usr/bin/nice -n 5 /usr/bin/ollama serve", []),
        ("nice", []),
        ("env -S 'A=9 ollama serve'", ["A"]),
        ("env '-SB=9 -u A' ollama serve", ["A", "B"]),
        ("env '--split-string=A=9' B=1 ollama serve", ["A", "B"]),
        ("env -S A=9 B=1 ollama serve", ["A", "B"]),
        ("env -S -u A ollama serve", ["A"]),
        ("env C=1 env A=1 nice /usr/bin/env B=1 ollama serve", ["A", "B"]),
        ("env -S", []),
        ("/bin/bash -c 'export A=9; unset B; exec ollama serve'", ["A", "B"]),
        ("/bin/sh -c 'A=${A:-1} exec ollama serve'", []),
        ("env sh -c 'exec env A=1 ollama serve'", ["A"]),
        ("", []),
        ("env", []),
        ("env -u", []),
    ],
)
def test_a_command_may_set_a_variable_again(command, names):
    assert decided([unit(command)]) == [(name, PATH, 2) for name in names]


def test_an_empty_command_takes_those_before_it_back():
    later = unit("", "ollama serve", path=f"{PATH}.d/a.conf", kind=DROP_IN)
    assert decided([unit("env A=1 ollama serve"), later]) == []
    wrapped = unit("", "env A=1 ollama serve", path=f"{PATH}.d/a.conf", kind=DROP_IN)
    assert decided([unit("ollama serve"), wrapped]) == [("A", f"{PATH}.d/a.conf", 3)]


@pytest.mark.parametrize(
    "command",
    [
        *("/opt/run.sh serve", "env C=1 /opt/run.sh", "/bin/bash -e /opt/run.sh", "/bin/bash --norc /opt/run.sh"),
        *("nice -n 5 /opt/run.sh", "chrt -b 0 bash /opt/run.sh"),
    ],
)
def test_a_script_is_looked_into(command):
    files = [unit(command)]
    assert scripts(commands(files)) == ["/opt/run.sh"]
    text = "#!/bin/sh\n# A=1\nexport A=9\nif [ x = y ]; then B=2; fi\nexec ollama serve\n"
    assert decided(files, {"/opt/run.sh": text}) == [("A", "/opt/run.sh", 3), ("B", "/opt/run.sh", 4)]


@pytest.mark.parametrize(
    ("command", "script"),
    [
        ("/bin/bash -c 'set -a; source /etc/o.env; ollama serve'", ""),
        ("/bin/sh -c '. /etc/o.env && exec ollama serve'", ""),
        ("/bin/sh -c '[ -r /etc/o.env ] && . \"/etc/o.env\"; ollama serve'", ""),
        ("/opt/run.sh", "#!/bin/sh\nset -a\n. /etc/o.env\nexec ollama serve\n"),
    ],
)
def test_a_file_that_a_shell_or_a_script_reads_in_is_looked_into(command, script):
    started, texts = commands([unit(command)]), {"/opt/run.sh": script}
    assert sourced(started, texts) == ["/etc/o.env"]
    texts["/etc/o.env"] = "# B=1\nA=9\n"
    assert decided([unit(command)], texts) == [("A", "/etc/o.env", 2)]


@pytest.mark.parametrize("line", ["# . /etc/o.env", "cat /etc/o.env", "./etc/o.env", "source o.env", "echo resource /etc/o.env"])
def test_a_file_that_is_only_named_is_not_read_in(line):
    assert sourced(commands([unit("/opt/run.sh")]), {"/opt/run.sh": f"#!/bin/sh\n{line}\n"}) == []


@pytest.mark.parametrize(
    ("command", "does"),
    [
        ("env A=9 ollama serve", "sets"),
        ("env -u A ollama serve", "takes away"),
        ("env -uA ollama serve", "takes away"),
        ("env --unset=A ollama serve", "takes away"),
        ("env -i ollama serve", "takes away"),
        ("/bin/sh -c 'export A=9; exec ollama serve'", "sets"),
        ("/bin/sh -c 'unset A; exec ollama serve'", "takes away"),
    ],
)
def test_the_sentence_says_whether_a_variable_is_set_or_taken_away(command, does):
    (found,) = conflicts(decisions(commands([unit(command)]), {}), ["A"])
    assert found.message.startswith(f"{PATH}:2 {does} A itself")


def test_the_sentence_says_what_to_remove():
    (found,) = conflicts(decisions(commands([unit("env A=9 ollama serve")]), {}), ["A"])
    assert found.message == (
        f"{PATH}:2 sets A itself, after every drop-in, when it starts Ollama (ExecStart): remove it there"
    )


@given(st.lists(st.text(alphabet="env -iuSA=B$'\"\\/shc;#\n", max_size=40), max_size=3), st.text(max_size=40))
def test_whatever_a_command_is_it_is_read(lines, script):
    files = [unit(*lines)]
    texts = dict.fromkeys(scripts(commands(files)), script)
    assert {name for name, _file, _line in decided(files, texts)} <= {"A", "B"}
