# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change one operator, number or condition of a room at a time and see whether the room's own tests notice.

python tests/gates/mutants.py [--seed NUMBER] [--count NUMBER] [--jobs NUMBER] [--only PART_OF_A_PATH] [--check]

Prints what survives by file and line. mutants.yml beside this file says of what may survive why it may; what it says of
any file is a change that has no effect by its nature and is not tried. Fails where more than a tenth survives. With
--check it only looks whether mutants.yml speaks of lines that exist. The mutations are cosmic-ray's; they are made in
copies of the checkout. A mutant is tried on those tests of its room that run its line, which one run of the room under
coverage tells beforehand.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import os
import queue
import random
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from unittest.mock import patch

import yaml
from _tree import BIN, ROOT, copy_checkout
from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_and_test, mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from cosmic_ray.testing import run_tests
from cosmic_ray.work_item import MutationSpec, TestOutcome
from coverage import CoverageData

ROOMS = ("memory", "scheduler", "planning", "systemd")
CODE = PurePosixPath("plugins/module_utils")
TESTS = PurePosixPath("tests/unit/plugins/module_utils")
SURVIVORS = Path(__file__).with_suffix(".yml")
MOST_SURVIVORS_PERCENT = 10
# `==` and `is` say the same of numbers, texts and None wherever the tests could tell.
SAME_IN_EFFECT = ("Eq_Is", "NotEq_IsNot", "Is_Eq", "IsNot_NotEq")
# A mutant may make a loop endless: it has so many times what the unchanged room takes, and so much more.
PATIENCE = 3
LEAST_PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Mutant:
    """One change of one file, whose path is relative to the checkout."""

    path: PurePosixPath
    mutation: MutationSpec

    @property
    def room(self) -> str:
        return self.path.relative_to(CODE).parts[0]

    @property
    def line(self) -> int:
        return self.mutation.start_pos[0]


def annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """From where to where the file's types stand: nothing evaluates them."""
    found: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.append(node.returns)
        if isinstance(node, (ast.arg, ast.AnnAssign)):
            found.append(node.annotation)
    return [((one.lineno, one.col_offset), (one.end_lineno, one.end_col_offset)) for one in found if one]


def mutants_of(path: PurePosixPath) -> list[list[Mutant]]:
    """All mutants of a file, in one list for each place that can be changed."""
    types = annotations((ROOT / path).read_text(encoding="utf-8"))
    nodes = list(ast_nodes(get_ast_from_path(ROOT / path)))
    places: dict[tuple[tuple[int, int], tuple[int, int]], list[Mutant]] = defaultdict(list)
    for name in operator_names():
        operator = get_operator(name)
        # Those with arguments put in names of our choice, and we have none.
        if operator.arguments() or name.endswith(SAME_IN_EFFECT):
            continue
        found = (place for node in nodes for place in operator().mutation_positions(node))
        for occurrence, (start, end) in enumerate(found):
            if not any(first <= start < last for first, last in types):
                places[start, end].append(
                    Mutant(path, MutationSpec(ROOT / path, name, occurrence, start, end))
                )
    return list(places.values())


def compiles(mutant: Mutant) -> bool:
    """Whether it is Python at all: the `*` before arguments with names is none that could be another operator."""
    operator = get_operator(mutant.mutation.operator_name)()
    code = mutate_code((ROOT / mutant.path).read_text(encoding="utf-8"), operator, mutant.mutation.occurrence)
    try:
        compile(code, mutant.path.name, "exec")
    except SyntaxError:
        return False
    return True


def sample(seed: int, count: int, only: str, entries: list[dict[str, str]]) -> list[Mutant]:
    """So many mutants, at most one at each place: else a single sum, which has ten, would outweigh a condition."""
    of_any_file = [entry for entry in entries if "file" not in entry]
    files = sorted(path for room in ROOMS for path in (ROOT / CODE / room).rglob("_*.py"))
    paths = [PurePosixPath(path.relative_to(ROOT).as_posix()) for path in files if only in path.as_posix()]
    places = [place for path in paths if path.name != "__init__.py" for place in mutants_of(path)]
    print(f"{len(places)} places in {len(paths)} files, seed {seed}", flush=True)
    choice = random.Random(seed)
    choice.shuffle(places)
    chosen = map(choice.choice, places)
    return list(itertools.islice((one for one in chosen if compiles(one) and not reason_for(one, of_any_file)), count))


