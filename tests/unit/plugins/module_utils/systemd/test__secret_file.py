# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The secrets of a drop-in are moved to its environment file, whole, and nothing else is."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import environment_lines
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secret_file import (
    MARKER,
    halves,
    joined,
    parted,
    variables_of,
)
from hypothesis import given
from hypothesis import strategies as st

PATH = "/etc/systemd/system/o.service.d/zz.conf"
REFERENCE = "EnvironmentFile=/etc/systemd/system/o.service.d/zz.env"


@pytest.mark.parametrize(
    ("lines", "left", "moved"),
    [
        (['Environment="A=1"'], ['Environment="A=1"'], None),
        (['Environment="A_KEY="'], ['Environment="A_KEY="'], None),
        (['Environment="A_KEY=x"'], [REFERENCE], {"A_KEY": "x"}),
        (['Environment="A=1" A_KEY=x B=%n'], ['Environment="A=1" "B=%n"', REFERENCE], {"A_KEY": "x"}),
        (["Environment=A_KEY=x", "Environment=B_KEY=100%%"], [REFERENCE], {"A_KEY": "x", "B_KEY": "100%"}),
        (["Environment=A_KEY=x", "LimitNOFILE=1"], [REFERENCE, "LimitNOFILE=1"], {"A_KEY": "x"}),
        ([r'Environment="A=a\"b\\c\nd" A_KEY=x'], [r'Environment="A=a\"b\\c\nd"', REFERENCE], {"A_KEY": "x"}),
        (["Environment=A_KEY=x", "Environment=A_KEY="], ["Environment=A_KEY="], None),
        (["Environment=A_KEY=x", "Environment=A_KEY"], [REFERENCE, "Environment=A_KEY"], {"A_KEY": "x"}),
        (
            ["Environment=A=1 \\", "# why", "  A_KEY=x", "B=2"],
            ['Environment="A=1"', REFERENCE, "B=2"],
            {"A_KEY": "x"},
        ),
        (["Environment=A_KEY=x", "Environment=A_KEY=y"], [REFERENCE], {"A_KEY": "y"}),
        (["Environment=P=http://u:p@h", "Environment=P=http://h"], ["Environment=P=http://h"], None),
        (
            ["Environment=A_KEY=x", "Environment=", "Environment=B_KEY=y"],
            [REFERENCE, "Environment="],
            {"B_KEY": "y"},
        ),
        (["[Unit]", "Environment=A_KEY=x"], ["[Unit]", "Environment=A_KEY=x"], None),
    ],
)
def test_where_each_variable_goes(lines, left, moved):
    text = "\n".join(["[Service]", *lines, ""])
    whole = parted(text, PATH)
    assert parted(whole, PATH) == whole
    dropin, secret_file = halves(whole)
    assert dropin == "\n".join(["[Service]", *left, ""])
    assert (None if secret_file is None else variables_of(joined("", secret_file))) == moved


@pytest.mark.parametrize("end", ["\r", "\n\r", "\r\n", "\0"])
def test_lines_end_as_systemd_ends_them(end):
    text = end.join(["[Service]", "Environment=A=b", "Environment=A_KEY=qq C=d", "Environment=E=f", ""])
    whole = parted(text, PATH)
    assert parted(whole, PATH) == whole
    dropin, secret_file = halves(whole)
    assert "qq" not in dropin
    assert dropin.startswith(end.join(["[Service]", "Environment=A=b", 'Environment="C=d"']))
    assert dropin.rstrip("\n").endswith(f"Environment=E=f{end}".rstrip("\n"))
    assert variables_of(joined("", secret_file)) == {"A_KEY": "qq"}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('Environment="A_KEY=qq', "line 2 of the drop-in is not well-formed and holds a secret"),
        ('Environment=A_KEY=qq "B', "line 2 of the drop-in is not well-formed and holds a secret"),
        ("Environment=A_KEY=qq\\nqq", "A_KEY: the value holds a newline"),
        ("Environment=A_KEY=%h/qq", "A_KEY: the value holds a specifier"),
    ],
)
def test_a_secret_that_cannot_be_moved_is_refused_without_it(line, sentence):
    with pytest.raises(ValueError, match=sentence) as raised:
        parted(f"[Service]\n{line}\n", PATH)
    assert "qq" not in str(raised.value)


values = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"), max_size=30)
names = st.sampled_from(["A", "HF_TOKEN", "DB_PASS", "HTTPS_PROXY", "OLLAMA_HOST", "B_KEY"])


@given(st.dictionaries(names, values))
def test_nothing_is_lost_and_what_is_parted_stays_so(environment):
    environment = {name: value for name, value in environment.items() if "********" not in value}
    text = "\n".join([MARKER, "[Service]", *environment_lines(environment), ""])
    whole = parted(text, PATH)
    assert variables_of(whole) == environment
    assert parted(whole, PATH) == whole
    assert joined(*halves(whole)) == whole
    dropin = halves(whole)[0]
    for name in ("HF_TOKEN", "DB_PASS", "B_KEY"):
        assert f"{name}=" not in dropin or environment[name] == ""
