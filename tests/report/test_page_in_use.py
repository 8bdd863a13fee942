# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages as somebody on call has them: a tile, an address from a ticket, a phone, a dark screen, paper, a screen reader.

Needs chromium (Debian package), and axe-core in ``.build/axe``, where ``make page-tests`` puts it. Screenshots at 3 and 250
hosts are left in ``.build/report`` to look at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._page import benchmark_report
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._html_page import fill_page
from ansible_collections.gpufleet.ollama.tests.report.browser import PHONE, PROGRAM, Browser
from ansible_collections.gpufleet.ollama.tests.report.fleet import fleet
from ansible_collections.gpufleet.ollama.tests.report.test_page import SCREENSHOTS, make_page
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT
from ansible_collections.gpufleet.ollama.tests.unit.plugins.filter.test_benchmark import made as measured

AXE = CHECKOUT / ".build" / "axe" / "axe_playwright_python" / "axe.min.js"
PAPER = (718, 1000)
VIEWS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"theme": "dark"},
    "phone": {"size": PHONE},
    "print": {"media": "print", "size": PAPER},
}
SHOWN = "[...document.querySelectorAll('.hosts > tbody > tr')].filter((row) => !row.hidden).map((row) => row.dataset.name)"
PLACEMENT = {
    "is_met": False,
    "demand": [
        {
            "name": "gemma3:4b",
            "requests": 9,
            "slots": 4,
            "slots_without_one": 0,
            "short_slots": 5,
            "short_hosts": 1,
            "context_length": 8192,
        }
    ],
    "hosts": [{"name": "gpu0001.example.org", "slots": {"gemma3:4b": 4}}],
    "notes": ["gpu0002.example.org is left out, its slots do not count: it cannot be reached"],
    "remedies": ["one more host like gpu0001.example.org"],
}

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no chromium on this machine: apt-get install chromium"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as one:
        yield one


@pytest.fixture(autouse=True)
def as_on_a_screen(browser: Browser) -> None:
    browser.look()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of 250 hosts."""
    made = tmp_path_factory.mktemp("fleet")
    make_page(made, fleet(250), "--limit=gpu*")
    return made


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    return folder / "report.html"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every kind of page that there is, small."""
    made = tmp_path_factory.mktemp("pages")
    (made / "placement.json").write_text(json.dumps(PLACEMENT))
    told = benchmark_report({"gpu01.example.org": measured()}, "2026-01-01T00:00:00Z")
    template = (CHECKOUT / "roles/ollama_benchmark/templates/benchmark.html.j2").read_text(encoding="utf-8")
    (made / "benchmark.html").write_text(
        "".join(fill_page(told, template, "Ollama benchmarks", "report.html"))
    )
    make_page(made, fleet(25))
    return {"fleet": made / "report.html", "benchmark": made / "benchmark.html"}


def hosts(folder: Path) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads((folder / "report.json").read_text())["hosts"]
    return told


def test_a_tile_shows_the_hosts_that_it_counts(browser: Browser, folder: Path, page: Path) -> None:
    browser.open(page)
    browser.evaluate("document.querySelector('.counts a[data-state=drifted]').click()")
    drifted = [host["name"] for host in hosts(folder) if host["state"] == "drifted"]
    assert (
        len(drifted)
        == int(browser.evaluate("document.querySelector('.counts a[aria-current] b').textContent"))
        > 0
    )
    assert browser.evaluate(SHOWN) == drifted
    browser.evaluate("document.querySelector('.counts a').click()")
    assert len(browser.evaluate(SHOWN)) == 250