def command(tree: Path, tests: Sequence[str], *options: str) -> str:
    """What runs these tests, files or folders of `TESTS`, in a copy of the checkout."""
    imports = f"{tree.parents[2]} {tree / 'tests/model_store'} {tree / 'tests/gates'}"
    common = (
        f"-q -p no:cacheprovider -p no:xdist --tb=line --hypothesis-profile=mutants -o 'pythonpath={imports}'"
    )
    return " ".join([f"{BIN / 'pytest'} -c {tree / 'pyproject.toml'} {common}", *options, *tests])


class Recorded:
    """Which tests of a room run which line; and how long all of them take."""

    def __init__(self, tree: Path, room: str) -> None:
        """Run the room's tests in a copy of the checkout. Ends the program where they fail."""
        data = tree.parent / f"coverage-{room}"
        where = f"--cov={tree / CODE / room} --cov-context=test --cov-report="
        began = time.monotonic()
        with patch.dict(os.environ, COVERAGE_FILE=str(data)):
            outcome, output = run_tests(
                command(tree, [str(tree / TESTS / room)], where, "-p _without_caches"), None
            )
        if outcome is not TestOutcome.SURVIVED:
            raise SystemExit(f"the tests of {room} fail without any mutant:\n{output}")
        self._room = room
        self._data = CoverageData(str(data))
        self._data.read()
        self._measured = {
            PurePosixPath(Path(name).relative_to(tree)): name for name in self._data.measured_files()
        }
        self.timeout_s = LEAST_PATIENCE_SECONDS + PATIENCE * (time.monotonic() - began)

    def tests_of(self, mutant: Mutant) -> list[str]:
        """Paths within `TESTS` of the tests that run the mutant's statement, those of its file first; [] for none.

        A statement that runs as its file is imported may count for every test: then it is the whole room.
        """
        inside = mutant.path.relative_to(CODE)
        own = PurePosixPath(inside.parent, f"test_{inside.name}").as_posix()
        lines = (
            self._data.contexts_by_lineno(self._measured[mutant.path])
            if mutant.path in self._measured
            else {}
        )
        found = {context for line in statement_lines(mutant) for context in lines.get(line, [])}
        if "" in found:
            return [*([own] if (ROOT / TESTS / own).exists() else []), self._room]
        # `tests/…/test_x.py::test_y[of these]|run`: a test is run with all its parameters.
        tests = {context.split("|")[0].split("[")[0].split(f"{TESTS}/")[-1] for context in found}
        return sorted(tests, key=lambda test: (not test.startswith(own), test))


