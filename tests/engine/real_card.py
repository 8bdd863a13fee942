# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a real NVIDIA card what the simulated machine cannot know, with the same probe and the same engine.

python tests/engine/real_card.py pack --capability 9.0 [--engine 3.22.1]     where npm is: what has to be carried
python tests/engine/real_card.py run --into real_card.json                   where the card is: all of it, in 10 minutes

What a CUDA context takes; pools while decoding, with flash attention and without; NVML's figure of the process; free memory
before and after; tokens/s with 1 to 8 requests at once, of two models with random weights. Needs there: this checkout,
Python 3.10 or newer, a driver for CUDA 13, libcudart.so.13 and libcublas.so.13. No compiler, no network.
Nothing of the time of the first run counts, in which the driver may compile PTX; it is told apart.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import json
import lzma
import os
import platform
import random
import re
import select
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _checkout
import fatbin
from gguf_writer import header_bytes, tensor_bytes

CARRIED = _checkout.TESTS.parent / ".build" / "real_card"
MODELS = ("llama3.2:1b", "qwen3:0.6b")
# The CPU's part is small: one backend that every server of the last ten years can run.
CPU_BACKEND = "libggml-cpu-haswell.so"
CUDA_BACKEND = "libggml-cuda.so"
MOST_CARRIED_BYTES = 64 << 20
SECONDS = 540.0
CUDA_VERSION = 13000
LIBRARIES = ("libcudart.so.13", "libcublas.so.13")
PARALLEL = (1, 2, 3, 4, 6, 8)
CONTEXT, PROMPT, STEPS = 4096, 512, 128
# Where toolkits and Python packages put CUDA's libraries.
LIBRARY_FOLDERS = (
    "/usr/local/cuda/lib64",
    "/usr/local/cuda-13*/lib64",
    "/usr/local/cuda*/targets/x86_64-linux/lib",
    "/opt/cuda/lib64",
    "/usr/lib/x86_64-linux-gnu",
    *(f"{folder}/nvidia/*/lib" for folder in sys.path if folder.endswith("-packages")),
)


class Missing(Exception):
    """This machine lacks something; the message names it and what to do."""


# --- Where npm is ---


def pack(version: str, capability: str, into: Path) -> None:
    """Put the engine with code for one card, its probe and its description into a folder, compressed."""
    import package

    engine = package.engine(version)
    into.mkdir(parents=True, exist_ok=True)
    for path in into.iterdir():
        path.unlink()
    architecture = int(capability.replace(".", ""))
    for path in carried_files(engine.folder):
        data = path.read_bytes()
        if path.name == CUDA_BACKEND:
            data = fatbin.stripped(data, architecture)
        write_compressed(into / path.name, data)
    write_compressed(into / "probe", engine.probe.read_bytes())
    about = {"npm_version": engine.version, "engine": engine.release, "compute_capability": capability}
    (into / "about.json").write_text(json.dumps(about, indent=2) + "\n")
    size = sum(path.stat().st_size for path in into.iterdir())
    print(f"{size / 2**20:.1f} MiB in {into}, for compute capability {capability}")
    if size > MOST_CARRIED_BYTES:
        raise Missing(f"that is more than {MOST_CARRIED_BYTES >> 20} MiB, which is what may be carried")


def carried_files(folder: Path) -> Iterator[Path]:
    """The libraries that the probe loads."""
    for pattern in ("libllama.*.so", "libggml.*.so", "libggml-base.so", CPU_BACKEND, CUDA_BACKEND):
        yield from sorted(folder.glob(pattern))


def write_compressed(path: Path, data: bytes) -> None:
    path.with_name(path.name + ".xz").write_bytes(lzma.compress(data, preset=3))


def unpack(carried: Path, into: Path) -> Path:
    """The folder of the engine, with its probe in it."""
    for path in carried.glob("*.xz"):
        target = into / path.stem
        target.write_bytes(lzma.decompress(path.read_bytes()))
        target.chmod(0o755)
    if not (into / "probe").exists():
        raise Missing(f"nothing was carried in {carried}: run `real_card.py pack` where npm is, and copy that folder")
    return into


# --- What the machine must have ---


