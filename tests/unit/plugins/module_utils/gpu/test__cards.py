# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cards by the names that people write, what programs get of each, and names that are refused."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._cards import (
    CARDS,
    MOST_CHARACTERS,
    MOST_RESERVED_MIB,
    Card,
    card_of,
    cards_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import MAX_DEVICES
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT
from hypothesis import given
from hypothesis import strategies as st

MIB = 1 << 20
GEFORCE, RTX = "NVIDIA GeForce ", "NVIDIA RTX "


def refused(text):
    with pytest.raises(ValueError, match=r"\S") as raised:
        cards_of(text)
    (line,) = str(raised.value).splitlines()
    return line


class TestTheTable:
    def test_each_name_is_known_once_and_pages_count_them_right(self):
        for page in ("docs/planning_before_buying.md", "plugins/modules/what_if.py"):
            assert f"The memory of {len(CARDS)} cards is known by name" in (CHECKOUT / page).read_text()
        assert len({card.name for card in CARDS}) == len(CARDS)

    @pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
    def test_what_programs_get_is_less_than_the_driver_tells_by_what_it_keeps(self, card):
        assert 0 <= card.total_mib - card.usable_mib <= MOST_RESERVED_MIB
        assert card.total_mib < 200 * 1024
        if card.vendor == "nvidia":
            assert card.usable_mib < card.total_mib
            major, minor = card.target.split(".")
            assert (5, 0) <= (int(major), int(minor)) <= (12, 1)

    @pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
    def test_a_card_is_found_by_its_full_name(self, card):
        assert card_of(card.name) == card

    def test_more_is_kept_of_a_card_that_nobody_has_seen_than_of_any_other(self):
        assert MOST_RESERVED_MIB == 800
        assert max(card.total_mib - card.seen_mib for card in CARDS if card.seen_mib) < MOST_RESERVED_MIB

    @pytest.mark.parametrize(
        ("name", "least_gib", "most_gib"),
        [("RTX 3090", 23.4, 23.7), ("RTX 4090", 23.4, 23.7), ("L40S", 44.3, 44.5), ("H200", 139.5, 140.4)],
    )
    def test_what_ollama_logs_of_a_card(self, name, least_gib, most_gib):
        assert least_gib <= card_of(name).usable_mib / 1024 <= most_gib


