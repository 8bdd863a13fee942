# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attributes every module of this collection states: check mode, diff mode, platform."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation shared by the modules of this collection."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  platform:
    description: Target OS/families that can be operated against.
"""

    READS_ONLY = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - It changes nothing.
  diff_mode:
    support: N/A
    details:
      - It changes nothing.
"""

    CONTROL_NODE = r"""
options: {}
attributes:
  platform:
    support: N/A
    platforms: posix
    details:
      - It is done on the control node.
"""

    LINUX = r"""
options: {}
attributes:
  platform:
    support: full
    platforms: linux
"""

    SYSTEMD = r"""
options: {}
attributes:
  platform:
    support: full
    platforms: linux
    details:
      - Needs a host that was booted with systemd.
"""
