# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tag may be released with which notes, and which commit message is taken."""

from __future__ import annotations

import importlib.util

import pytest
from ansible_collections.gpufleet.ollama.tests.unit.data import TESTS

CHANGELOG = """# gpufleet\\.ollama Release Notes

## v1\\.1\\.0

New\\.

## v1\\.0\\.0

### Release summary

First\\.
"""


def gate(name):
    spec = importlib.util.spec_from_file_location(f"gate_{name}", TESTS / "gates" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release, subject = gate("release"), gate("subject")


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "changelogs" / "fragments").mkdir(parents=True)
    (tmp_path / "galaxy.yml").write_text("version: 1.1.0\n")
    (tmp_path / "changelogs" / "changelog.yaml").write_text("releases: {1.0.0: {}, 1.1.0: {}}\n")
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


class TestRelease:
    def test_a_version_that_is_told_everywhere_may_go(self, checkout):
        assert release.complaints("1.1.0", checkout) == []
        assert release.notes("1.1.0", checkout) == "New\\."
        assert release.notes("1.0.0", checkout) == "### Release summary\n\nFirst\\."

    @pytest.mark.parametrize(
        ("tag", "path", "text", "told"),
        [
            ("1.0.0", None, "", "the tag is 1.0.0, and galaxy.yml has version 1.1.0"),
            ("1.1.0", "changelogs/changelog.yaml", "releases: {}", "the changelog has no release 1.1.0"),
            ("1.1.0", "changelogs/fragments/a.yml", "bugfixes: [a]", "fragments are not told yet: a.yml"),
            ("1.1.0", "CHANGELOG.md", "# Notes", "CHANGELOG.md has no section for 1.1.0"),
            ("1x1x0", None, "", "CHANGELOG.md has no section for 1x1x0"),
        ],
    )
    def test_what_keeps_a_tag_from_being_released(self, checkout, tag, path, text, told):
        if path:
            (checkout / path).write_text(text)
        assert any(sentence.startswith(told) for sentence in release.complaints(tag, checkout))


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("x" * 72, ""),
        ("An effect\n\nand why\n", ""),
        ("An effect\n# what git says\n", ""),
        ("x" * 73, "the subject has 73 characters"),
        ("An effect\nand more", "the second line is to be empty"),
        ("", "the subject is empty"),
        ("# only git", "the subject is empty"),
    ],
)
def test_commit_messages(message, told):
    assert subject.complaint(message).startswith(told)
    assert bool(subject.complaint(message)) is bool(told)
