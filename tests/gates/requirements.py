# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible's community package and Automation Hub ask of a collection: met, or listed below with the reason.

python tests/gates/requirements.py

Source: Ansible documentation, "Ansible community package collections requirements", "Automation Hub certification". What tools
look at is theirs: galaxy-importer in make artifact, ansible-test in make sanity, antsibull-docs in make docs-lint.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
# What cannot be met before somebody with the accounts has done it.
NOT_YET = {
    "It is published on Galaxy, with a tag for each release": "the workflow release does it with the first tag",
    "It is tested by antsibull-nox": "the Makefile asks the same of the same tools; its own licence check reads no REUSE.toml",
    "A company supports it, which certification asks for": "volunteers do; docs/releases.md says what they promise",
}
# Modules that change nothing and are neither _info nor _facts, and what they do in place of gathering.
NO_GATHERERS = {
    "fleet_start": "refuses a run",
    "known_variables": "refuses a run",
    "ollama_plan": "computes a plan",
    "what_if": "computes a plan",
}
# It gathers in one execution what several modules tell, gpu_facts among them, which is all that an unchanged host is asked for.
FACTS_BESIDE_INFO = {"ollama_host_info"}
# What ansible-core finds plugins in, of which we have these, and one for what they share on the control node.
FOLDERS = {"action", "doc_fragments", "filter", "module_utils", "modules", "plugin_utils"}
STATES_THAT_ASK = {"get", "info", "list", "query"}
ACTION_DIGEST = re.compile(r"uses: [\w.-]+/[\w.-]+@[0-9a-f]{40} # v[0-9.]+$")
LARGEST_BYTES = 1_000_000


