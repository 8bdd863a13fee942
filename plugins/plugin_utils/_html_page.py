# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report as an HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import Environment, StrictUndefined, TemplateError


def fill_page(report: Mapping[str, Any], template: str, title: str, link: str) -> Iterator[str]:
    """The parts of the template filled with `report`, `title` and `link`, every value escaped for HTML.

    Raises: ValueError in one sentence where the template is none, or names a value that is not there.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    try:
        yield from environment.from_string(template).generate(report=report, title=title, link=link)
    except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"the page cannot be made from this report: {error}") from error
