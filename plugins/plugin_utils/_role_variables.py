# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which variables the roles and playbooks of this collection know, and which values of them fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load

ROLES = Path(__file__).parents[2] / "roles"
# What the roles themselves leave behind for those that come after them.
FACTS = {
    "ollama_benchmark": {"ollama_benchmark_partial", "ollama_benchmark_report", "ollama_benchmark_result"},
    "ollama_plan": {"ollama_plan_result"},
    "ollama_pull": {"ollama_pull_result"},
    "ollama_report": {
        "ollama_report_before",
        "ollama_report_changed_at",
        "ollama_report_failure",
        "ollama_report_gpu",
        "ollama_report_phase",
        "ollama_report_unreachable",
    },
    "ollama_override": {
        "ollama_override_changed",
        "ollama_override_outcome",
        "ollama_override_restarted",
        "ollama_override_rolled_back",
    },
    # The first two are of the hosts behind the router.
    "ollama_router": {"ollama_router_address", "ollama_router_is_out", "ollama_router_routed"},
    "ollama_verify": {"ollama_verify_result"},
}

# The playbooks, as the owner of variables; what they read, and what they leave behind or find in a file of placements.
PLAYBOOKS = "gpufleet"
PLAYBOOK_SPECS = Path(__file__).parents[2] / "playbooks" / "vars" / "argument_specs.yml"
PLAYBOOK_FACTS = {"gpufleet_gpu", "gpufleet_placement"}
# Letters that may be too many, too few, wrong, or two that changed places; in a short name only one.
MOST_SLIPS = 2
_SHORT_LETTERS = 4


def _argument_specs(role: str) -> dict[str, dict[str, Any]]:
    """The options of a role by entry point, without their descriptions."""
    specs = yaml_load((ROLES / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    return {entry_point: _undescribed(spec["options"]) for entry_point, spec in specs["argument_specs"].items()}


def _undescribed(options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Options without their descriptions."""
    return {
        option: {name: value for name, value in attributes.items() if name != "description"}
        for option, attributes in options.items()
    }


# Read where Ansible loads an action that needs them, once, before it forks a process for each host.
SPECS = {role: _argument_specs(role) for role in FACTS}
PLAYBOOK_SPEC = _undescribed(yaml_load(PLAYBOOK_SPECS.read_text(encoding="utf-8")))
PLAYBOOK_VARIABLES = {*PLAYBOOK_SPEC, *PLAYBOOK_FACTS}

# Every known name with who knows it: a role, or the playbooks.
KNOWN = {
    **dict.fromkeys(PLAYBOOK_VARIABLES, PLAYBOOKS),
    **{name: role for role, facts in FACTS.items() for name in (role, *facts)},
    **{name: role for role, entry_points in SPECS.items() for spec in entry_points.values() for name in spec},
}
_FIRST_LETTERS = tuple({letter for name in KNOWN for letter in (name[0], name[0].upper())})
_LENGTHS = range(min(map(len, KNOWN)) - MOST_SLIPS, max(map(len, KNOWN)) + MOST_SLIPS + 1)


def unknown_variables(names: Iterable[str]) -> list[str]:
    """One sentence for each name that is a slip of the pen away from one that is known; Ansible would ignore it.

    A name that is near none is somebody else's, whatever it begins with.
    """
    candidates = [
        name
        for name in names
        if name.startswith(_FIRST_LETTERS) and name not in KNOWN and len(name) in _LENGTHS
    ]
    return [_sentence(name, meant) for name in sorted(candidates) for meant in [_meant(name)] if meant]


def _sentence(name: str, meant: Sequence[str]) -> str:
    owner = KNOWN[meant[0]]
    knows = "the playbooks know" if owner == PLAYBOOKS else f"{owner} knows"
    return (
        f"{name}: {knows} no such variable, so it would be ignored; did you mean {' or '.join(meant)}? "
        "Correct the name, remove it, or choose one that is less like it"
    )


def _meant(name: str) -> list[str]:
    """The known names that may have been meant, a few letters or one word away; empty where none is near."""
    text = name.lower()
    for slips in range(MOST_SLIPS + 1):
        near = [known for known in KNOWN if _is_near(text, known, slips)]
        if near:
            return near
    return _by_words(text)


def _is_near(text: str, known: str, slips: int) -> bool:
    letters = len(known) - len(KNOWN[known]) - 1
    allowed = 0 if letters < 1 else 1 if letters <= _SHORT_LETTERS else MOST_SLIPS
    return slips <= allowed and abs(len(text) - len(known)) <= slips and _within(text, known, slips)


def _within(first: str, second: str, slips: int) -> bool:
    """Whether so many slips make the one text of the other."""
    while first and first[:1] == second[:1]:
        first, second = first[1:], second[1:]
    if not first or not second:
        return len(first) + len(second) <= slips
    if slips == 0:
        return False
    return (
        _within(first[1:], second[1:], slips - 1)
        or _within(first[1:], second, slips - 1)
        or _within(first, second[1:], slips - 1)
        or (first[:2] == second[1::-1] and _within(first[2:], second[2:], slips - 1))
    )


def _by_words(text: str) -> list[str]:
    """The known names whose words stand in another order, else those of which one word was left out."""
    for words_left_out in (0, 1):
        near = [
            known
            for known, owner in KNOWN.items()
            if text.startswith(f"{owner}_")
            for given, words in [(text[len(owner) + 1 :].split("_"), known[len(owner) + 1 :].split("_"))]
            if len(given) + words_left_out == len(words) and not Counter(given) - Counter(words)
        ]
        if near:
            return near
    return []


@lru_cache(maxsize=None)
def validator(role: str) -> ArgumentSpecValidator:
    """What validates the values of a role's entry point `main`: to be made once, before Ansible forks, for it takes long."""
    return ArgumentSpecValidator(SPECS[role]["main"])


def given_values(
    names: Iterable[str], variables: Mapping[str, Any], template: Callable[[Any], Any]
) -> dict[str, Any]:
    """Those of the variables that are given. template: resolves the expressions in the values of a mapping."""
    given: dict[str, Any] = template({name: variables[name] for name in names if name in variables})
    return given


def unfit_values(role: str, values: Mapping[str, Any]) -> list[str]:
    """One sentence for each of the resolved values that the role's entry point `main` cannot take, as Ansible validates it."""
    known = {name: value for name, value in values.items() if name in SPECS[role]["main"]}
    return _unfit(role, validator(role), known)


def unfit_playbook_values(variables: Mapping[str, Any], template: Callable[[Any], Any]) -> list[str]:
    """One sentence for each value that the playbooks cannot take; `template` as above."""
    given = given_values(PLAYBOOK_SPEC, variables, template)
    return _unfit("the playbooks", ArgumentSpecValidator(PLAYBOOK_SPEC), given)


def _unfit(owner: str, spec: ArgumentSpecValidator, values: Mapping[str, Any]) -> list[str]:
    return [f"{owner}: {error}" for error in spec.validate(dict(values)).error_messages]
