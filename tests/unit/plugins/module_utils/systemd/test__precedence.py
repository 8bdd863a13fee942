# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file and line sets a variable, and which one wins, in systemd's order."""

from __future__ import annotations

import time

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._precedence import (
    DROP_IN,
    ENVIRONMENT_FILE,
    FRAGMENT,
    UnitFile,
    conflicts,
    dropin_directories,
    dropins_in_order,
    expand_unit_specifiers,
    overrides,
    service_settings,
    unit_environment,
    variables,
    with_dropin,
)

UNIT = UnitFile(
    "/etc/systemd/system/o.service",
    FRAGMENT,
    "[Unit]\nEnvironment=NO=1\n[Service]\nEnvironment=A=unit PATH=/bin\n",
)
D = "/etc/systemd/system/o.service.d"
OURS = f"{D}/zz-gpufleet.conf"


def dropin(name, text):
    return UnitFile(f"{D}/{name}", DROP_IN, f"[Service]\n{text}\n")


def winner(files, name, environment_files=()):
    return variables(unit_environment(files), environment_files)[name].origin


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("[Service]\nA=1\n", [("A", "1", 2)]),
        ("A=1\n[Unit]\nA=2\n[Service]\n A = 3 \n[Install]\nA=4\n", [("A", "3", 5)]),
        ("[Service]\n# c\n; c\n\nA=1", [("A", "1", 5)]),
        ("[Service]\nA=1 \\\n2\nB=3\n", [("A", "1  2", 2), ("B", "3", 4)]),
        ("[Service]\nA=1 \\\n# comment inside\n2\n", [("A", "1  2", 2)]),
        ("[Service]\nA=\\\\\nB=1\n", [("A", "\\\\", 2), ("B", "1", 3)]),
        ("[Service]\nA=\\\\\\\nB=1\n", [("A", "\\\\ B=1", 2)]),
        ("[Service]\nA=1 \\\n2 \\\n3\nB=4\n", [("A", "1  2  3", 2), ("B", "4", 5)]),
        ("[Service]\r\nA=1\r\n", [("A", "1", 2)]),
        # As systemd 252 was seen to read them: an old Mac's ends of lines, turned ones, and a NUL.
        ("[Service]\rA=1\r", [("A", "1", 2)]),
        ("[Service]\n\rA=1\n\rB=2\n", [("A", "1", 2), ("B", "2", 3)]),
        ("[Service]\nA=1\0B=2\n", [("A", "1", 2), ("B", "2", 3)]),
        ("[Service]\nA=1 \\\rB=2\n", [("A", "1  B=2", 2)]),
        ("[Service\nA=1\n", []),
        ("\ufeff[Service]\nA=1\n", [("A", "1", 2)]),
        ("# c\n\ufeff[Service]\nA=\ufeff1\n", [("A", "\ufeff1", 3)]),
        ("[Service]\nno setting\nA=1\n", [("A", "1", 3)]),
    ],
)
def test_settings_are_read_as_systemd_reads_them(text, settings):
    assert [(s.key, s.value, s.line) for s in service_settings(text)] == settings


def test_the_later_file_wins_and_the_earlier_ones_are_kept_as_overridden():
    variable = variables(
        unit_environment(
            [UNIT, dropin("a.conf", "Environment=A=one"), dropin("b.conf", "\nEnvironment=A=two")]
        ),
        (),
    )["A"]
    assert (variable.origin.file, variable.origin.line, variable.origin.value) == (f"{D}/b.conf", 3, "two")
    assert [origin.value for origin in variable.overridden] == ["unit", "one"]


def test_an_empty_assignment_resets_everything_before_it_the_vendors_path_too():
    found = variables(unit_environment([UNIT, dropin("a.conf", "Environment=\nEnvironment=B=1")]), ())
    assert set(found) == {"B"}


