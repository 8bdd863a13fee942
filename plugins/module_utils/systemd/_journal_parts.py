# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one run of a unit has written to the journal, however long that is: its beginning, its end, and marked places between."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._programs import program

# journalctl needs nearly a second for the newest 16 MiB of short lines. So time decides how much of them is read, after
# what is read in any case, and the index says where more is worth reading.
NEWEST_BYTES = 16 << 20
LEAST_BYTES = 1 << 20
FIRST_BYTES = 256 << 10
PLACE_BYTES = 256 << 10
NEWEST_SECONDS = 0.12
ALL_SECONDS = 0.25
MOST_PLACES = 16
LEAST_PLACES = 2
# What is read in any case is waited for longer, on a host whose disks are slow.
_PATIENCE_SECONDS = 5.0
# Between the mark and what the server says of it.
_BEHIND_A_MARK_S = 2.0
_PIECE_BYTES = 1 << 16
# Of a line that comes again and again so many are held against the newest.
_MOST_OVERLAPS = 64
_INVOCATION = re.compile("[0-9a-f]{32}")
_MOMENT = re.compile(r"[0-9]{1,12}\.[0-9]{1,9} ")


@dataclass(frozen=True)
class JournalParts:
    """Parts of what a run wrote, the oldest first, each without gaps; `is_whole`: there is nothing between them."""

    parts: tuple[tuple[str, ...], ...] = ()
    is_whole: bool = True

    @property
    def is_empty(self) -> bool:
        return not any(self.parts)


def parts_of_invocation(
    invocation_id: str,
    marks: Sequence[str] = (),
    place_begins: str = "",
    *,
    newest_bytes: int = NEWEST_BYTES,
    newest_seconds: float = NEWEST_SECONDS,
    files: Sequence[str] = (),
) -> JournalParts:
    """The newest messages of a run, and where they are too many its first, and those before each mark.

    `marks`: whole messages, which the journal finds by its index. `place_begins`: what the oldest message holds that is
    read before a mark. `files`: journal files in place of the host's.

    Source: journalctl(1); systemd.journal-fields(7); https://systemd.io/JOURNAL_FILE_FORMAT (data objects are hashed).
    """
    if not _INVOCATION.fullmatch(invocation_id):
        return JournalParts()
    match = f"_SYSTEMD_INVOCATION_ID={invocation_id}"
    deadline = time.monotonic() + ALL_SECONDS
    try:
        reader = _Journal(files)
        with reader.started("--output=cat", "--reverse", match) as newest:
            text, is_whole = _read(
                newest, newest_bytes, newest_seconds, least_bytes=min(LEAST_BYTES, newest_bytes)
            )
        latest = tuple(reversed(_lines(text, is_whole)))
        if is_whole:
            return JournalParts((latest,))
        with reader.started("--output=cat", match) as first:
            text, _ended = _read(first, FIRST_BYTES, _PATIENCE_SECONDS)
        begin = _before(_lines(text, False), latest)
        places = _places(reader, match, marks, place_begins, begin, latest, deadline)
    except OSError:
        return JournalParts()
    return JournalParts((begin, *places, latest), is_whole=False)


def _before(begin: Sequence[str], latest: Sequence[str]) -> tuple[str, ...]:
    """The first lines without those that are among the newest too, where both reach into each other."""
    found = [number for number, line in enumerate(begin) if latest and line == latest[0]]
    for number in found[:_MOST_OVERLAPS]:
        if begin[number:] == latest[: len(begin) - number]:
            return tuple(begin[:number])
    return tuple(begin)


def _places(
    reader: _Journal,
    match: str,
    marks: Sequence[str],
    place_begins: str,
    begin: Sequence[str],
    latest: Sequence[str],
    deadline: float,
) -> list[tuple[str, ...]]:
    """What was written before each mark that is neither in `begin` nor in `latest`, the newest first, while time is left."""
    if not marks:
        return []
    first, seen = (sum(line in marks for line in lines) for lines in (begin, latest))
    arguments = ("--output=short-unix", "--reverse", match, *(f"MESSAGE={mark}" for mark in marks))
    with reader.started(*arguments) as found:
        text, _ended = _read(found, _PIECE_BYTES, _PATIENCE_SECONDS)
    moments = [float(line.split(" ")[0]) for line in _lines(text, True) if _MOMENT.match(line)]
    places: list[tuple[str, ...]] = []
    for moment in moments[seen : len(moments) - first][:MOST_PLACES]:
        if len(places) >= LEAST_PLACES and time.monotonic() >= deadline:
            break
        behind = moment + _BEHIND_A_MARK_S
        with reader.started("--output=cat", "--reverse", f"--until=@{behind:.6f}", match) as before:
            text, _ended = _read(before, PLACE_BYTES, _PATIENCE_SECONDS, until=place_begins)
        later = sum(moment < one <= behind for one in moments)
        places.append(_place(_lines(text, False)[::-1], marks, place_begins, later))
    return places[::-1]


def _place(lines: Sequence[str], marks: Sequence[str], place_begins: str, later: int) -> tuple[str, ...]:
    """Of lines the place of one mark: from where it begins to where the next begins; `later` marks come behind it."""
    begins = [number for number, line in enumerate(lines) if place_begins in line]
    found = [
        lines[begin:end]
        for begin, end in zip(begins, [*begins[1:], len(lines)])
        if any(line in marks for line in lines[begin:end])
    ]
    return tuple(found[-1 - later]) if later < len(found) else ()


class _Journal:
    """Starts journalctl on the host's journal, or on given files."""

    def __init__(self, files: Sequence[str]) -> None:
        self._command = [
            program("journalctl"),
            "--quiet",
            "--no-pager",
            *(f"--file={path}" for path in files),
        ]

    def started(self, *arguments: str) -> _Reader:
        return _Reader([*self._command, *arguments])


class _Reader:
    """A journalctl that is ended when no more is read of it."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def __enter__(self) -> int:
        return self._process.stdout.fileno() if self._process.stdout else -1

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        if self._process.stdout:
            self._process.stdout.close()
        self._process.wait()


def _read(
    descriptor: int, limit_bytes: int, seconds: float, *, least_bytes: int = 0, until: str = ""
) -> tuple[bytes, bool]:
    """What comes until there is enough, time is up or the text `until` has come; and whether there is no more.

    At least `least_bytes` are waited for longer.
    """
    began = time.monotonic()
    pieces: list[bytes] = []
    taken, wanted = 0, until.encode()
    while taken < limit_bytes:
        limit = _PATIENCE_SECONDS if taken < least_bytes else seconds
        left = max(began + limit - time.monotonic(), 0)
        if not select.select([descriptor], [], [], left)[0]:
            break
        piece = os.read(descriptor, min(_PIECE_BYTES, limit_bytes - taken))
        if not piece:
            return b"".join(pieces), True
        pieces.append(piece)
        taken += len(piece)
        if (wanted and wanted in piece) or (taken >= least_bytes and time.monotonic() >= began + limit):
            break
    return b"".join(pieces), False


def _lines(text: bytes, is_whole: bool) -> tuple[str, ...]:
    """The lines; of a text that was cut without the last."""
    lines = text.decode("utf-8", "replace").split("\n")
    return tuple(lines[:-1] if not is_whole or not lines[-1] else lines)
