# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the aggregate rate of one runner grows with the requests it serves at once."""

from __future__ import annotations

from .config import Throughput


def aggregate_rate(settings: Throughput, active: int) -> float:
    """Tokens per second of all ``active`` requests together.

    linear: R1*n. amdahl: R1*n / (1 + s(n-1)). saturating: R1*min(n, knee). thrashing: the universal
    scalability law R1*n / (1 + s(n-1) + k*n(n-1)), which falls again beyond sqrt((1-s)/k) requests.
    Source: N. Gunther, Guerrilla Capacity Planning (2007), chapter 4, for the last one.
    """
    one, extra = settings.tokens_per_second, active - 1
    if settings.law == "linear":
        return one * active
    if settings.law == "saturating":
        return one * min(active, settings.knee)
    divisor = 1 + settings.serial_share * extra
    if settings.law == "thrashing":
        divisor += settings.crosstalk * active * extra
    return one * active / divisor


def request_rate(settings: Throughput, active: int) -> float:
    """Tokens per second that each of ``active`` requests gets."""
    return aggregate_rate(settings, active) / active
