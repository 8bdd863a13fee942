# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a module takes to load: what Ansible sends is imported out of an archive, and is compiled once.

Python's importer of archives compiles a file to tell its name, and once more to run it. On a host that is most of what a
module's own work takes.
Source: CPython 3.8 to 3.13, Lib/zipimport.py, get_filename and get_code, which Lib/importlib/_bootstrap.py calls in turn
(spec_from_loader).
"""

from __future__ import annotations

import sys
from zipimport import zipimporter


class _CompilesOnce(zipimporter):
    def get_filename(self, fullname: str) -> str:
        end = "/__init__.py" if self.is_package(fullname) else ".py"
        return f"{self.archive}/{self.prefix}{fullname.rpartition('.')[2]}{end}"


def compile_once() -> None:
    """From now on files of archives, which hold no compiled ones, are compiled once when they are imported."""
    if _CompilesOnce in sys.path_hooks:
        return
    sys.path_hooks.insert(0, _CompilesOnce)
    known = sys.path_importer_cache
    for path in [path for path, importer in known.items() if isinstance(importer, zipimporter)]:
        del known[path]