def statement_lines(mutant: Mutant) -> range:
    """The lines of the smallest statement around a mutant, of which coverage may count only the first.

    Of one that holds others, such as a loop, only those before what it holds.
    """
    lines = range(mutant.line, mutant.line + 1)
    for node in ast.walk(ast.parse((ROOT / mutant.path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.stmt) and node.end_lineno is not None:
            body = getattr(node, "body", None)
            stop = max(body[0].lineno, node.lineno + 1) if body else node.end_lineno + 1
            if node.lineno <= mutant.line < stop:
                lines = range(node.lineno, stop)
    return lines


def survives(tree: Path, mutant: Mutant, recorded: Recorded) -> bool:
    """Whether the tests of its room pass with this mutant."""
    tests = [str(tree / TESTS / test) for test in recorded.tests_of(mutant)]
    if not tests:
        return True
    mutation = mutant.mutation
    spec = MutationSpec(
        tree / mutant.path, mutation.operator_name, mutation.occurrence, mutation.start_pos, mutation.end_pos
    )
    chosen = tree.parent / "tests"
    chosen.write_text("\n".join(tests), encoding="utf-8")
    result = mutate_and_test([spec], command(tree, [f"@{chosen}"], "-x"), recorded.timeout_s)
    if result.test_outcome is TestOutcome.INCOMPETENT or result.diff is None:
        raise SystemExit(f"{mutant.path}:{mutant.line} could not be tried: {result.output}")
    return result.test_outcome is TestOutcome.SURVIVED


def reason_for(mutant: Mutant, entries: list[dict[str, str]]) -> str:
    """Why the mutant may survive; empty where nothing is said of it."""
    line = (ROOT / mutant.path).read_text(encoding="utf-8").splitlines()[mutant.line - 1].strip()
    kind = mutant.mutation.operator_name.split("/")[-1]
    for entry in entries:
        if (
            mutant.path.match(entry.get("file", "*"))
            and line.startswith(entry["line"])
            and entry.get("mutation", kind) == kind
        ):
            return entry["reason"]
    return ""


def described(mutant: Mutant) -> str:
    line = (ROOT / mutant.path).read_text(encoding="utf-8").splitlines()[mutant.line - 1]
    mutation = mutant.mutation
    place = line[mutation.start_pos[1] : mutation.end_pos[1] if mutation.end_pos[0] == mutant.line else None]
    kind = f"{mutation.operator_name.split('/')[-1]} number {mutation.occurrence}"
    return f"{mutant.path}:{mutant.line}: {kind} at `{place}` in `{line.strip()}`"


def checked_survivors() -> list[dict[str, str]]:
    """What mutants.yml says. Ends the program where it speaks of lines that no longer exist."""
    entries = yaml.safe_load(SURVIVORS.read_text(encoding="utf-8"))
    gone = []
    for entry in entries:
        files = [path for path in (ROOT / CODE).rglob("*.py") if path.match(entry.get("file", "*"))]
        lines = (line.strip() for path in files for line in path.read_text(encoding="utf-8").splitlines())
        if not any(line.startswith(entry["line"]) for line in lines):
            gone.append(f"{SURVIVORS.name}: no file matching {entry.get('file', '*')} has `{entry['line']}`")
    if gone:
        raise SystemExit("\n".join(gone))
    return entries


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutation tests of the rooms.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="a part of the path of the files to change")
    parser.add_argument(
        "--check", action="store_true", help="only look whether mutants.yml speaks of lines that exist"
    )
    options = parser.parse_args()
    entries = checked_survivors()
    if options.check:
        return 0
    folder = Path(tempfile.mkdtemp(prefix="mutants-"))
    try:
        trees: queue.Queue[Path] = queue.Queue()
        for number in range(options.jobs):
            trees.put(copy_checkout(folder / str(number)))
        mutants = sample(options.seed, options.count, options.only, entries)
        done = itertools.count(1)
        left = []

        def recorded_in(room: str) -> Recorded:
            tree = trees.get()
            try:
                return Recorded(tree, room)
            finally:
                trees.put(tree)

        def tried(mutant: Mutant) -> None:
            tree = trees.get()
            try:
                if survives(tree, mutant, recorded[mutant.room]):
                    left.append(mutant)
                    reason = reason_for(mutant, entries)
                    print(f"{described(mutant)}\n    {reason or 'NOT LISTED'}", flush=True)
            finally:
                trees.put(tree)
            number = next(done)
            if number % 20 == 0:
                print(f"{number} of {len(mutants)} tried, {len(left)} survive", file=sys.stderr, flush=True)

        with ThreadPoolExecutor(options.jobs) as pool:
            rooms = sorted({mutant.room for mutant in mutants})
            recorded = dict(zip(rooms, pool.map(recorded_in, rooms)))
            list(pool.map(tried, mutants))
    finally:
        shutil.rmtree(folder)
    percent = 100 * len(left) / max(len(mutants), 1)
    listed = sum(1 for mutant in left if reason_for(mutant, entries))
    print(f"{len(left)} of {len(mutants)} survive ({percent:.1f} %), {listed} of them listed with a reason")
    return int(percent > MOST_SURVIVORS_PERCENT)


if __name__ == "__main__":
    sys.exit(main())
