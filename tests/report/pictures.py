# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the pictures of the README, in docs/images: what `make demo` prints, and the page that it writes.

python tests/report/pictures.py [RECORDING]

Without a recording (what a terminal received, made by script(1) say) the demo is run for it. The page is that of the last
demo. Needs chromium (Debian package).
"""

from __future__ import annotations

import io
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

CHECKOUT = Path(__file__).resolve().parents[2]
IMAGES = CHECKOUT / "docs" / "images"
DEMO = [sys.executable, str(CHECKOUT / "tests" / "hosts" / "demo.py")]
PAGE = CHECKOUT / ".build" / "demo-report" / "report.html"
WIDEST_COLUMNS = 150
WINDOW = "1280,900"
MOST_BYTES = 300_000


def main() -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("no chromium on this machine: apt-get install chromium")
    recording = Path(sys.argv[1]).read_bytes() if len(sys.argv) > 1 else record(DEMO)
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / "demo.svg").write_text(terminal(plain_lines(recording)), encoding="utf-8")
    photograph(browser, PAGE, IMAGES / "report.png")
    for picture in sorted(IMAGES.iterdir()):
        size = picture.stat().st_size
        print(f"{picture.relative_to(CHECKOUT)}: {size / 1000:.0f} kB")
        if size > MOST_BYTES:
            sys.exit(f"{picture} has {size} bytes, more than {MOST_BYTES}")


def record(command: list[str]) -> bytes:
    """What a program writes to a terminal. Exits where it fails."""
    received: list[bytes] = []

    def read(terminal_end: int) -> bytes:
        received.append(os.read(terminal_end, 4096))
        return received[-1]

    status = pty.spawn(command, read)
    if status:
        sys.exit(f"{' '.join(command)} failed with status {os.waitstatus_to_exitcode(status)}")
    return b"".join(received)


def plain_lines(recording: bytes) -> str:
    """The recording without what script(1) writes around it and without this machine's paths."""
    text = recording.decode().replace("\r\n", "\n").replace(f"{CHECKOUT}/", "")
    lines = [line for line in text.splitlines() if not line.startswith(("Script started", "Script done"))]
    return "\n".join(lines).strip("\n")


def terminal(text: str) -> str:
    """A terminal window as SVG, with fonts of the reader's machine only."""
    shown = Text.from_ansi(text)
    width = min(WIDEST_COLUMNS, max(line.cell_len for line in shown.split("\n")))
    console = Console(record=True, width=width, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    console.print(shown, soft_wrap=False)
    svg = console.export_svg(title="make demo", unique_id="demo")
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)


def photograph(browser: str, page: Path, picture: Path) -> None:
    """The upper part of a page, as a browser shows it."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={WINDOW}"]
    command = [browser, *options, f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, capture_output=True, timeout=120, check=True)


if __name__ == "__main__":
    main()
