# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many inputs a parser gets: 2,000 in `make test`, 20,000 with --hypothesis-profile=thorough, in `make test-all`."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The same inputs at every run: a change is judged by what it changes. `make fuzz` looks for others.
settings.register_profile(
    "fuzz",
    derandomize=True,
    deadline=None,
    max_examples=2_000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("fuzz"), max_examples=20_000)
