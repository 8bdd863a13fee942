# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory programs get of a graphics card, by its name: for plans of hosts that are only thought of."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import GIB, MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import MAX_DEVICES

# Of a card that nobody was seen to run programs on: more than the driver keeps of any card below.
MOST_RESERVED_MIB = 800
# No card has more, or a model fits in less.
MOST_GIB, LEAST_GIB = 1024, 1
MOST_CHARACTERS = 1000
_MOST_NEAR = 3


class Card(NamedTuple):
    """A card. Sizes in MiB.

    `total_mib`: what its driver tells (nvidia-smi's memory.total; amdgpu's mem_info_vram_total). `seen_mib`: the least that
    CUDA or ROCm told programs on Linux to be there in all, which is less by what the driver keeps; 0 where none was seen.
    `target`: its compute capability, or AMD's name of its target.
    """

    name: str
    total_mib: int
    seen_mib: int
    target: str

    @property
    def vendor(self) -> str:
        return "amd" if self.target.startswith("gfx") else "nvidia"

    @property
    def usable_mib(self) -> int:
        """What programs get of it."""
        return self.seen_mib or self.total_mib - MOST_RESERVED_MIB

    @property
    def usable_bytes(self) -> int:
        return self.usable_mib * MIB

    def as_device(self) -> dict[str, Any]:
        """Its description, as plans take GPUs."""
        target = {"amd": "gfx_target", "nvidia": "compute_capability"}[self.vendor]
        return {
            "name": self.name,
            "vendor": self.vendor,
            "memory_total_bytes": self.total_mib * MIB,
            "memory_reserved_bytes": (self.total_mib - self.usable_mib) * MIB,
            "memory_free_bytes": self.usable_bytes,
            **({target: self.target} if self.target else {}),
        }