def requirements() -> Iterator[tuple[str, bool]]:
    """Each requirement in words, and whether it is met."""
    galaxy, readme = read("galaxy.yml"), text("README.md")
    yield (
        "Its name is of lower case, without a double underscore",
        is_name(galaxy["namespace"]) and is_name(galaxy["name"]),
    )
    yield (
        "Its version is semantic and at least 1.0.0",
        bool(re.fullmatch(r"[1-9][0-9]*\.[0-9]+\.[0-9]+", galaxy["version"])),
    )
    keys = (
        "authors",
        "description",
        "documentation",
        "homepage",
        "issues",
        "license",
        "readme",
        "repository",
        "tags",
    )
    yield "galaxy.yml tells all of it: " + ", ".join(keys), all(galaxy.get(key) for key in keys)
    yield "It depends on no other collection without a lower bound", not galaxy["dependencies"]
    yield (
        "meta/runtime.yml names the ansible-core versions",
        bool(read("meta/runtime.yml").get("requires_ansible")),
    )
    yield (
        "Its licence is one of the Free Software Foundation's, and each file names one",
        all((ROOT / name).is_file() for name in ("LICENSE", "LICENSES/GPL-3.0-or-later.txt", "REUSE.toml")),
    )
    yield "Plugins are of GPL-3.0-or-later", all("GPL-3.0-or-later" in head(path) for path in files("plugins"))
    yield (
        "plugins has only folders that ansible-core or the package's rules know",
        {path.parent.relative_to(ROOT / "plugins").parts[0] for path in files("plugins")} == FOLDERS,
    )
    modules = {path.stem: documented(path) for path in files("plugins/modules")}
    yield (
        "Modules that only gather are named _info or _facts, and support check mode",
        all(
            reads_only(told) == name.endswith(("_info", "_facts")) or name in NO_GATHERERS
            for name, (told, _returned) in modules.items()
        ),
    )
    yield (
        "Modules that return facts are named _facts",
        {name for name, (_told, returned) in modules.items() if "ansible_facts" in returned}
        <= {name for name in modules if name.endswith("_facts")} | FACTS_BESIDE_INFO,
    )
    yield (
        "No module has a state that only asks",
        not any(
            STATES_THAT_ASK & set((told["options"] or {}).get("state", {}).get("choices", ()))
            for told, _returned in modules.values()
        ),
    )
    yield (
        "README says for which versions of Python, on both sides",
        all(f"Python 3.{minor} or newer" in readme for minor in (9, 11)),
    )
    yield (
        "CONTRIBUTING says what is taken, and asks for no licence agreement",
        all(word in text("CONTRIBUTING.md").lower() for word in ("pull request", "issue"))
        and "contributor license" not in text("CONTRIBUTING.md").lower(),
    )
    yield "It follows Ansible's code of conduct", "docs.ansible.com" in text("CODE_OF_CONDUCT.md")
    yield (
        "README and CONTRIBUTING say where its people talk",
        "#talking" in readme and "## Talking" in text("CONTRIBUTING.md"),
    )
    yield (
        "Maintainers are named, and how to report a hole in security",
        all((ROOT / name).is_file() for name in ("MAINTAINERS.md", "SECURITY.md")),
    )
    policies = text("docs/releases.md")
    yield (
        "Versions, deprecation and support have a policy",
        all(f"## {title}" in policies for title in ("Version numbers", "Deprecation", "What is supported")),
    )
    yield (
        "It has a changelog, made of fragments",
        (ROOT / "CHANGELOG.md").is_file() and bool(read("changelogs/config.yaml")),
    )
    yield "Sanity has no ignored failure", not list((ROOT / "tests" / "sanity").glob("ignore-*.txt"))
    yield (
        "Public plugins are documented and have examples",
        all(
            name in text_of(path)
            for path in public_plugins()
            for name in ("DOCUMENTATION = ", "EXAMPLES = ", "RETURN = ")
        ),
    )
    yield (
        "Actions have the same name as a documented module",
        {path.stem for path in files("plugins/action")} <= {path.stem for path in files("plugins/modules")},
    )
    yield (
        "Shared code is private, by its name",
        all(
            path.name.startswith("_")
            for folder in ("module_utils", "plugin_utils", "doc_fragments")
            for path in files(f"plugins/{folder}")
        ),
    )
    yield (
        "All modules say whether they support check mode",
        all("gpufleet.ollama._attributes" in text_of(path) for path in files("plugins/modules")),
    )
    yield (
        "Every change is tested, also once a week",
        {"push", "pull_request", "schedule"} <= set(read(".github/workflows/test.yml")["on"]),
    )
    yield (
        "It is tested with every ansible-core that it supports, and sanity before a release",
        "versions" in text(".github/workflows/test.yml") and "sanity" in text(".github/workflows/release.yml"),
    )
    yield (
        "Actions of the workflows are pinned by digest and renewed",
        (ROOT / ".github" / "dependabot.yml").is_file()
        and all(
            ACTION_DIGEST.search(line)
            for path in (ROOT / ".github" / "workflows").glob("*.yml")
            for line in text_of(path).splitlines()
            if "uses: " in line and not line.lstrip().startswith("#")
        ),
    )
    yield (
        "No file is a program without source, or large",
        all(path.stat().st_size < LARGEST_BYTES for path in tracked()),
    )
    yield (
        "Bin, submodules and links out of the repository are not there",
        not any(path.is_symlink() for path in tracked()),
    )
    for requirement in NOT_YET:
        yield requirement, False


def is_name(text: str) -> bool:
    return bool(re.fullmatch(r"[a-z][a-z0-9_]+", text)) and "__" not in text


def documented(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a module documents of itself, and of its answer."""
    told, returned = (
        yaml.safe_load(block) or {}
        for name in ("DOCUMENTATION", "RETURN")
        for block in re.findall(rf'^{name} = r"""(.*?)^"""', text_of(path), re.DOTALL | re.MULTILINE)
    )
    return {"options": {}, **told}, returned


def reads_only(told: dict[str, Any]) -> bool:
    return "gpufleet.ollama._attributes.reads_only" in told["extends_documentation_fragment"]


def public_plugins() -> list[Path]:
    return [*files("plugins/modules"), *files("plugins/filter")]


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    shipped = (
        ROOT / name for name in listed.split("\0") if name and not name.startswith(("tests/", "molecule/"))
    )
    return [path for path in shipped if path.exists()]


def head(path: Path) -> str:
    return "\n".join(text_of(path).splitlines()[:4])


def text(name: str) -> str:
    return text_of(ROOT / name)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def read(name: str) -> dict[Any, Any]:
    told: dict[Any, Any] = yaml.safe_load(text(name))
    return told


def main() -> None:
    missing = []
    for requirement, is_met in requirements():
        reason = "" if is_met else NOT_YET.get(requirement, "")
        print(f"[{'x' if is_met else ' '}] {requirement}{f': not yet, {reason}' if reason else ''}")
        missing += [] if is_met or reason else [requirement]
    if missing:
        sys.exit(f"not met: {'; '.join(missing)}")


if __name__ == "__main__":
    main()
