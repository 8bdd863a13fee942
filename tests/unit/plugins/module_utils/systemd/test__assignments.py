# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quoting and parsing are exact inverses; what systemd cannot carry is refused by name and reason."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import (
    ASSIGNMENT_LIMIT_BYTES,
    Assignment,
    environment_lines,
    is_well_formed,
    parse_assignments,
    parse_environment_file,
    parse_process_environment,
    parse_shown_environment,
    quote_assignment,
    refusal,
    value_text,
)
from hypothesis import given
from hypothesis import strategies as st

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
carried = st.text(max_size=60).filter(lambda value: refusal("X", value) is None)
mappings = st.dictionaries(names, carried, max_size=8)


@given(names, carried)
def test_a_quoted_assignment_parses_back_to_itself(name, value):
    assert parse_assignments(quote_assignment(name, value)) == [Assignment(name, value)]


@given(mappings)
def test_several_on_one_line_parse_back_in_order(environment):
    line = " ".join(quote_assignment(name, value) for name, value in environment.items())
    assert parse_assignments(line) == list(environment.items())


@given(mappings)
def test_a_quoted_assignment_is_one_line_without_a_trailing_backslash(environment):
    for line in environment_lines(environment):
        assert "\n" not in line
        assert line.endswith('"')


def shown(assignment: str) -> str:
    """What systemctl show prints for one assignment, after systemd v252 src/basic/escape.c."""
    needs_quotes = set("\"\\`$*?['()<>|&;! \t\n\r")
    escapes = {"\a": "a", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v"}
    if not any(c in needs_quotes or ord(c) < 32 or ord(c) == 127 for c in assignment):
        return assignment
    text = ""
    for character in assignment:
        if character in escapes:
            text += "\\" + escapes[character]
        elif ord(character) < 32 or ord(character) == 127:
            text += f"\\{ord(character):03o}"
        elif character in '"\\`$':
            text += "\\" + character
        else:
            text += character
    return f'"{text}"'


@given(
    st.dictionaries(
        names, st.text(st.characters(blacklist_categories=["Cs"], min_codepoint=1), max_size=40), max_size=6
    )
)
def test_what_systemctl_show_prints_parses_to_the_values(environment):
    printed = " ".join(shown(f"{name}={value}") for name, value in environment.items())
    assert parse_shown_environment(printed) == list(environment.items())


@pytest.mark.parametrize("text", ["word", '"A=1', '"A=\\q"', "A=1 =", 'A=1 "B'])
def test_what_systemctl_show_would_never_print_is_an_error_or_an_empty_name(text):
    if text == "A=1 =":
        assert parse_shown_environment(text) == [("A", "1"), ("", "")]
    else:
        with pytest.raises(ValueError, match="systemctl show printed"):
            parse_shown_environment(text)


def test_one_value_is_not_found_inside_another():
    assert dict(parse_shown_environment("OLLAMA_NUM_PARALLEL=16"))["OLLAMA_NUM_PARALLEL"] != "1"


@pytest.mark.parametrize(
    ("line", "assignments"),
    [
        ("A=1 B=2", [("A", "1"), ("B", "2")]),
        ("\"A=1 2\" 'B=3 4'", [("A", "1 2"), ("B", "3 4")]),
        ('A="1 2"B', [("A", "1 2B")]),
        ("A=", [("A", "")]),
        ("A=%%", [("A", "%")]),
        ("A=%h", [("A", "%h")]),
        ("A=a\\x20b\\101\\u00e4\\U0001f999\\s", [("A", "a bA\u00e4\U0001f999 ")]),
        ("A=\\xc3\\xa4", [("A", "\u00e4")]),
        ("A=1 B C=3", [("A", "1"), ("C", "3")]),
        ("1A=1 A-B=2 C=3", [("C", "3")]),
        ("A:1", []),
        ('A=1 "B=2', [("A", "1")]),
        ("A=1 B=\\q C=3", [("A", "1")]),
        ("A=1 B=\\x0", [("A", "1")]),
        ("A=1 B=\\xg1", [("A", "1")]),
        ("A=1 B=\\089", [("A", "1")]),
        ("A=1 B=\\", [("A", "1")]),
        ("A=\\x41\\x7a", [("A", "Az")]),
        ("\tA=1  \n B=2 ", [("A", "1"), ("B", "2")]),
        ("A=1 B=\\000", [("A", "1")]),
        ("A=1 B=\\ud800", [("A", "1")]),
        ("A=1 B=\\777", [("A", "1")]),
        ("A=1 B=2\\", [("A", "1")]),
        # cunescape_one() and unichar_is_valid(): one byte, or a character that is no surrogate and within Unicode.
        ("A=\\ud7ff\\ue000\\U0010ffff", [("A", "\ud7ff\ue000\U0010ffff")]),
        ("A=1 B=\\udfff", [("A", "1")]),
        ("A=1 B=\\U00110000", [("A", "1")]),
        ("A=\\x01\\177", [("A", "\x01\x7f")]),
        ("A=\\377\\x80", [("A", "\udcff\udc80")]),
        ("A=\\302\\200", [("A", "\x80")]),
        ("A=1 B=\\400", [("A", "1")]),
        ("", []),
        ("   ", []),
    ],
)
def test_unit_file_lines_are_read_as_systemd_reads_them(line, assignments):
    assert parse_assignments(line) == assignments


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("1A", "x", "is not a name that systemd accepts"),
        ("A-B", "x", "is not a name that systemd accepts"),
        ("", "x", "is not a name that systemd accepts"),
        ("HF_TOKEN=hunter2", "x", "'HF_TOKEN=********' is not a name that systemd accepts"),
        ("A\n", "x", "is not a name that systemd accepts"),
        ("\u00c4", "x", "is not a name that systemd accepts"),
        ("A", "x\ny", "A: the value holds a newline"),
        ("A", "x\0", "A: the value holds a NUL character"),
        ("A", "\x1b[0m", "U+001B"),
        ("A", "\x7f", "U+007F"),
        ("A", "\r", "U+000D"),
        ("A", "\udcff", "U+DCFF"),
        ("A", "\ufffe", "noncharacter U+FFFE"),
        ("A", "\ufdd0", "noncharacter U+FDD0"),
        ("A", "\U0010ffff", "noncharacter U+10FFFF"),
        ("A", "x" * ASSIGNMENT_LIMIT_BYTES, "longer than the 131072 bytes"),
    ],
)
def test_what_systemd_cannot_carry_is_refused_with_name_and_reason(name, value, reason):
    assert reason in refusal(name, value)
    with pytest.raises(ValueError, match=r"A|name"):
        quote_assignment(name, value)


