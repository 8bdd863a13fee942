# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One description of what is fuzzed, for atheris (fuzz.py) and for hypothesis (test_targets.py) alike.

An input is always bytes, so that both can make, keep and shrink it. A target makes of it what its parser reads: the bytes
themselves, a few files or replies (`split`), or sound data with some values exchanged (`changed`).
"""

from __future__ import annotations

import contextlib
import copy
import json
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What one input may cost. The slowest honest ones, of the planner, take a tenth.
CPU_SECONDS = 2.0
MEMORY_BYTES = 256 << 20

# Stands between the parts of an input; no text has it, because it is no UTF-8.
SEPARATOR = b"\x00\xff\x00"

# Values that no sound data has in most places.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 255, 2**31, 2**32, 2**50, 2**63, 10**30, 10**400),
    *(0.5, 1e308, float("inf"), float("-inf"), float("nan")),
    *("", "x", "²", "9" * 5000, "\x00", "\ud800", "\x1b[2J", "A" * 100_000, "../../x", "{{ 1 }}", "<script>"),
    *(
        "llama",
        "gemma3",
        "mamba",
        "0.33.0",
        "0.5.0",
        "sha256:" + "a" * 64,
        "FROM /a\x00b",
        "FROM /tmp/\ud800",
    ),
    *([], {}, [None], [[]], ["a"], [1] * 1000, {"a": 1}, {"array_length": -1}, [[[[[[[[[[]]]]]]]]]]),
)
# Pieces that text parsers take to have a meaning.
TOKENS = (
    *(
        b"\x00",
        b"\xff",
        b"\xff" * 8,
        b"\x00" * 8,
        b"\n",
        b"\\\n",
        b'"',
        b"'",
        b"\\",
        b" ",
        b"=",
        b":",
        b"%",
        b"#",
        b"[",
    ),
    *(
        b"]",
        b"{",
        b"}",
        b",",
        b"/",
        b"@",
        b"-",
        b"\r",
        b"\t",
        "²".encode(),
        "\u2028".encode(),
        b"\xed\xa0\x80",
    ),
    *(
        b"9" * 19,
        b"9" * 5000,
        b"1e999",
        b"\x1b[2J",
        b"[Service]\n",
        b"Environment=",
        b"HF_TOKEN=",
        b"://",
        b"\\x41",
    ),
    SEPARATOR,
)


class TooSlow(AssertionError):
    """An input took more CPU time than any may."""


@dataclass(frozen=True)
class Target:
    """One parser, or what belongs together, as it is fuzzed.

    call: feeds it an input, and asserts what must hold of the result. documented: the errors that the parser's docstring
    names. honest: inputs that it must take. crashed: inputs that once ended in another error. share: of how many inputs
    that hypothesis makes for a parser one is tried, where a single one takes long.
    """

    name: str
    call: Callable[[bytes], object]
    documented: tuple[type[Exception], ...] = ()
    honest: tuple[bytes, ...] = (b"",)
    crashed: tuple[bytes, ...] = ()
    share: int = 1

    @property
    def seeds(self) -> tuple[bytes, ...]:
        return self.honest + self.crashed

    def takes(self, data: bytes, cpu_seconds: float = CPU_SECONDS) -> bool:
        """Whether an input is taken; otherwise it is refused as documented.

        Raises: TooSlow, MemoryError, and whatever else is not documented.
        """
        try:
            with _limited(cpu_seconds):
                self.call(data)
        except Exception as error:
            if isinstance(error, self.documented):
                return False
            raise
        return True


def split(data: bytes, count: int) -> list[bytes]:
    """The parts of an input, empty ones where it has fewer."""
    parts = data.split(SEPARATOR, count - 1)
    return parts + [b""] * (count - len(parts))


def text(data: bytes) -> str:
    """As files of a host are read: bytes that are not UTF-8 become surrogate escapes."""
    return data.decode("utf-8", "surrogateescape")


def changed(value: Any, data: bytes) -> Any:
    """A copy of plain data, changed as the input says: two bytes for the place, one each for the value and the way."""
    whole = [copy.deepcopy(value)]
    for at in range(0, min(len(data) - 3, 24), 4):
        places = list(_places(whole))
        inner, key = places[int.from_bytes(data[at : at + 2], "little") % len(places)]
        odd, way = ODD[data[at + 2] % len(ODD)], data[at + 3] % 8
        former = inner[key]
        if way == 0 and inner is not whole:
            del inner[key]
        elif way == 1 and isinstance(inner, list) and inner is not whole:
            inner.extend([copy.deepcopy(former)] * data[at + 2])
        elif way == 2 and isinstance(former, int):
            inner[key] = former << data[at + 2] % 40
        elif way == 3 and isinstance(inner, dict):
            inner[odd if isinstance(odd, str) else "zz"] = copy.deepcopy(former)
        else:
            inner[key] = copy.deepcopy(odd)
    return whole[0]


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


class Folder:
    """A folder for a target's files, until the process ends."""

    def __init__(self) -> None:
        self._made = tempfile.TemporaryDirectory(prefix="gpufleet-fuzz-")
        self._written: dict[str, bytes] = {}
        self.path = Path(self._made.name)

    def write(self, files: Mapping[str, bytes]) -> None:
        """Has these files hold this; most inputs change one of many."""
        for name, content in files.items():
            if self._written.get(name) != content:
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                (self.path / name).write_bytes(content)
                self._written[name] = content


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in plain data, of lists the first four."""
    keys = (
        list(value)
        if isinstance(value, dict)
        else range(min(len(value), 4))
        if isinstance(value, list)
        else ()
    )
    for key in keys:
        yield value, key
        yield from _places(value[key])


@contextlib.contextmanager
def _limited(cpu_seconds: float) -> Iterator[None]:
    def late(_number: int, _frame: Any) -> None:
        raise _Late

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space_bytes() + MEMORY_BYTES, hard))
    try:
        yield
    except _Late:
        raise TooSlow(f"it takes more than {cpu_seconds:g} s of CPU time") from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class _Late(BaseException):
    """So that no parser takes it for one of its own errors."""


def _address_space_bytes() -> int:
    # Source: proc(5), /proc/PID/statm: the first field is the size of the program in pages.
    with open("/proc/self/statm") as file:
        return int(file.read().split(" ", 1)[0]) * resource.getpagesize()