class TestNames:
    @pytest.mark.parametrize(
        ("text", "names"),
        [
            ("2x RTX 3090", [GEFORCE + "RTX 3090"] * 2),
            ("2xRTX 3090", [GEFORCE + "RTX 3090"] * 2),
            ("2 \u00d7 rtx3090", [GEFORCE + "RTX 3090"] * 2),
            ("RTX 3090 x2", [GEFORCE + "RTX 3090"] * 2),
            ("3090", [GEFORCE + "RTX 3090"]),
            ("RTX 3090 24 GB", [GEFORCE + "RTX 3090"]),
            ("GeForce RTX 3060 Ti", [GEFORCE + "RTX 3060 Ti"]),
            ("RTX 3060", [GEFORCE + "RTX 3060"]),
            ("RTX 3060 12GB", [GEFORCE + "RTX 3060"]),
            ("4060 Ti 16 GiB", [GEFORCE + "RTX 4060 Ti 16GB"]),
            ("T4, 2x L4", ["Tesla T4", "NVIDIA L4", "NVIDIA L4"]),
            ("A10 + A10G", ["NVIDIA A10", "NVIDIA A10G"]),
            ("6000 Ada", [RTX + "6000 Ada Generation"]),
            ("rtx pro 6000", [RTX + "PRO 6000 Blackwell"]),
            ("7900 XTX", ["AMD Radeon RX 7900 XTX"]),
            ("8x H100 80GB HBM3", ["NVIDIA H100 80GB HBM3"] * 8),
        ],
    )
    def test_what_people_write(self, text, names):
        assert [card.name for card in cards_of(text)] == names

    @pytest.mark.parametrize(
        ("text", "total_mib"), [("24GB", 24576), ("24 GiB", 24576), ("24g", 24576), ("23028MiB", 23028)]
    )
    def test_a_size_stands_for_a_card_of_which_a_driver_keeps_much(self, text, total_mib):
        (card,) = cards_of(text)
        assert (card.total_mib, card.usable_mib) == (total_mib, total_mib - MOST_RESERVED_MIB)

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("4x A100 80GB", "NVIDIA A100 80GB PCIe"),
            ("A100 40GB", "NVIDIA A100-PCIE-40GB"),
            ("h100 80gb", "NVIDIA H100 80GB HBM3"),
        ],
    )
    def test_of_forms_of_one_size_it_is_the_one_that_leaves_programs_the_least(self, text, name):
        card = cards_of(text)[0]
        assert card.name == name
        alike = [one for one in CARDS if (one.total_mib, one.target) == (card.total_mib, card.target)]
        assert len(alike) > 1
        assert card.usable_mib == min(one.usable_mib for one in alike)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("RTX 3091", "near it are NVIDIA GeForce RTX 3090"),
            ("H200 NVL", "near it are NVIDIA H100 NVL, NVIDIA H200"),
            (
                "A100",
                "may be NVIDIA A100-SXM4-80GB, NVIDIA A100 80GB PCIe, NVIDIA A100-SXM4-40GB, NVIDIA A100-PCIE-40GB",
            ),
            ("H100", "may be NVIDIA H100 NVL, NVIDIA H100 80GB HBM3, NVIDIA H100 PCIe; say which"),
            ("Voodoo 2", "no GPU is known as 'Voodoo 2'; of others give the size"),
            ("NVIDIA", "no GPU is known as 'NVIDIA'"),
            ("2x", "no GPU is known as '2x'"),
            ("L4,,L4", "a part between commas names no GPU"),
            ("0x L4", "a host has 1 to 64 GPUs"),
            ("65x L4", "a host has 1 to 64 GPUs"),
            ("60x L4, 5x T4", "a host has 1 to 64 GPUs"),
            ("9" * 900 + "x L4", "a host has 1 to 64 GPUs"),
            ("0.5GB", "none that could be planned with"),
            ("2000GB", "none that could be planned with"),
            ("x" * (MOST_CHARACTERS + 1), f"at most {MOST_CHARACTERS} are read"),
            ("  ", "say which GPUs: gpu='2x RTX 3090'"),
            (None, "say which GPUs"),
            (24, "say which GPUs"),
        ],
    )
    def test_what_names_no_card_is_refused_in_one_sentence(self, text, told):
        assert told in refused(text)

    @given(st.lists(st.tuples(st.integers(1, MAX_DEVICES), st.sampled_from(CARDS)), min_size=1, max_size=6))
    def test_cards_come_as_many_and_in_the_order_as_they_are_named(self, parts):
        named = [card for count, card in parts for _each in range(count)]
        text = ", ".join(f"{count}x {card.name}" for count, card in parts)
        if len(named) <= MAX_DEVICES:
            assert cards_of(text) == tuple(named)
        else:
            assert "a host has 1 to 64 GPUs" in refused(text)

    # Such as a character that ends a line on a terminal, though no newline.
    @given(st.text(max_size=30).filter(lambda text: "," not in text))
    def test_text_beside_what_no_card_is_called_is_refused_in_one_sentence(self, text):
        assert refused(f"{text} voodoo {text}").isprintable()


class TestDescriptions:
    def test_of_nvidia_what_the_driver_keeps_is_told_apart(self):
        assert Card("a card", 1000, 900, "8.6").as_device() == {
            "name": "a card",
            "vendor": "nvidia",
            "memory_total_bytes": 1000 * MIB,
            "memory_reserved_bytes": 100 * MIB,
            "memory_free_bytes": 900 * MIB,
            "compute_capability": "8.6",
        }

    def test_of_amd_the_target_is_told(self):
        device = card_of("MI300X").as_device()
        assert (device["vendor"], device["gfx_target"]) == ("amd", "gfx942")

    def test_of_a_size_no_target_is_known(self):
        assert not {"compute_capability", "gfx_target"} & set(card_of("24GB").as_device())