def check_machine() -> list[str]:
    """The folders of CUDA's libraries.

    Raises: Missing where the driver or a library is not there or too old.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise Missing(f"no NVIDIA driver here: libcuda.so.1 cannot be loaded ({error})") from None
    version = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)) or version.value < CUDA_VERSION:
        raise Missing(f"the driver is for CUDA {version.value / 1000:g}, needed is one for CUDA 13: 580 or newer")
    return [folder for name in LIBRARIES if (folder := folder_of(name))]


def folder_of(name: str) -> str:
    """The folder of a library; empty where the loader finds it by itself.

    Raises: Missing where it is nowhere.
    """
    try:
        ctypes.CDLL(name)
        return ""
    except OSError:
        pass
    for pattern in LIBRARY_FOLDERS:
        for path in sorted(Path("/").glob(f"{pattern.lstrip('/')}/{name}")):
            return str(path.parent)
    raise Missing(f"{name} is not here: install the toolkit of CUDA 13, or PyPI's nvidia-cublas and nvidia-cuda-runtime")


# --- A model with random weights ---


def half(value: float) -> bytes:
    return struct.pack("<e", value)


# A block of each type: scales as a trained model's, everything else random.
BLOCKS: Mapping[str, Callable[[random.Random], bytes]] = {
    "F32": lambda _unused: struct.pack("<f", 1.0),
    "F16": lambda numbers: half(numbers.gauss(0, 0.02)),
    "Q8_0": lambda numbers: half(0.0003) + numbers.randbytes(32),
    "Q4_K": lambda numbers: half(0.0003) + half(0.002) + numbers.randbytes(12 + 128),
    "Q6_K": lambda numbers: numbers.randbytes(128 + 64 + 16) + half(0.00001),
}
BLOCKS_BEFORE_REPEAT = 4096


def write_model(header: Mapping[str, Any], path: Path) -> None:
    """A GGUF file whose weights are random, and the same at every call."""
    numbers = random.Random(1)
    pieces = {
        kind: b"".join(make(numbers) for _unused in range(1 if kind == "F32" else BLOCKS_BEFORE_REPEAT))
        for kind, make in BLOCKS.items()
    }
    with path.open("wb") as file:
        file.write(header_bytes(dict(header)))
        for _unused, kind, shape in header["tensors"]:
            size = tensor_bytes(kind, shape)
            piece = pieces[kind]
            for start in range(0, size, len(piece)):
                file.write(piece[: size - start])
            file.write(bytes(-size % 32))


# --- What the card says ---


@dataclass(frozen=True)
class Seen:
    """What NVML says of the first device and of a process on it, in bytes; None: not told."""

    free: int
    used: int
    process: int | None


class Card:
    """The first device, as NVML sees it."""

    def __init__(self) -> None:
        import _collection  # noqa: F401  # makes the next line importable
        from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml_ctypes import CtypesNvml

        self._nvml = CtypesNvml()
        self._nvml.start()
        self._device = self._nvml.device(0)

    def about(self) -> dict[str, Any]:
        """What card and driver this is."""
        return {
            "name": self._nvml.name(self._device),
            "driver_version": self._nvml.driver_version(),
            "cuda_driver_version": self._nvml.cuda_driver_version(),
            "compute_capability": ".".join(map(str, self._nvml.compute_capability(self._device))),
            "total_bytes": self._nvml.memory(self._device).total_bytes,
        }

    def seen(self, pid: int = 0) -> Seen:
        """Memory now. In a container NVML may not know the pid: then it is of the only process, if there is one."""
        memory = self._nvml.memory(self._device)
        running = self._nvml.compute_processes(self._device)
        own = [one.used_bytes for one in running if one.pid == pid] or [one.used_bytes for one in running]
        return Seen(memory.free_bytes, memory.used_bytes, own[0] if pid and len(own) == 1 else None)


class OutOfTime(Exception):
    """There is no time left for what was to be done next."""


class Probe:
    """The probe, one point after another; a context lives until the next point is given."""

    def __init__(self, folder: Path, model: Path, surroundings: Mapping[str, str], deadline: float) -> None:
        self._deadline = deadline
        self._process = subprocess.Popen(
            [str(folder / "probe"), str(folder), str(model)],
            env=dict(surroundings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self.pid = self._process.pid
        self._read = b""

    def model(self) -> dict[str, Any]:
        """What it says of the model, before any point."""
        found = self.line()
        if not found["loaded"]:
            raise Missing(f"the engine does not load its model: {found['log'][-400:]}")
        return found

    def line(self) -> dict[str, Any]:
        """The next line.

        Raises: OutOfTime, and Missing with the last words of a probe that died.
        """
        while b"\n" not in self._read:
            left = self._deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise OutOfTime
            piece = os.read(self._process.stdout.fileno(), 1 << 16)
            if not piece:
                raise Missing(f"the probe died: {self._process.stderr.read().decode(errors='replace')[-600:]}")
            self._read += piece
        line, _unused, self._read = self._read.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def point(self, text: str) -> dict[str, Any]:
        """Run a point; what the end of the former context said is passed over."""
        self._process.stdin.write(f"{text}\n".encode())
        found = self.line()
        while "ended" in found:
            found = self.line()
        return found

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def free_on_card(devices: Sequence[Mapping[str, int]]) -> int:
    """Free memory of the first device; a simulated one tells what it holds instead."""
    first = devices[0]
    return int(first["free"]) if "free" in first else -int(first["allocated"] + first["mapped"])


def most_taken(found: Mapping[str, Any], moment: str) -> int:
    """Bytes taken between a new context and a later moment. A pool never shrinks, so its end is its most."""
    return free_on_card(found["context"]) - free_on_card(found[moment])


def buffers(log: str) -> float:
    """MiB of the first device that a log names."""
    sizes = re.findall(r"CUDA0 (?:model|KV|RS|compute) buffer size =\s+([\d.]+) MiB", log)
    return sum(map(float, sizes))


def of_model(
    name: str, folder: Path, model: Path, surroundings: Mapping[str, str], card: Card, deadline: float
) -> dict[str, Any]:
    """Everything that is asked of one model; what there was no time for is named."""
    before = card.seen()
    probe = Probe(folder, model, surroundings, deadline)
    found: dict[str, Any] = {"model": name, "skipped": []}
    try:
        loaded = probe.model()
        found["load_seconds"] = loaded["seconds"]
        found["weights_mib"] = buffers(loaded["log"])
        found["loaded"] = taken(before, card.seen(probe.pid))
        found["cuda_context_mib"] = found["loaded"]["free_mib"] - found["weights_mib"]
        first = probe.point(f"{CONTEXT} 1 512 f16 auto 0 {PROMPT} 4")
        found["first_run_seconds"] = first["fill_seconds"] + first["step_seconds"]
        found["pools"] = [
            of_pool(probe, card, before, context, flash_attention)
            for context in (CONTEXT, 4 * CONTEXT)
            for flash_attention in ("auto", "off")
        ]
        found["throughput"] = []
        for parallel in PARALLEL:
            found["throughput"].append(of_throughput(probe, parallel))
    except OutOfTime:
        found["skipped"].append("what follows, for want of time")
    finally:
        probe.end()
    found["after_end"] = taken(before, settled(card, before))
    return found


def of_pool(probe: Probe, card: Card, before: Seen, context: int, flash_attention: str) -> dict[str, Any]:
    """A full context of one slot: its buffers, what decoding takes beyond them, and NVML's view of all of it."""
    run = probe.point(f"{context} 1 512 f16 {flash_attention} 0 {context - 4} 4")
    return {
        "context": context,
        "flash_attention": flash_attention,
        "buffers_mib": buffers(run["log"]),
        "pool_mib": most_taken(run, "steps") / 2**20,
        "with_context": taken(before, card.seen(probe.pid)),
        "code": run["code"],
    }


