# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the control node takes of a module's answer: what the module documents, of those types, within a budget.

Whoever is root on a host decides what every module that runs there answers. Ansible makes variables of
`ansible_facts` in any answer, above those of the inventory, and prints messages as they are.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.common.yaml import yaml_load

MODULES = Path(__file__).parents[1] / "modules"

# A host with 64 GPUs and 256 models answers with less than half of it.
ANSWER_CHARACTERS = 4 << 20
DEPTH = 24
MESSAGE_CHARACTERS = 16 << 10
WARNINGS = 64
# systemd and Ollama know no number beyond.
LARGEST_NUMBER = (1 << 64) - 1
# What a module says of a value that is in every answer of a run that did not fail.
IN_EVERY_ANSWER = ("always", "success")

# Neither a terminal nor a log shows these as text: control characters without tab and new line, and what
# changes the direction or the lines of a text (Unicode Standard Annex 9 and chapter 5.8).
_NOT_SHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")

_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
    "complex": (dict,),
}

Returns = Mapping[str, Mapping[str, Any]]


class UnfitAnswer(Exception):
    """An answer that no module of this collection gives; the text says what is odd, without the host's name."""


def documented(module: str) -> Returns:
    """The RETURN section of a module of this collection: name to `type`, `elements`, `contains`."""
    tree = ast.parse((MODULES / f"{module}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "RETURN" for target in node.targets
        ):
            returns: Returns = yaml_load(ast.literal_eval(node.value)) or {}
            return returns
    raise ValueError(f"the module {module} has no RETURN section")


def shown(text: str) -> str:
    r"""The text with every character that a terminal would obey, or not show, as its escape such as `\x1b`."""
    if text.isprintable():
        return text
    return _NOT_SHOWN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def checked(answer: Mapping[str, Any], returns: Returns) -> dict[str, Any]:
    """What of the answer is documented, with texts as `shown`, and how the module ended.

    Everything else is left out: facts and Ansible's own keys among them.

    Raises: UnfitAnswer where a value has another type than documented, a number that no host can have, where one
    that is always returned is missing although the module did not fail, or where all of it is too large or too deep.
    """
    budget = _Budget()
    taken = {name: budget.taken(answer[name], name, 1) for name in returns if name in answer}
    facts = taken.get("ansible_facts")
    if isinstance(facts, dict):
        known = returns["ansible_facts"].get("contains", {})
        taken["ansible_facts"] = {name: facts[name] for name in known if name in facts}
    for name, value in taken.items():
        _check_type(value, returns[name], name)
    if not answer.get("failed"):
        _check_complete(taken, returns, "")
    return {**taken, **_ending(answer)}


def _ending(answer: Mapping[str, Any]) -> dict[str, Any]:
    """How the module ended, in the words that every module has; none is skipped, since all support check mode."""
    ending: dict[str, Any] = {
        name: bool(answer[name]) for name in ("changed", "failed") if name in answer
    }
    if "msg" in answer:
        ending["msg"] = shown(str(answer["msg"])[:MESSAGE_CHARACTERS])
    if isinstance(answer.get("diff"), (dict, list)):
        ending["diff"] = _Budget().taken(answer["diff"], "diff", 1)
    warnings = answer.get("warnings")
    if isinstance(warnings, (list, tuple)) and warnings:
        ending["warnings"] = [shown(_text_of(warning)[:MESSAGE_CHARACTERS]) for warning in warnings[:WARNINGS]]
    return ending


def _text_of(warning: Any) -> str:
    """ansible-core 2.19 makes objects of a module's warnings; their text is `event.msg`."""
    return str(getattr(getattr(warning, "event", warning), "msg", warning))


class _Budget:
    """Counts what is taken of one answer."""

    def __init__(self) -> None:
        self.left = ANSWER_CHARACTERS

    def taken(self, value: Any, name: str, depth: int) -> Any:
        if depth > DEPTH:
            raise UnfitAnswer(f"{shown(name)} is nested more than {DEPTH} deep")
        if isinstance(value, str):
            self._count(len(value), name)
            return shown(value)
        self._count(1, name)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, (int, float)):
            if not abs(value) <= LARGEST_NUMBER:  # nor is NaN
                raise UnfitAnswer(f"{shown(name)} is a number that no host has")
            return value
        if isinstance(value, Mapping):
            return {
                self.taken(str(key), name, depth): self.taken(item, f"{name}.{str(key)[:64]}", depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.taken(item, name, depth + 1) for item in value]
        raise UnfitAnswer(f"{shown(name)} is of the type {type(value).__name__}")

    def _count(self, characters: int, name: str) -> None:
        self.left -= characters + 1
        if self.left < 0:
            raise UnfitAnswer(f"it is larger than {ANSWER_CHARACTERS >> 20} MiB (at {shown(name)})")


def _check_type(value: Any, documented_as: Mapping[str, Any], name: str) -> None:
    """Holds a value against its documentation; null is allowed but in a list, since it says that something is not known."""
    expected = documented_as.get("type", "raw")
    if value is None or expected == "raw":
        return
    if not isinstance(value, _TYPES[expected]) or (isinstance(value, bool) and expected != "bool"):
        raise UnfitAnswer(f"{shown(name)} is {_kind(value)}, and the module returns {expected}")
    contains = documented_as.get("contains")
    if isinstance(value, list):
        element = {"type": documented_as.get("elements", "raw"), "contains": contains}
        for item in value:
            if item is None and element["type"] != "raw":
                raise UnfitAnswer(f"{shown(name)} holds null, and the module returns a list of {element['type']}")
            _check_type(item, element, name)
    elif isinstance(value, dict) and contains:
        _check_fields(value, contains, name)


def _check_fields(value: Mapping[str, Any], contains: Returns, name: str) -> None:
    """The fields of a record, or of each record where the documentation describes what lies under any name."""
    records: Iterable[Any] = [value] if set(value) & set(contains) else value.values()
    for record in records:
        if not isinstance(record, Mapping):
            raise UnfitAnswer(f"{shown(name)} holds {_kind(record)} in place of a record")
        for field, documented_as in contains.items():
            if field in record:
                _check_type(record[field], documented_as, f"{name}.{field}")


def _check_complete(answer: Mapping[str, Any], returns: Returns, within: str) -> None:
    """Refuses an answer, or a record in one, without what is always there."""
    for name, documented_as in returns.items():
        if name not in answer and documented_as.get("returned") in IN_EVERY_ANSWER:
            raise UnfitAnswer(f"{within}{name} is missing, and the module always returns it")
        contains = documented_as.get("contains")
        if not contains:
            continue
        value = answer.get(name)
        for record in value if isinstance(value, list) else [value]:
            # An empty one says that there is nothing to tell.
            if isinstance(record, dict) and record:
                _check_complete(record, contains, f"{within}{name}.")


def _kind(value: Any) -> str:
    """The value's type, with the value where it is short."""
    text = repr(value)
    return type(value).__name__ + (f" ({shown(text)})" if len(text) <= 40 else "")
