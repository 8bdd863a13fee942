# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prompts that are the same in every run and share no beginning with each other."""

from __future__ import annotations

import random

# Short words that common tokenizers hold as one token each, so that words are nearly tokens.
_WORDS = (
    "river stone garden window market winter summer village mountain forest silver letter engine bridge "
    "harbor candle morning evening captain teacher music paper number island thunder yellow purple orange "
    "bottle kitchen ladder mirror pocket rabbit saddle tunnel valley wagon"
)
# A story is continued with other words; a list of random ones is often answered with one word for ever, and Ollama
# ends such an answer after 30 equal tokens.
_SENTENCES = (
    "In the {} behind the {} somebody found a {} that morning.",
    "The {} told nobody about the {} and walked to the {}.",
    "Later a {} stood beside the old {} under the {}.",
    "Nobody knew why the {} had left its {} near the {}.",
)
_NAMES_IN_A_SENTENCE = 3


def prompt(words: int, seed: int, *place: int) -> str:
    """A story of that many words for the request at this place (such as level, worker, turn).

    Its first word is of this request alone: an engine that keeps the cache of earlier prompts finds nothing of
    it there.
    """
    key = "-".join(str(number) for number in (seed, *place))
    vocabulary = _WORDS.split()
    chosen = random.Random(key)  # noqa: S311
    text = [f"{key}:"]
    while len(text) < max(words, 2):
        sentence = chosen.choice(_SENTENCES)
        text += sentence.format(*(chosen.choice(vocabulary) for _name in range(_NAMES_IN_A_SENTENCE))).split()
    return " ".join(text[: max(words, 2)])