@pytest.mark.parametrize(
    ("codes", "carried"),
    [
        ((0x01, 0x08, 0x0A, 0x0B, 0x1F, 0x7F), False),
        ((0x09, 0x20, 0x7E, 0x80, 0xA0), True),
        ((0xD800, 0xDB40, 0xDFFF), False),
        ((0xD7FF, 0xE000), True),
        ((0xFDD0, 0xFDE0, 0xFDEF, 0xFFFE, 0xFFFF, 0x1FFFE, 0x1FFFF, 0x10FFFE, 0x10FFFF), False),
        ((0xFDCF, 0xFDF0, 0xFFFD, 0x10000, 0x1FFFD, 0x10FFFD), True),
    ],
)
def test_which_characters_systemd_carries(codes, carried):
    assert [code for code in codes if (refusal("A", chr(code)) is None) is not carried] == []


def test_the_longest_value_that_linux_passes_is_let_through():
    assert refusal("A", "x" * (ASSIGNMENT_LIMIT_BYTES - len("A=") - 1)) is None
    assert refusal("A", "x" * (ASSIGNMENT_LIMIT_BYTES - len("A="))) is not None


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (False, "false"), (3, "3"), (1.5, "1.5"), ("x", "x"), ("", "")]
)
def test_values_from_yaml_become_text(value, text):
    assert value_text("A", value) == text


