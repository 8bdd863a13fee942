# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How hypothesis makes inputs for a target: its seeds with a few changes, or any bytes."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.tests.fuzz.target import TOKENS, Target
from hypothesis import strategies as st

_ANY = st.binary(max_size=24)
_EDIT_BYTES = 4


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    seeds = [seed for seed in target.seeds if seed]
    # Two draws for an input, because thousands are made.
    return st.builds(edited, st.sampled_from([b"", *seeds]), _ANY) if seeds else _ANY


def edited(seed: bytes, edits: bytes) -> bytes:
    """A seed with up to three changes: two bytes name the place, one what is taken out there, one what is put in."""
    if not seed:
        return edits
    for at in range(0, min(len(edits), 3 * _EDIT_BYTES) - _EDIT_BYTES + 1, _EDIT_BYTES):
        place = int.from_bytes(edits[at : at + 2], "little") % (len(seed) + 1)
        taken_out, put_in = edits[at + 2], edits[at + 3]
        # Half of what is put in are single bytes.
        piece = TOKENS[put_in // 2 % len(TOKENS)] if put_in % 2 else edits[at + 2 : at + 3]
        seed = seed[:place] + piece + seed[place + taken_out % 9 :]
    return seed