def test_an_environment_file_wins_over_every_dropin():
    environment = unit_environment(
        [UNIT, dropin("a.conf", "EnvironmentFile=-/etc/default/%p"), dropin("z.conf", "Environment=A=last")],
        "o.service",
    )
    (reference,) = environment.environment_files
    assert (reference.pattern, reference.file, reference.line) == ("/etc/default/o", f"{D}/a.conf", 2)
    origin = variables(environment, [("/etc/default/o", "# c\nA=file\n")])["A"].origin
    assert (origin.file, origin.line, origin.kind) == ("/etc/default/o", 2, ENVIRONMENT_FILE)


def test_an_empty_environment_file_setting_resets_the_list():
    files = [dropin("a.conf", "EnvironmentFile=/a\nEnvironmentFile=\nEnvironmentFile=/b")]
    assert [reference.pattern for reference in unit_environment(files).environment_files] == ["/b"]


@pytest.mark.parametrize(
    ("removals", "remaining"),
    [
        ("UnsetEnvironment=A", {"PATH"}),
        ("UnsetEnvironment=A=unit", {"PATH"}),
        ("UnsetEnvironment=A=other", {"A", "PATH"}),
        ("UnsetEnvironment=A=zzz", {"A", "PATH"}),
        ("UnsetEnvironment=B", {"A", "PATH"}),
        ("UnsetEnvironment=A PATH", set()),
        ("UnsetEnvironment=A\nUnsetEnvironment=", {"A", "PATH"}),
        ("UnsetEnvironment=1-bad", {"A", "PATH"}),
    ],
)
def test_unset_environment_wins_over_everything(removals, remaining):
    assert set(variables(unit_environment([UNIT, dropin("a.conf", removals)]), ())) == remaining


def test_our_dropin_stands_where_its_name_sorts():
    files = [UNIT, dropin("a.conf", ""), dropin("zzz.conf", "")]
    planned = with_dropin(files, OURS, "[Service]\n")
    assert [file.path for file in planned] == [UNIT.path, f"{D}/a.conf", OURS, f"{D}/zzz.conf"]
    assert with_dropin(planned, OURS, None) == files


def test_our_dropin_masks_one_of_its_name_in_another_directory():
    other = UnitFile(
        "/usr/lib/systemd/system/o.service.d/zz-gpufleet.conf", DROP_IN, "[Service]\nEnvironment=A=9\n"
    )
    planned = with_dropin([UNIT, other], OURS, "[Service]\n")
    assert [file.path for file in planned] == [UNIT.path, OURS]


def conflict_messages(files, wanted=("A",), environment_files=()):
    environment = unit_environment(files)
    return [
        c.message for c in conflicts(environment, variables(environment, environment_files), OURS, wanted)
    ]


def test_a_dropin_that_sorts_after_ours_is_a_conflict_that_says_what_to_remove():
    files = with_dropin(
        [UNIT, dropin("zzz-local.conf", "Environment=A=9")], OURS, "[Service]\nEnvironment=A=3\n"
    )
    assert conflict_messages(files) == [
        f"{D}/zzz-local.conf:2 sets A after our drop-in zz-gpufleet.conf: remove that line or give our drop-in "
        "a name that sorts after zzz-local.conf"
    ]


def test_an_environment_file_is_a_conflict():
    files = with_dropin([UNIT], OURS, "[Service]\nEnvironment=A=3\n")
    assert conflict_messages(files, environment_files=[("/etc/default/o", "A=9")]) == [
        "/etc/default/o:1 sets A, and an EnvironmentFile wins over every drop-in: remove that line"
    ]


def test_a_removal_is_a_conflict_and_a_variable_nobody_sets_is_none():
    removing = dropin("a.conf", "UnsetEnvironment=Z A B\nUnsetEnvironment=A")
    files = with_dropin([UNIT, removing], OURS, "[Service]\nEnvironment=A=3 B=4\n")
    assert conflict_messages(files, wanted=("A", "NOBODY", "B")) == [
        f"{D}/a.conf:2 removes A again (UnsetEnvironment=A): remove that entry",
        f"{D}/a.conf:2 removes B again (UnsetEnvironment=B): remove that entry",
    ]


