# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds memory of the first GPU that CUDA shows this process: says `ready`, then `held` for each size on stdin.

CUDA_VISIBLE_DEVICES=GPU-... python tests/simulated_nvml/hold.py

CUDA's driver API through ctypes, so that nothing beside the driver has to be installed. It ends with its stdin.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

LIBRARY = "libcuda.so.1"


class Cuda:
    """The calls of CUDA's driver API that hold memory. Source: cuda.h.

    Raises: SystemExit in one sentence where a call fails.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise SystemExit(f"{LIBRARY} cannot be loaded ({error})") from None

    def start(self) -> None:
        """Make the context that the CUDA runtime makes too: the primary one."""
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuInit", ctypes.c_uint(0))
        self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)

    def hold(self, size: int) -> None:
        pointer = ctypes.c_ulonglong()
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._library, function)(*arguments)
        if code:
            name = ctypes.c_char_p()
            self._library.cuGetErrorName(ctypes.c_int(code), ctypes.byref(name))
            text = (name.value or b"an unknown error").decode()
            raise SystemExit(f"{function} failed with {text} ({code})")


def main() -> None:
    cuda = Cuda()
    cuda.start()
    print("ready", flush=True)
    for line in sys.stdin:
        cuda.hold(int(line))
        print("held", flush=True)


if __name__ == "__main__":
    main()