# Source: what people have published of their machines. `total_mib`: rows of `nvidia-smi --query-gpu=name,memory.total`, such
# as "NVIDIA A10G, 23028 MiB". `seen_mib`: the device line of Ultralytics and others, which prints torch's total_memory, such
# as "CUDA:0 (NVIDIA GeForce RTX 3090, 24124MiB)"; a search of GitHub's code for name and number finds each. Lines of Windows
# (total and seen are the same) and of cards with error correction switched on are left out. Targets: NVIDIA's list of
# compute capabilities; AMD's of ROCm's system requirements.
CARDS = (
    Card("NVIDIA GeForce RTX 5090", 32607, 32102, "12.0"),
    Card("NVIDIA GeForce RTX 5080", 16303, 15840, "12.0"),
    Card("NVIDIA GeForce RTX 5070 Ti", 16303, 0, "12.0"),
    Card("NVIDIA GeForce RTX 5070", 12227, 0, "12.0"),
    Card("NVIDIA GeForce RTX 5060 Ti 16GB", 16311, 15848, "12.0"),
    Card("NVIDIA GeForce RTX 5060", 8151, 0, "12.0"),
    Card("NVIDIA GeForce RTX 4090", 24564, 24080, "8.9"),
    Card("NVIDIA GeForce RTX 4080 SUPER", 16376, 15944, "8.9"),
    Card("NVIDIA GeForce RTX 4080", 16376, 0, "8.9"),
    Card("NVIDIA GeForce RTX 4070 Ti SUPER", 16376, 16069, "8.9"),
    Card("NVIDIA GeForce RTX 4070 Ti", 12282, 12007, "8.9"),
    Card("NVIDIA GeForce RTX 4070 SUPER", 12282, 0, "8.9"),
    Card("NVIDIA GeForce RTX 4070", 12282, 11994, "8.9"),
    Card("NVIDIA GeForce RTX 4060 Ti 16GB", 16380, 0, "8.9"),
    Card("NVIDIA GeForce RTX 4060 Ti 8GB", 8188, 7806, "8.9"),
    Card("NVIDIA GeForce RTX 4060", 8188, 7807, "8.9"),
    Card("NVIDIA GeForce RTX 3090 Ti", 24564, 24110, "8.6"),
    Card("NVIDIA GeForce RTX 3090", 24576, 24124, "8.6"),
    Card("NVIDIA GeForce RTX 3080 Ti", 12288, 11910, "8.6"),
    Card("NVIDIA GeForce RTX 3080 12GB", 12288, 12117, "8.6"),
    Card("NVIDIA GeForce RTX 3080 10GB", 10240, 10002, "8.6"),
    Card("NVIDIA GeForce RTX 3070 Ti", 8192, 0, "8.6"),
    Card("NVIDIA GeForce RTX 3070", 8192, 7753, "8.6"),
    Card("NVIDIA GeForce RTX 3060 Ti", 8192, 7833, "8.6"),
    Card("NVIDIA GeForce RTX 3060", 12288, 11910, "8.6"),
    Card("NVIDIA TITAN RTX", 24576, 24212, "7.5"),
    Card("NVIDIA GeForce RTX 2080 Ti", 11264, 10825, "7.5"),
    Card("NVIDIA GeForce RTX 2080 SUPER", 8192, 0, "7.5"),
    Card("NVIDIA GeForce RTX 2070 SUPER", 8192, 7972, "7.5"),
    Card("NVIDIA GeForce RTX 2060", 6144, 5918, "7.5"),
    Card("NVIDIA TITAN V", 12288, 12064, "7.0"),
    Card("NVIDIA GeForce GTX 1080 Ti", 11264, 11172, "6.1"),
    Card("NVIDIA GeForce GTX 1080", 8192, 0, "6.1"),
    Card("NVIDIA GeForce GTX 1070", 8192, 0, "6.1"),
    Card("NVIDIA B200", 183359, 0, "10.0"),
    Card("NVIDIA GH200 480GB", 97871, 0, "9.0"),
    Card("NVIDIA H200", 143771, 143156, "9.0"),
    Card("NVIDIA H100 NVL", 95830, 0, "9.0"),
    Card("NVIDIA H100 80GB HBM3", 81559, 0, "9.0"),
    Card("NVIDIA H100 PCIe", 81559, 0, "9.0"),
    Card("NVIDIA A100-SXM4-80GB", 81920, 81222, "8.0"),
    Card("NVIDIA A100 80GB PCIe", 81920, 0, "8.0"),
    Card("NVIDIA A100-SXM4-40GB", 40960, 40441, "8.0"),
    Card("NVIDIA A100-PCIE-40GB", 40960, 40377, "8.0"),
    Card("NVIDIA L40S", 46068, 45495, "8.9"),
    Card("NVIDIA L40", 46068, 0, "8.9"),
    Card("NVIDIA L4", 23034, 22563, "8.9"),
    Card("NVIDIA A40", 46068, 0, "8.6"),
    Card("NVIDIA A30", 24576, 24164, "8.0"),
    Card("NVIDIA A10", 23028, 0, "8.6"),
    Card("NVIDIA A10G", 23028, 0, "8.6"),
    Card("Tesla T4", 15360, 14912, "7.5"),
    Card("Tesla V100-SXM2-32GB", 32768, 32494, "7.0"),
    Card("Tesla V100-SXM2-16GB", 16384, 16130, "7.0"),
    Card("Tesla P100-PCIE-16GB", 16384, 16269, "6.0"),
    Card("Tesla P40", 24576, 0, "6.1"),
    # Its total as CUDA tells it: ollama/ollama issue 18201.
    Card("NVIDIA RTX PRO 6000 Blackwell", 97887, 97249, "12.0"),
    Card("NVIDIA RTX PRO 5000 Blackwell", 48935, 0, "12.0"),
    Card("NVIDIA RTX PRO 4500 Blackwell", 32623, 0, "12.0"),
    Card("NVIDIA RTX PRO 4000 Blackwell", 24467, 0, "12.0"),
    Card("NVIDIA RTX 6000 Ada Generation", 49140, 48520, "8.9"),
    Card("NVIDIA RTX 5000 Ada Generation", 32760, 0, "8.9"),
    Card("NVIDIA RTX 4500 Ada Generation", 24570, 0, "8.9"),
    Card("NVIDIA RTX 4000 Ada Generation", 20475, 0, "8.9"),
    Card("NVIDIA RTX 2000 Ada Generation", 16380, 0, "8.9"),
    Card("NVIDIA RTX A6000", 49140, 0, "8.6"),
    Card("NVIDIA RTX A5000", 24564, 24248, "8.6"),
    Card("NVIDIA RTX A4500", 20470, 0, "8.6"),
    Card("NVIDIA RTX A4000", 16376, 16117, "8.6"),
    Card("NVIDIA RTX A2000 12GB", 12282, 12017, "8.6"),
    Card("Quadro RTX 8000", 49152, 48380, "7.5"),
    Card("Quadro RTX 6000", 24576, 0, "7.5"),
    # ollama/ollama issue 3158 and ROCm's own names: total and what ROCm tells are the same.
    Card("AMD Radeon RX 7900 XTX", 24560, 24560, "gfx1100"),
    Card("AMD Instinct MI300X", 196592, 196592, "gfx942"),
    Card("AMD Radeon RX 9070 XT", 16304, 16304, "gfx1201"),
    Card("AMD Radeon RX 7800 XT", 16368, 16177, "gfx1101"),
)