def of_throughput(probe: Probe, parallel: int) -> dict[str, Any]:
    """Tokens per second of prompts and of generation, all slots together."""
    run = probe.point(f"{CONTEXT} {parallel} 512 f16 auto 0 {PROMPT} {STEPS}")
    return {
        "parallel": parallel,
        "prompt_tokens_per_second": parallel * PROMPT / run["fill_seconds"],
        "tokens_per_second": parallel * STEPS / run["step_seconds"],
    }


def taken(before: Seen, now: Seen) -> dict[str, Any]:
    """MiB that are taken now and were not before."""
    return {
        "free_mib": (before.free - now.free) / 2**20,
        "used_mib": (now.used - before.used) / 2**20,
        "process_mib": None if now.process is None else now.process / 2**20,
    }


def settled(card: Card, before: Seen) -> Seen:
    """The card a little after a process has ended: the driver gives memory back when it likes."""
    now = card.seen()
    for _unused in range(20):
        if now.free >= before.free:
            break
        time.sleep(0.1)
        now = card.seen()
    return now


def run(carried: Path, headers: Path, into: Path, seconds: float) -> None:
    """Ask the card everything, and write what it says after each model."""
    deadline = time.monotonic() + seconds
    folders = check_machine()
    with tempfile.TemporaryDirectory(prefix="gpufleet-real-card-") as name:
        folder = unpack(carried, Path(name))
        surroundings = {
            **os.environ,
            "LD_LIBRARY_PATH": ":".join([*folders, os.environ.get("LD_LIBRARY_PATH", ""), str(folder)]),
            "GGML_NO_BACKTRACE": "1",
            "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0"),
            "PROBE_THREADS": str(min(8, os.cpu_count() or 1)),
        }
        card = Card()
        found: dict[str, Any] = {
            "about": json.loads((carried / "about.json").read_text()),
            "card": card.about(),
            "kernel": platform.release(),
            "models": [],
        }
        for model in MODELS:
            path = folder / "model.gguf"
            header = json.loads((headers / f"{model.replace(':', '_')}.json").read_text())
            write_model(header, path)
            found["models"].append(of_model(model, folder, path, surroundings, card, deadline))
            into.write_text(json.dumps(found, indent=2) + "\n")
            print(json.dumps(found["models"][-1], indent=2), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("pack", "run"))
    parser.add_argument("--engine", default="", metavar="NPM_VERSION", help="default: the newest on the registry")
    parser.add_argument("--capability", default="9.0", help="of the card, e.g. 8.6")
    parser.add_argument("--carried", type=Path, default=CARRIED)
    parser.add_argument("--into", type=Path, default=Path("real_card.json"))
    parser.add_argument("--headers", type=Path, default=_checkout.DATA / "headers")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="what is not done by then is left out")
    arguments = parser.parse_args()
    try:
        if arguments.what == "pack":
            pack(arguments.engine, arguments.capability, arguments.carried)
        else:
            run(arguments.carried, arguments.headers, arguments.into, arguments.seconds)
    except Missing as missing:
        sys.exit(str(missing))


if __name__ == "__main__":
    main()
