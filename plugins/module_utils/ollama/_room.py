# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a disk has room for the models that are to come, and which of the others would have to go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import gib_or_mib
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._manifest import Layer
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import name_key

_MAX_NAMED = 8


def freed_bytes(names: Collection[str], layers: Mapping[str, Sequence[Layer]], kept: Collection[str] = ()) -> int:
    """What removing these models gives back: the files that no other one has, nor `kept`, digests of what is to come."""
    going = set(names)
    needed = {layer.digest for name, own in layers.items() if name not in going for layer in own} | set(kept)
    own = {layer.digest: layer.size_bytes for name in going for layer in layers.get(name, ())}
    return sum(size for digest, size in own.items() if digest not in needed)


def would_have_to_go(
    lack_bytes: int, layers: Mapping[str, Sequence[Layer]], stay: Collection[str], kept: Collection[str] = ()
) -> list[str]:
    """The fewest models, and of those the smallest, whose removal gives so much back; none where all of them do not.

    layers: of each installed model. stay: the names of those that are wanted or in use. kept: as in `freed_bytes`.
    """
    staying = set(map(name_key, stay))
    others = [name for name in layers if name_key(name) not in staying]
    sizes = {name: {layer.digest: layer.size_bytes for layer in own} for name, own in layers.items()}
    # Counted once, since the service's user may fill a store with models of many files.
    owners = Counter(digest for files in sizes.values() for digest in files)
    needed = set(kept)

    def freed(name: str) -> int:
        return sum(size for digest, size in sizes[name].items() if owners[digest] == 1 and digest not in needed)

    one = sorted((freed(name), name) for name in others)
    enough = [name for freed_alone, name in one if freed_alone >= lack_bytes]
    if enough:
        return enough[:1]
    chosen: list[str] = []
    freed_so_far = 0
    for _freed_alone, name in reversed(one):
        chosen.append(name)
        freed_so_far += freed(name)
        owners.subtract(sizes[name].keys())
        if freed_so_far >= lack_bytes:
            return chosen
    return []


def no_room(
    where: str,
    needed_bytes: int,
    free_bytes: int,
    keep_free_bytes: int,
    layers: Mapping[str, Sequence[Layer]],
    stay: Collection[str],
    kept: Collection[str] = (),
) -> str:
    """One sentence where the disk of `where` is too small for what is to come, with what would have to go; else empty."""
    lack_bytes = needed_bytes + keep_free_bytes - free_bytes
    if needed_bytes <= 0 or lack_bytes <= 0:
        return ""
    staying = f" and {gib_or_mib(keep_free_bytes)} are to stay free" if keep_free_bytes else ""
    found = would_have_to_go(lack_bytes, layers, stay, kept)
    if found:
        named = ", ".join(found[:_MAX_NAMED]) + (f" and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else "")
        advice = (
            f"of the models that are neither wanted nor loaded, {named} would have to go "
            f"({gib_or_mib(freed_bytes(found, layers, kept))}; state: absent removes)"
        )
    else:
        advice = "removing every model that is neither wanted nor loaded would not make enough room: take a larger disk"
    return (
        f"the disk of {where} has no room: {gib_or_mib(needed_bytes)} are to come{staying}, {gib_or_mib(free_bytes)} are "
        f"free, which is {gib_or_mib(lack_bytes)} too little; {advice}"
    )