@pytest.mark.parametrize("value", [None, [1], {"a": 1}])
def test_values_that_are_no_text_are_refused(value):
    with pytest.raises(ValueError, match="A: an environment value must be text"):
        environment_lines({"A": value})


def test_lines_are_sorted_by_name():
    assert environment_lines({"B": 2, "A": "x y"}) == ['Environment="A=x y"', 'Environment="B=2"']


@pytest.mark.parametrize(
    ("text", "assignments"),
    [
        ("A=1\nB=2\n", [(1, ("A", "1")), (2, ("B", "2"))]),
        ("# c\n; c\n\n  A = 1  \n", [(4, ("A", "1"))]),
        ('A=a b  \nB=\'a b  \'\nC="x\\"y"\n', [(1, ("A", "a b")), (2, ("B", "a b  ")), (3, ("C", 'x"y'))]),
        ("A='it''s'\n", [(1, ("A", "its"))]),
        ('A="a\\\nb"\nB=2\n', [(1, ("A", "ab")), (3, ("B", "2"))]),
        ("A=a\\\nb\nB=2", [(1, ("A", "ab")), (3, ("B", "2"))]),
        ('A="multi\nline"\nB=2', [(1, ("A", "multi\nline")), (3, ("B", "2"))]),
        ('A="\\x\\$\\`"\n', [(1, ("A", "\\x$`"))]),
        ("A=a\\ b\\\\\n", [(1, ("A", "a b\\"))]),
        ("A=x'y'\n", [(1, ("A", "x'y'"))]),
        ("A=\nB=1\n", [(1, ("A", "")), (2, ("B", "1"))]),
        ("export A=1\nB\n1C=2\nD=4", [(4, ("D", "4"))]),
        ("A=a # b\n", [(1, ("A", "a # b"))]),
        ("A=x\r\nB=y\r\n", [(1, ("A", "x")), (2, ("B", "y"))]),
        ("A=end\\", [(1, ("A", "end"))]),
        ('A="end\\', [(1, ("A", "end"))]),
        ('A="end', [(1, ("A", "end"))]),
        ("A=\\x'y'\n", [(1, ("A", "x'y'"))]),
        ('A="x"  y z  \n', [(1, ("A", "xy z"))]),
        ("A= \\ \n", [(1, ("A", " "))]),
        ("B", []),
        ("B\r\nA=1", [(2, ("A", "1"))]),
        ("# a = 1", []),
        ("", []),
    ],
)
def test_environment_files_are_read_as_systemd_reads_them(text, assignments):
    assert parse_environment_file(text) == assignments


@given(mappings)
def test_double_quoted_environment_files_parse_back(environment):
    def quoted(value):
        return '"' + "".join("\\" + c if c in '"\\`$' else c for c in value) + '"'

    text = "".join(f"{name}={quoted(value)}\n" for name, value in environment.items())
    assert [assignment for _line, assignment in parse_environment_file(text)] == list(environment.items())


@given(mappings)
def test_a_process_environment_parses_back(environment):
    content = b"".join(f"{name}={value}".encode() + b"\0" for name, value in environment.items())
    assert parse_process_environment(content) == environment


def test_odd_process_environments_do_no_harm():
    assert parse_process_environment(b"A=1\0no assignment\0=2\0A=3\0B=\xff\0\0") == {"A": "1", "B": "\udcff"}


@pytest.mark.parametrize(
    ("text", "well_formed"),
    [
        ("", True),
        ("  ", True),
        ("A=1", True),
        (" A=1 B=2 ", True),
        ("A=1 B=\\q", False),
        ("A= \t\"B=2 3\" 'C=\\n'", True),
        ('A=1 "B=2', False),
        ("A=1 B", False),
        ("=1", False),
        ("1A=1", False),
        ("A-B=1", False),
    ],
)
def test_a_line_is_well_formed_where_every_word_is_an_assignment(text, well_formed):
    assert is_well_formed(text) is well_formed