# Words that people leave out, or put in.
_NOT_TOLD = {
    "nvidia",
    "geforce",
    "amd",
    "radeon",
    "instinct",
    "tesla",
    "quadro",
    "generation",
    "edition",
    "workstation",
    "gpu",
}
_ITEM = re.compile(r"(?:(?P<before>[0-9]+)\s*[x*\u00d7]\s*)?(?P<name>.+?)(?:\s+[x*\u00d7]\s*(?P<after>[0-9]+))?")
_SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>gib|gb|g|mib|mb)")


def cards_of(text: Any) -> tuple[Card, ...]:
    """The cards that a text such as `2x RTX 3090` or `RTX 3090, 24GB` names.

    Raises: ValueError in one sentence with near names, where one is not known or may be several.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(
            "say which GPUs: gpu='2x RTX 3090', several kinds with a comma between them, or a size such as '24GB'"
        )
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"gpu has {len(text)} characters, at most {MOST_CHARACTERS} are read")
    cards: list[Card] = []
    for item in re.split(r"[,;+]", text):
        match = _ITEM.fullmatch(item.strip())
        if match is None:
            raise ValueError(
                f"gpu is {text!r}, of which a part between commas names no GPU; write it as '2x RTX 3090, L4'"
            )
        count = int(match["before"] or match["after"] or 1)
        if not 1 <= count <= MAX_DEVICES - len(cards):
            raise ValueError(
                f"gpu is {text!r}: a host has 1 to {MAX_DEVICES} GPUs, of which all are named here"
            )
        cards += [card_of(match["name"])] * count
    return tuple(cards)


def card_of(name: str) -> Card:
    """The card that a name means, as people write it; a size alone is a card of that size.

    Of several of one size and target, such as the forms of A100 with 80 GB, it is the one that leaves programs the least.

    Raises: ValueError as `cards_of`.
    """
    size = _SIZE.fullmatch(name.strip().lower())
    if size:
        return _of_size(" ".join(name.split()), float(size["number"]), size["unit"])
    given = _words(name)
    fitting = [card for card in CARDS if given and given <= _words(card.name) | {_size_word(card)}]
    fewest = min((len(_words(card.name) - given) for card in fitting), default=0)
    closest = [card for card in fitting if len(_words(card.name) - given) == fewest]
    if len({(card.total_mib, card.target) for card in closest}) == 1:
        return min(closest, key=lambda card: card.usable_mib)
    if closest:
        raise ValueError(f"{name!r} may be {_listed([card.name for card in fitting])}; say which")
    raise ValueError(
        f"no GPU is known as {name!r}{_near(name)}; of others give the size, such as '24GB', or describe the host "
        "(docs/planning_before_buying.md)"
    )


def _of_size(name: str, number: float, unit: str) -> Card:
    mib = int(number if unit in ("mib", "mb") else number * (GIB // MIB))
    if not LEAST_GIB <= mib * MIB / GIB <= MOST_GIB:
        raise ValueError(
            f"a GPU of {name} is none that could be planned with: give a size from {LEAST_GIB} to {MOST_GIB} GiB"
        )
    return Card(f"a GPU of {name}", mib, 0, "")


def _words(name: str) -> frozenset[str]:
    text = re.sub(r"([0-9])\s+(gi?b)\b", r"\1\2", name.lower()).replace("gib", "gb")
    text = re.sub(r"\b([gr]tx|rx)([0-9])", r"\1 \2", text)
    return frozenset(re.findall(r"[a-z0-9]+", text)) - _NOT_TOLD


def _size_word(card: Card) -> str:
    """The size on the box."""
    return f"{-(-card.total_mib // (GIB // MIB))}gb"


_TOLD = {
    " ".join(word for word in card.name.lower().split() if word not in _NOT_TOLD): card.name for card in CARDS
}


def _near(name: str) -> str:
    text = " ".join(sorted(_words(name), key=name.lower().find))
    near = difflib.get_close_matches(text, _TOLD, n=_MOST_NEAR, cutoff=0.6)
    return f", near it are {_listed([_TOLD[one] for one in near])}" if near else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
