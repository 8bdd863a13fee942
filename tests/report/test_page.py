# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fleet's page in a real browser: it shows every host, fetches nothing, escapes everything, is fast enough.

``pytest tests/report`` needs chromium (Debian package). Screenshots at 5 and 500 hosts, light and dark, are left in
``.build/report`` to look at.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.tests.report.fleet import fleet, inventory

CHECKOUT = Path(__file__).resolve().parents[2]
SCREENSHOTS = CHECKOUT / ".build" / "report"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BROWSER_SECONDS = 60
LARGEST_FLEET = 1000
MOST_BYTES = 5 * 1024 * 1024
MOST_SECONDS = 5.0
READABLE_CONTRAST = 4.5  # WCAG 2.2, success criterion 1.4.3
EVIL = "</td><script>document.title='taken over'</script><img src=x onerror=alert(1)>\"'&"
THEMES = {"light": [], "dark": ["--blink-settings=preferredColorScheme=0"]}

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no chromium on this machine: apt-get install chromium"
)


def make_page(folder: Path, facts: dict[str, dict[str, Any]], *options: str) -> Path:
    """Write the page as the role does, by a run of ansible-playbook."""
    hosts = folder / "inventory.json"
    hosts.write_text(json.dumps(inventory(facts)))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(hosts)]
    command += [str(CHECKOUT / "tests" / "report" / "page.yml"), "-e", f"ollama_report_dir={folder}", *options]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".build" / "collections")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "report.html"


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    made: dict[int, Path] = {}

    def of_size(size: int) -> Path:
        if size not in made:
            made[size] = make_page(tmp_path_factory.mktemp(f"fleet{size}"), fleet(size))
        return made[size]

    return of_size