@pytest.mark.parametrize("reset", ["Environment=", "Environment=\nEnvironment=PATH=/bin", "Environment=  "])
def test_a_reset_after_ours_is_a_conflict_that_says_what_to_remove(reset):
    files = [UNIT, UnitFile(OURS, DROP_IN, "[Service]\nEnvironment=A=1\n"), dropin("zzz.conf", reset)]
    assert conflict_messages(files) == [
        f"{D}/zzz.conf:2 empties Environment= after our drop-in zz-gpufleet.conf and so takes A away: "
        "remove that line or give our drop-in a name that sorts after zzz.conf"
    ]
    assert conflict_messages([UNIT, dropin("a.conf", reset), files[1]]) == []
    # Of those that follow none takes anything of ours.
    assert len(conflict_messages([*files, dropin("zzzz.conf", "Environment=")])) == 1


def test_a_reset_of_the_environment_files_takes_our_secrets_away():
    ours = UnitFile(OURS, DROP_IN, f"[Service]\nEnvironmentFile={OURS[:-5]}.env\n")
    files = [UNIT, ours, dropin("zzz.conf", "EnvironmentFile=\nEnvironment=")]
    assert conflict_messages(files) == [
        f"{D}/zzz.conf:2 empties EnvironmentFile= after our drop-in zz-gpufleet.conf and so takes A away: "
        "remove that line or give our drop-in a name that sorts after zzz.conf"
    ]


def test_what_ours_wins_is_no_conflict_but_is_reported():
    files = with_dropin(
        [UNIT, dropin("override.conf", "Environment=A=9 B=1")], OURS, "[Service]\nEnvironment=A=3\n"
    )
    assert conflict_messages(files) == []
    resolved = variables(unit_environment(files), ())
    assert overrides(resolved, OURS) == [f"our drop-in overrides A set in {D}/override.conf:2"]


def test_only_drop_ins_of_others_are_reported_as_overridden_wherever_they_lie():
    vendors = UnitFile("/usr/lib/systemd/system/o.service.d/a.conf", DROP_IN, "[Service]\nEnvironment=A=9\n")
    files = with_dropin([UNIT, vendors], OURS, "[Service]\nEnvironment=A=3\nEnvironment=A=4\n")
    resolved = variables(unit_environment(files), ())
    assert overrides(resolved, OURS) == [f"our drop-in overrides A set in {vendors.path}:2"]


@pytest.mark.parametrize(
    ("unit", "names"),
    [
        ("ollama.service", ["ollama.service", "service"]),
        ("ollama@gpu0.service", ["ollama@gpu0.service", "ollama@.service", "service"]),
        ("a-b-c.service", ["a-b-c.service", "a-b-.service", "a-.service", "service"]),
        ("a-b@i.service", ["a-b@i.service", "a-b@.service", "a-@.service", "a-@i.service", "service"]),
        ("-a.service", ["-a.service", "service"]),
        ("a.b.service", ["a.b.service", "service"]),
    ],
)
def test_the_directories_of_a_units_dropins(unit, names):
    found = dropin_directories(unit, [unit], ["/etc/s", "/usr/s"])
    assert {f"/etc/s/{name}.d" for name in names} == {path for path in found if path.startswith("/etc/")}
    assert found[0] == f"/etc/s/{unit}.d"
    assert found[-2:] == ["/etc/s/service.d", "/usr/s/service.d"]


def test_an_alias_has_directories_too():
    assert "/etc/s/alias.service.d" in dropin_directories(
        "o.service", ["o.service", "alias.service"], ["/etc/s"]
    )


def test_dropins_are_read_by_name_and_the_first_directory_masks_the_others():
    listings = [
        ("/etc/s/o.service.d", ["zz.conf", "10.conf", "readme", ".10.conf.new"]),
        ("/usr/s/o.service.d", ["10.conf", "20.conf"]),
        ("/etc/s/service.d", ["15.conf"]),
    ]
    assert dropins_in_order(listings) == [
        "/etc/s/o.service.d/10.conf",
        "/etc/s/service.d/15.conf",
        "/usr/s/o.service.d/20.conf",
        "/etc/s/o.service.d/zz.conf",
    ]