def test_what_is_shown_can_be_handed_on_as_an_address(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.evaluate("""
      const set = (id, value, event) => {
        const field = document.getElementById(id); field.value = value; field.dispatchEvent(new Event(event));
      };
      set("state", "drifted", "change"); set("cause", "stale process", "change"); set("order", "name", "change");
      set("find", "example.org", "input");
    """)
    shown, address = browser.evaluate(SHOWN), browser.evaluate("location.hash")
    assert 0 < len(shown) < 11
    browser.open(page)
    assert len(browser.evaluate(SHOWN)) == 250
    browser.open(page, address.removeprefix("#"))
    assert browser.evaluate(SHOWN) == shown
    assert browser.evaluate("document.getElementById('cause').value") == "stale process"


def test_a_cause_shows_the_hosts_that_have_it(browser: Browser, folder: Path, page: Path) -> None:
    causes = json.loads((folder / "report.json").read_text())["summary"]["causes"]
    assert len(causes) > 2
    for cause, count in causes.items():
        browser.open(page, f"cause={cause.replace(' ', '+')}")
        wanted = {host["name"] for host in hosts(folder) if cause in [one["cause"] for one in host["drift"]]}
        assert set(browser.evaluate(SHOWN)) == wanted
        assert len(wanted) == count


def test_each_host_has_an_address_of_its_own(browser: Browser, page: Path) -> None:
    name = "gpu0200.example.org"
    browser.open(page)
    link = browser.evaluate(f"document.querySelector('tr[data-name=\"{name}\"] th a').getAttribute('href')")
    browser.open(page, link.removeprefix("#"))
    place = browser.evaluate(
        "(() => { const row = document.querySelector('tr.aimed'), at = row.getBoundingClientRect();"
        " return [row.dataset.name, row.querySelector('details').open, at.top >= 0 && at.top < innerHeight / 2]; })()"
    )
    assert place == [name, True, True]


@pytest.mark.parametrize(
    "fragment", ["host=nobody", "state=nothing", "order=", "%", "find=%ZZ&cause=x", "host="]
)
def test_an_address_that_says_nothing_shows_every_host(browser: Browser, page: Path, fragment: str) -> None:
    browser.open(page, fragment)
    shown = browser.evaluate(SHOWN)
    assert len(shown) == (0 if "%ZZ" in fragment else 250)


def test_a_command_is_there_to_copy(browser: Browser, folder: Path, page: Path) -> None:
    browser.open(page)
    drifted = next(host for host in hosts(folder) if host["state"] == "drifted")
    copied = browser.evaluate(
        f"(() => {{ const row = document.querySelector('tr[data-name=\"{drifted['name']}\"]');"
        " row.querySelector('.go button').click(); return getSelection().toString(); })()"
    )
    assert copied == f"ansible-playbook -i inventory.json gpufleet.ollama.site --limit {drifted['name']}"


@pytest.mark.parametrize(
    ("seconds", "told", "is_old"),
    [
        (0, "just now", False),
        (40, "just now", False),
        (61, "1 minute ago", False),
        (2 * 3600 + 5, "2 hours ago", False),
        (24 * 3600 - 40, "23 hours ago", False),
        (24 * 3600 + 1, "1 day ago", True),
        (3 * 86400, "3 days ago", True),
        (-3600, "just now", False),
    ],
)
def test_a_page_says_how_old_it_is_and_turns_grey(
    browser: Browser, page: Path, seconds: int, told: str, is_old: bool
) -> None:
    aged = page.with_name("aged.html")
    made = browser.evaluate(f"new Date(Date.now() - {seconds * 1000}).toISOString().slice(0, 19) + 'Z'")
    text = page.read_text(encoding="utf-8")
    aged.write_text(re.sub(r'<time datetime="[^"]*">', f'<time datetime="{made}">', text, count=1))
    browser.open(aged)
    assert browser.evaluate("document.getElementById('age').textContent") == f"{told}, "
    look = "[getComputedStyle(document.querySelector('.hosts')).filter, document.querySelector('.stale').checkVisibility()]"
    assert browser.evaluate(look) == (["grayscale(1)", True] if is_old else ["none", False])


def test_it_says_by_what_run_it_was_made(browser: Browser, page: Path) -> None:
    browser.open(page)
    told = browser.evaluate("document.querySelector('h1 + p').textContent")
    version = re.search(r"^version: (\S+)", (CHECKOUT / "galaxy.yml").read_text(), re.MULTILINE)
    assert version
    for one in (f"gpufleet.ollama {version[1]}", "inventory inventory.json", "--limit gpu*", " on "):
        assert one in told
    assert browser.evaluate(
        "[...document.querySelectorAll('h1 + p a')].map((a) => a.getAttribute('href'))"
    ) == [
        "report.json",
        "report.csv",
    ]
    assert (page.with_name("report.csv")).read_text(encoding="utf-8").count("\n") == 251


def test_a_hosts_name_breaks_behind_its_dots_only(browser: Browser, tmp_path: Path) -> None:
    names = [
        "gpu-0012-rack-7.example-cluster.org",
        "gpu0013.a-rather-long-name.example.org",
        "g" * 63,
        "x." + "-" * 63,
    ]
    made = make_page(tmp_path, dict(zip(names, fleet(len(names)).values())))
    for width in (901, 1024, 1280, 390):
        browser.look(size=(width, 900))
        browser.open(made)
        parts = browser.evaluate(
            "[...document.querySelectorAll('.hosts > tbody th > a > span:not(.long)')].map((one) => one.getClientRects().length)"
        )
        assert parts.count(1) == len(parts) >= 7
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        over = "[...document.querySelectorAll('.hosts > tbody th')].filter((one) => one.scrollWidth > one.clientWidth).length"
        assert browser.evaluate(over) == 0


@pytest.mark.parametrize("kind", ["fleet", "benchmark"])
@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_in_the_way_of_those_who_see_it_otherwise(
    browser: Browser, pages: dict[str, Path], kind: str, view: str
) -> None:
    browser.look(**VIEWS[view])
    browser.open(pages[kind])
    # On paper everything is there, and what is closed elsewhere is no less to be read.
    browser.evaluate("document.querySelectorAll('details').forEach((more) => { more.open = true; })")
    browser.evaluate(AXE.read_text(encoding="utf-8") + ";0")
    told = browser.evaluate(
        "axe.run().then((told) => [told.passes.length, told.violations.map((one) => [one.id, one.nodes[0].html])])"
    )
    assert told[0] > 15
    assert told[1] == []


@pytest.mark.parametrize("kind", ["fleet", "benchmark"])
def test_it_fits_a_phone(browser: Browser, pages: dict[str, Path], kind: str) -> None:
    browser.look(size=PHONE)
    browser.open(pages[kind])
    assert browser.evaluate("document.documentElement.scrollWidth") == PHONE[0]


def test_paper_shows_the_bars_the_legend_and_what_is_closed_on_the_screen(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.look(**VIEWS["print"])
    browser.open(pages["fleet"])
    seen = """
      [getComputedStyle(document.querySelector('.legend i')).printColorAdjust,
       getComputedStyle(document.querySelector('.bar i')).printColorAdjust,
       [...document.querySelectorAll('details ul')].every((one) => one.checkVisibility({contentVisibilityAuto: true})
         && one.getBoundingClientRect().height > 0),
       document.querySelector('.tools').checkVisibility()]
    """
    assert browser.evaluate(seen) == ["exact", "exact", True, False]
    browser.look()
    file = pages["fleet"].with_suffix(".pdf")
    browser.print(file)
    assert file.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("size", [3, 250])
@pytest.mark.parametrize("view", VIEWS)
def test_pictures_are_left_to_look_at(
    browser: Browser, page: Path, tmp_path: Path, size: int, view: str
) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    browser.look(**VIEWS[view])
    browser.open(page if size == 250 else make_page(tmp_path, fleet(size)))
    picture = SCREENSHOTS / f"{size}-{view}-on-call.png"
    browser.photograph(picture)
    assert picture.stat().st_size > 20_000
