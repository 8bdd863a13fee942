# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A page in headless Chromium as somebody has it before him: on a screen, on a phone, in the dark, on paper.

Speaks the DevTools protocol over the browser's pipe, so that it needs nothing but the browser.
Source: https://chromedevtools.github.io/devtools-protocol/, and content/public/common/content_switches.cc for
`--remote-debugging-pipe`: it reads file descriptor 3, writes 4, and ends each message with a NUL.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE_SECONDS = 60
DESKTOP = (1280, 900)
PHONE = (390, 844)


class Browser:
    """One browser with one page; `with Browser() as browser`."""

    def __init__(self) -> None:
        assert PROGRAM is not None
        reads, self._to = os.pipe()
        self._from, writes = os.pipe()
        shell = f'exec "$0" "$@" 3<&{reads} 4>&{writes}'
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--remote-debugging-pipe",
        ]
        self._running = subprocess.Popen(
            ["/bin/bash", "-c", shell, PROGRAM, *options, "about:blank"],
            pass_fds=(reads, writes),
            stderr=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._session = ""
        (page,) = (one for one in self.ask("Target.getTargets")["targetInfos"] if one["type"] == "page")
        attached = self.ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        self.ask("Page.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_unused: object) -> None:
        self._running.kill()
        self._running.wait()
        os.close(self._to)
        os.close(self._from)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers to one method of the protocol."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._told(lambda one: one.get("id") == number)["result"]

    def open(self, page: Path, fragment: str = "") -> None:
        """Loads a page anew; `fragment` is what follows the # of its address."""
        self.ask("Page.navigate", url="about:blank")
        self._told(lambda one: one.get("method") == "Page.loadEventFired")
        self.ask("Page.navigate", url=page.as_uri() + (f"#{fragment}" if fragment else ""))
        self._told(lambda one: one.get("method") == "Page.loadEventFired")

    def look(self, size: tuple[int, int] = DESKTOP, theme: str = "light", media: str = "screen") -> None:
        """As it is seen: width and height in pixels, the reader's theme, screen or print."""
        width, height = size
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=size == PHONE,
        )
        self.ask(
            "Emulation.setEmulatedMedia",
            media=media,
            features=[{"name": "prefers-color-scheme", "value": theme}],
        )

    def evaluate(self, script: str) -> Any:
        """What an expression gives; of a promise, what it holds in the end."""
        answer = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def photograph(self, picture: Path, whole: bool = False) -> None:
        """What is on the screen, or the whole page, as PNG."""
        data = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        picture.write_bytes(base64.b64decode(data))

    def print(self, file: Path) -> None:
        """The page on A4 as PDF, as the browser prints it by itself."""
        self.ask("Emulation.setEmulatedMedia", media="", features=[])
        self.ask("Emulation.clearDeviceMetricsOverride")
        data = self.ask("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"]
        file.write_bytes(base64.b64decode(data))

    def _told(self, is_it: Any) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            while b"\0" in self._buffer:
                text, self._buffer = self._buffer.split(b"\0", 1)
                message: dict[str, Any] = json.loads(text)
                if is_it(message):
                    assert "error" not in message, message
                    return message
            ready, _writable, _odd = select.select([self._from], [], [], max(end - time.monotonic(), 0))
            assert ready, "the browser does not answer"
            part = os.read(self._from, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