@pytest.mark.parametrize(
    ("text", "expanded"),
    [("%n %N %p %i %%", "a@b.c.service a@b.c a b.c %"), ("%h", "%h"), ("%", "%"), ("x", "x"), ("%%n", "%n")],
)
def test_specifiers_that_the_name_decides_are_expanded(text, expanded):
    assert expand_unit_specifiers(text, "a@b.c.service") == expanded


def test_a_line_that_is_continued_by_nothing_ends_with_the_file():
    (setting,) = service_settings("[Service]\nEnvironment=A=1\\")
    assert (setting.key, setting.value) == ("Environment", "A=1")


def test_a_line_continued_a_million_times_is_soon_read():
    began = time.process_time()
    (setting,) = service_settings("[Service]\nA=" + "a\\\n" * 1_000_000 + "b\n")
    assert len(setting.value) == 2_000_001
    assert time.process_time() - began < 10


def test_a_unit_as_people_write_them_is_read_as_systemd_reads_it() -> None:
    """What systemd 252 gave a process of these files, on a test host: a comment behind a value is none, nor is a quoted half."""
    unit = "/etc/systemd/system/odd.service"
    texts = {
        unit: '[Service]\nEnvironment="OLLAMA_NUM_PARALLEL=16" # each one has OLLAMA_X=1\nEnvironmentFile=-/etc/default/odd\n',
        f"{unit}.d/10-bom.conf": '\ufeff[Service]\r\nEnvironment="OLLAMA_MAX_LOADED_MODELS=4"\r\n',
        f"{unit}.d/20-several.conf": "[Service]\nEnvironment='OLLAMA_HOST=0.0.0.0' \"OLLAMA_ORIGINS=http://a,http://b\" \\\n"
        "  OLLAMA_KEEP_ALIVE=24h\n",
        f"{unit}.d/30-halves.conf": '[Service]\nEnvironment = "OLLAMA_DEBUG=1"\n'
        'Environment=OLLAMA_LLM_LIBRARY="cuda_v12"x OLLAMA_CONTEXT_LENGTH="8192"\n',
        f"{unit}.d/40-quotes.conf": "[Service]\nEnvironment=\u201cOLLAMA_MAX_QUEUE=4\u201d\n",
    }
    file = (
        "export OLLAMA_FLASH_ATTENTION=1\nOLLAMA_SCHED_SPREAD=\"1\"\nOLLAMA_KV_CACHE_TYPE='q8_0' # c\n"
        "HSA_OVERRIDE_GFX_VERSION=11.0.0   \nOLLAMA_LOAD_TIMEOUT = 10m\n; x=1\nOLLAMA_EDITOR=a\\\nb\n"
    )
    files = [UnitFile(path, "drop-in" if ".d/" in path else "fragment", text) for path, text in texts.items()]
    found = variables(unit_environment(files, "odd.service"), [("/etc/default/odd", file)])
    assert {name: one.origin.value for name, one in found.items()} == {
        "HSA_OVERRIDE_GFX_VERSION": "11.0.0",
        "OLLAMA_CONTEXT_LENGTH": "8192",
        "OLLAMA_DEBUG": "1",
        "OLLAMA_EDITOR": "ab",
        "OLLAMA_HOST": "0.0.0.0",
        "OLLAMA_KEEP_ALIVE": "24h",
        "OLLAMA_KV_CACHE_TYPE": "q8_0# c",
        "OLLAMA_LLM_LIBRARY": "cuda_v12x",
        "OLLAMA_LOAD_TIMEOUT": "10m",
        "OLLAMA_MAX_LOADED_MODELS": "4",
        "OLLAMA_NUM_PARALLEL": "16",
        "OLLAMA_ORIGINS": "http://a,http://b",
        "OLLAMA_SCHED_SPREAD": "1",
        "OLLAMA_X": "1",
    }
