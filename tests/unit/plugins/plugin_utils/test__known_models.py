# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models by name and by file, and that what is shipped is what the headers say."""

from __future__ import annotations

import json

import pytest
import shipped as maker
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import name_key
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import read_models
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._known_models import (
    LATEST,
    MOST_FILE_BYTES,
    MOST_NAMED,
    SHIPPED,
    models_named,
    shipped,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT, HEADERS, header
from gguf_writer import write_gguf


def refused(given):
    with pytest.raises(ValueError, match=r"\S") as raised:
        models_named(given)
    (line,) = str(raised.value).splitlines()
    return line


class TestWhatIsShipped:
    def test_it_is_what_the_headers_say_today(self):
        assert SHIPPED.read_text(encoding="utf-8") == maker.text(), "run python tests/model_store/shipped.py"

    def test_pages_count_them_right(self):
        for page in ("docs/planning_before_buying.md", "plugins/modules/what_if.py"):
            assert f"{len(shipped())} models are known by name" in (CHECKOUT / page).read_text()

    def test_it_is_small(self):
        assert SHIPPED.stat().st_size < 200_000

    @pytest.mark.parametrize("name", sorted(shipped()))
    def test_each_can_be_planned_and_has_its_source(self, name):
        row = shipped()[name]
        (model,) = read_models(models_named(name).descriptions)
        assert name_key(model.name) == name_key(name)
        assert row["source"]

    @pytest.mark.parametrize("name", ["qwen2.5-coder:7b", "qwen2.5-coder:14b", "qwen2.5-coder:32b"])
    def test_numbers_come_near_the_header_of_the_same_shape(self, name):
        by_numbers, by_header = read_models(models_named([name, name.replace("-coder", "")]).descriptions)
        assert abs(by_numbers.file_bytes / by_header.file_bytes - 1) < 0.03

    def test_gemma3_has_the_image_encoder_that_its_published_file_has(self):
        assert shipped()["gemma3:4b"]["shape"]["inline_projector_bytes"] > 800_000_000


class TestNames:
    @pytest.mark.parametrize(
        "given",
        [
            "qwen2.5:14b,gemma3:4b",
            ["qwen2.5:14b", "gemma3:4b"],
            " qwen2.5:14b , library/gemma3:4b",
            "QWEN2.5:14B,gemma3:4b",
        ],
    )
    def test_as_people_write_them(self, given):
        assert [model["name"] for model in models_named(given).descriptions] == ["qwen2.5:14b", "gemma3:4b"]

    def test_a_name_without_a_tag_is_its_latest(self):
        assert models_named("nomic-embed-text").descriptions[0]["architecture"] == "nomic-bert"

    @pytest.mark.parametrize("given", ["gemma3", "Gemma3", "gemma3:latest", "library/gemma3", " gemma3 "])
    def test_a_family_is_the_size_that_the_library_gives_for_it_and_it_is_said(self, given):
        found = models_named(given)
        assert [model["name"] for model in found.descriptions] == ["gemma3:4b"]
        assert found.notes == (
            f"{given.strip()} is taken for gemma3:4b, which Ollama's library gives for it; another size has to be named",
        )

    @pytest.mark.parametrize(("family", "size"), LATEST.items())
    def test_every_size_that_stands_for_its_family_is_shipped(self, family, size):
        assert models_named(family).descriptions[0]["name"] == f"{family}:{size}"

    def test_what_the_library_gives_for_a_family(self):
        assert {name: LATEST[name] for name in ("llama3.2", "mixtral", "qwen3", "gemma4")} == {
            "llama3.2": "3b",
            "mixtral": "8x7b",
            "qwen3": "8b",
            "gemma4": "e4b",
        }

    def test_two_names_of_one_model_are_named_twice(self):
        assert "is named twice" in refused("gemma3,gemma3:4b")

    def test_what_is_not_in_the_numbers_is_said(self):
        assert models_named("gemma4:12b,gemma3:4b").notes == (
            "gemma4:12b: without its image encoder, which the published file holds too",
        )

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            (
                "qwen2.5:15b",
                "no model is known as 'qwen2.5:15b', of qwen2.5 there are qwen2.5:14b, qwen2.5:32b, qwen2.5:7b, qwen2.5:3b, "
                "qwen2.5:72b; of others give a file",
            ),
            ("granite4", "no model is known as 'granite4', of granite4 there are granite4:micro-h, granite4:tiny-h; of others"),
            ("qwen25:14b", "near it are qwen2.5:14b"),
            ("zzz", "no model is known as 'zzz'; of others give a file"),
            ("qwen2.5:14b,,gemma3:4b", "nothing between two commas"),
            ("gemma3:4b,GEMMA3:4b", "is named twice"),
            ("", "say which models"),
            (None, "say which models"),
            ({"name": "gemma3:4b"}, "say which models"),
            (["gemma3:4b"] * (MOST_NAMED + 1), f"at most {MOST_NAMED} are read"),
        ],
    )
    def test_what_names_no_model_is_refused_in_one_sentence(self, given, told):
        assert told in refused(given)


class TestFiles:
    def test_a_header(self):
        (model,) = models_named(str(HEADERS / "gemma2_9b.json")).descriptions
        assert (model["name"], model["header"]) == ("gemma2:9b", header("gemma2:9b"))

    def test_what_a_host_told_of_its_models(self, tmp_path):
        told = [shipped()[name]["shape"] for name in ("gemma3:1b", "gemma3:4b")]
        (tmp_path / "models.json").write_text(json.dumps(told))
        assert list(models_named(f"{tmp_path}/models.json").descriptions) == told

    def test_a_gguf_of_which_the_header_is_read(self, tmp_path):
        write_gguf(tmp_path / "mine.gguf", header("gemma3:1b"))
        (model,) = models_named(f"{tmp_path}/mine.gguf").descriptions
        assert model["name"] == "mine:latest"
        assert model["header"]["metadata"]["general.architecture"] == "gemma3"

    @pytest.mark.parametrize(
        ("name", "text", "told"),
        [
            ("no.json", None, "cannot be read: No such file"),
            ("no.gguf", None, "cannot be read: No such file"),
            ("NO.GGUF", None, "cannot be read: No such file"),
            ("bad.json", "{", "cannot be read"),
            ("deep.json", "[" * 100_000, "cannot be read"),
            ("text.gguf", "text", "byte 0: the file has 4 bytes, a GGUF file at least 24"),
            ("empty.json", "[]", "tells of no model"),
            ("other.json", '{"a": 1}', "tells of no model"),
            ("list.json", "[1]", "tells of no model"),
        ],
    )
    def test_what_is_no_model_is_refused_in_one_sentence(self, tmp_path, name, text, told):
        if text is not None:
            (tmp_path / name).write_text(text)
        assert told in refused(f"{tmp_path}/{name}")

    def test_a_file_that_is_too_large_is_not_read(self, tmp_path):
        with (tmp_path / "large.json").open("w") as file:
            file.truncate(MOST_FILE_BYTES + 1)
        assert f"at most {MOST_FILE_BYTES} are read" in refused(f"{tmp_path}/large.json")
