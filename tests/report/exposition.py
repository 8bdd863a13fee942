# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads Prometheus' text format as strictly as its documentation says, for tests.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/, "Text-based format".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)")
_ESCAPES = {"\\n": "\n", "\\\\": "\\", '\\"': '"'}


@dataclass
class Told:
    """One metric as it was read; samples by their labels."""

    kind: str
    help: str
    samples: dict[frozenset[tuple[str, str]], float] = field(default_factory=dict)

    def value(self, **labels: str) -> float | None:
        return self.samples.get(frozenset(labels.items()))

    def labels(self) -> list[Mapping[str, str]]:
        return [dict(one) for one in self.samples]


def read_metrics(text: str) -> dict[str, Told]:
    """The metrics of a text by name.

    Raises: ValueError where a line is none of the format, a metric is told of twice, or a sample is there twice.
    """
    if text and not text.endswith("\n"):
        raise ValueError("the last line has no end")
    told: dict[str, Told] = {}
    lines = iter(text.split("\n")[:-1])
    current = ""
    for line in lines:
        if line.startswith("# HELP "):
            _hash, _word, current, help_text = line.split(" ", 3)
            kind = re.fullmatch(rf"# TYPE {re.escape(current)} (gauge|counter)", next(lines, ""))
            if not re.fullmatch(NAME, current) or not kind or current in told:
                raise ValueError(f"{line!r} does not begin a metric")
            told[current] = Told(kind.group(1), help_text)
            continue
        sample = SAMPLE.fullmatch(line)
        if not sample or sample.group(1) != current:
            raise ValueError(f"{line!r} is no sample of {current}")
        pairs = [
            (name, re.sub(r'\\[n\\"]', lambda one: _ESCAPES[one.group()], value))
            for name, value in re.findall(LABEL, sample.group(2) or "")
        ]
        labels = frozenset(pairs)
        if len(labels) != len({name for name, _value in pairs}) or labels in told[current].samples:
            raise ValueError(f"{line!r} is there twice")
        told[current].samples[labels] = float(sample.group(7))
    return told
