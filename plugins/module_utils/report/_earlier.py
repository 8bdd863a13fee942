# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report on a part of the fleet keeps of the other hosts: what the run before has found, with its age."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.report._report import FORMAT, summary_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._states import badness

# What two runs over one fleet have in common.
_OF_A_FLEET = ("inventory", "pattern")


def with_earlier(report: Mapping[str, Any], earlier: Any, fleet: Container[str]) -> dict[str, Any]:
    """The report, where a limit kept its run from other hosts with these as an earlier report tells of them.

    earlier: the report that lies there, whatever that is. fleet: the hosts that the inventory still has.
    """
    kept = _kept(report, earlier, fleet) if report["made"]["limit"] else []
    hosts = sorted([*report["hosts"], *kept], key=badness)
    return {**report, "hosts": hosts, "summary": summary_of(hosts)} if kept else dict(report)


def _kept(report: Mapping[str, Any], earlier: Any, fleet: Container[str]) -> list[dict[str, Any]]:
    try:
        is_same = earlier["format"] == FORMAT and all(
            earlier["made"][name] == report["made"][name] for name in _OF_A_FLEET
        )
        hosts = [dict(host) for host in earlier["hosts"]] if is_same else []
        # By another version of the collection a host may be told of in other words, which nothing here can show.
        known = set(report["hosts"][0]) if report["hosts"] else set()
        hosts = [host for host in hosts if set(host) >= known and known]
        kept = [host for host in hosts if host["name"] in fleet]
        looked_at = {host["name"] for host in report["hosts"]}
        kept = [host for host in kept if host["name"] not in looked_at]
        summary_of(sorted(kept, key=badness))
    except (AttributeError, LookupError, TypeError, ValueError):
        return []
    return kept