def browse(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--enable-logging=stderr", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=BROWSER_SECONDS, check=True)


def evaluate(page: Path, script: str) -> Any:
    """What an expression gives in the loaded page; statements before it may work the page."""
    probe = page.with_name("probe.html")
    ask = f"<script>addEventListener('load', () => {{ {script}; document.documentElement.dataset.told ="
    probe.write_text(page.read_text() + f"{ask} JSON.stringify(told); }});</script>")
    done = browse(probe, "--dump-dom")
    found = re.search(r'data-told="([^"]*)"', done.stdout)
    assert found, done.stderr
    return json.loads(html.unescape(found.group(1)))


@pytest.mark.parametrize("size", [5, 500])
@pytest.mark.parametrize("theme", THEMES)
def test_shows_every_host(page: Callable[[int], Path], size: int, theme: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    picture = SCREENSHOTS / f"{size}-{theme}.png"
    picture.unlink(missing_ok=True)
    done = browse(page(size), "--window-size=1400,1600", *THEMES[theme], f"--screenshot={picture}")
    assert picture.stat().st_size > 20_000
    assert "CONSOLE" not in done.stderr
    told = "const told = [document.querySelectorAll('.hosts > tbody > tr').length, shown.textContent]"
    assert evaluate(page(size), told) == [size, f"{size} of {size} hosts"]


def test_a_large_fleet_is_small_and_fast(page: Callable[[int], Path]) -> None:
    assert page(LARGEST_FLEET).stat().st_size < MOST_BYTES
    painted = evaluate(
        page(LARGEST_FLEET), "document.body.offsetHeight; const told = performance.now() / 1000"
    )
    assert painted < MOST_SECONDS


def test_fetches_nothing(page: Callable[[int], Path]) -> None:
    text = page(5).read_text()
    assert not re.findall(r"(?:src|href|url|import|fetch)\s*[=(:]\s*[\"']?\s*(?:\w+:)?//", text)
    assert (
        evaluate(page(5), "const told = performance.getEntriesByType('resource').map((one) => one.name)")
        == []
    )


def test_filters_and_sorts(page: Callable[[int], Path]) -> None:
    seen = "const seen = () => [...document.querySelectorAll('.hosts > tbody > tr')].filter((row) => !row.hidden)"
    work = """
      const set = (id, value, event) => {
        const field = document.getElementById(id); field.value = value; field.dispatchEvent(new Event(event));
      };
      const names = () => seen().map((row) => row.dataset.name);
      const worst = names().slice(0, 9);
      set("order", "name", "change"); const sorted = names();
      set("order", "worst", "change"); const again = names().slice(0, 9);
      set("order", "free", "change"); const free = seen().map((row) => +row.dataset.free);
      set("state", "drifted", "change"); const drifted = new Set(seen().map((row) => row.dataset.state));
      set("state", "", "change"); set("find", "gpu0007 example", "input");
      const told = [worst, sorted, again, free, [...drifted], names(), shown.textContent]
    """
    worst, by_name, again, free, drifted, found, shown = evaluate(page(500), f"{seen}; {work}")
    assert by_name == sorted(by_name)
    assert worst == again
    assert worst != by_name[:9]
    assert free == sorted(free)
    assert drifted == ["drifted"]
    assert (found, shown) == (["gpu0007.example.org"], "1 of 500 hosts")


def test_the_parts_of_a_bar_are_as_wide_as_their_bytes(page: Callable[[int], Path]) -> None:
    report = json.loads(page(500).with_name("report.json").read_text())
    gpus = [gpu for host in report["hosts"] for gpu in host["gpus"]]
    script = """
      const told = [...document.querySelectorAll(".bar")].map((bar) => {
        const parts = [...bar.children].map((part) => [part.className, part.getBoundingClientRect().width]);
        const whole = parts.reduce((sum, part) => sum + part[1], 0);
        return Object.fromEntries(parts.map(([name, width]) => [name, width / whole]));
      })
    """
    bars = evaluate(page(500), script)
    assert len(bars) == len(gpus) > 500
    for widths, gpu in zip(bars, gpus):
        for name, kind in (("w", "weights"), ("k", "kv_cache"), ("o", "others"), ("f", "free")):
            share = gpu[f"{kind}_bytes"] / gpu["memory_total_bytes"]
            assert widths.get(name, 0) == pytest.approx(share, abs=0.005)


def test_every_bar_is_told_in_words(page: Callable[[int], Path]) -> None:
    labels = evaluate(
        page(5), "const told = [...document.querySelectorAll('.bar')].map((bar) => bar.ariaLabel)"
    )
    assert all(re.fullmatch(r"GPU \d+, [\d.]+ GiB:( [A-Za-z ]+ [\d.]+)+", label) for label in labels)
    unnamed = "document.querySelectorAll('input:not(label *), select:not(label *), th:not([scope])').length"
    assert evaluate(page(5), f"const told = {unnamed}") == 0


def test_shows_what_others_wrote_as_text(tmp_path: Path) -> None:
    facts = fleet(40)
    for known in facts.values():
        if "ollama_plan" in known:
            plan = known["ollama_plan"]
            plan["reasons"], plan["warnings"], plan["environment"] = [EVIL], [EVIL], {"OLLAMA_ORIGINS": EVIL}
            for one in (*plan["models"], *plan["gpus"]):
                one["name"] = EVIL
            for limit in plan["limits"]:
                limit["reason"] = EVIL
            for one in known["ollama_verify_result"]["differences"]:
                one.update(variable=EVIL, found=EVIL, wanted=EVIL, message=EVIL)
        for reason in ("ollama_report_failure", "ollama_report_unreachable"):
            if reason in known:
                known[reason] = EVIL
    made = make_page(tmp_path, {name.replace("gpu", "<b>gpu"): known for name, known in facts.items()})
    told = evaluate(made, "const told = [document.title, document.images.length, document.scripts.length]")
    assert told == ["Ollama GPU fleet", 0, 2]  # the page's own script and this test's


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(
    ("text", "ground"),
    [
        ("fg", "bg"),
        ("dim", "bg"),
        ("dim", "soft"),
        ("link", "bg"),
        ("bad", "badbg"),
        ("warn", "warnbg"),
        ("good", "goodbg"),
    ],
)
def test_text_can_be_read(page: Callable[[int], Path], theme: str, text: str, ground: str) -> None:
    blocks = re.findall(r":root\{(.*?)\}", page(5).read_text(), re.S)
    colours = dict(re.findall(r"--(\w+):(#\w+)", blocks[list(THEMES).index(theme)]))
    light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= READABLE_CONTRAST
