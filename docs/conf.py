# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx settings of the documentation site; tests/gates/docs.py puts its source together."""

from __future__ import annotations

from pathlib import Path

import yaml

REPOSITORY = "https://github.com/gpufleet/ansible-collection-ollama"

project = "gpufleet.ollama"
copyright = "The gpufleet.ollama developers"
release = version = yaml.safe_load(Path("galaxy.yml").read_text(encoding="utf-8"))["version"]
html_title = f"{project} {release}"
extensions = ["sphinx.ext.intersphinx", "sphinx_antsibull_ext", "myst_parser"]
include_patterns = [
    "index.rst",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "collections/**",
    "docs/*.md",
    "roles/*/README.md",
    "tests/*/README.md",
]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
intersphinx_mapping = {"ansible": ("https://docs.ansible.com/projects/ansible/latest/", "ansible.inv")}
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "sphinx_ansible_theme"
html_theme_options = {
    "documentation_home_url": REPOSITORY,
    "display_version": True,
    "includehidden": False,
    "topbar_links": {"Repository": REPOSITORY, "Issues": f"{REPOSITORY}/issues", "Ollama": "https://ollama.com"},
    "vcs_pageview_mode": "blob",
}
html_context = {"display_github": False}
html_use_smartypants = False
default_role = "any"
nitpicky = False
