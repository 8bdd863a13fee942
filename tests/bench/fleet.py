# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints what a run over many hosts costs, beside a playbook that only does what an admin would script by hand.

python tests/bench/fleet.py [--hosts 1000] [--real 50] [--rounds 3] [--forks 10] [--settings] [--far MS ...] [--check]
python tests/bench/fleet.py --changed HOSTS [--rounds 3] [--forks 10]

1. Executions: modules run on each of the real hosts (systemd in containers, over ssh) where nothing changes, counted at
   the connection, and how many bytes are sent for each.
2. Time: an unchanged site.yml in one batch and in its default batches, drift.yml and the playbook by hand, in turn, on
   the same hosts with the same forks and connection. On a busy machine only their ratio means something. With
   --settings also other forks, and without what ansible.cfg sets, one after the other. With --far also with hosts whose
   answers come later by so many ms.
3. Growth: the same on stand-ins, whose connection answers at once with what a real host answered: what is left is the
   control node's own work. Memory is that of the largest process, and held to the promise between the two largest
   fleets: in small ones what a run keeps of a host still fits into memory that the process has taken to start.
4. The report of the largest fleet, made of the facts of tests/report/fleet.py.

With --changed nothing of that but site.yml and the playbook by hand where a value changes, each on so many hosts of its
own: from the start to a service that was restarted and looked at.

With --check it fails where a figure is worse than the project promises. Booting hosts needs root.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _collection import REPOSITORY

sys.path[:0] = [str(REPOSITORY / "tests" / "hosts")]

import fleet as hosts  # noqa: E402  # the hosts' own programs are scripts beside each other, no package
import yaml  # noqa: E402

HERE = Path(__file__).with_name("fleet_speed")
SITE, DRIFT = REPOSITORY / "playbooks" / "site.yml", REPOSITORY / "playbooks" / "drift.yml"
BY_HAND = HERE / "by_hand.yml"
ONE_BATCH = ("-e", "gpufleet_serial=100%")
SMALL_FLEET, MIDDLE_FLEET = 10, 100
MIB = 1 << 20
# What an unchanged run may cost at most.
MOST_EXECUTIONS = {SITE: 1, DRIFT: 1}
MOST_TIMES_BY_HAND = 1.0  # on the clock, and of the control node's processors for each host
MOST_SENT_KIB = 450
MOST_GROWTH = 1.1  # of time per host from the small fleet to the largest
MOST_KIB_FOR_A_HOST_MORE = 40  # of the largest process, which is another one in larger fleets
MOST_REPORT_SECONDS, MOST_REPORT_BYTES = 5.0, 5 * MIB


@dataclass(frozen=True)
class Cost:
    """What a run took: on the clock, of the control node's processors, and memory at its peak."""

    wall_seconds: float
    cpu_seconds: float
    memory_bytes: int


@dataclass
class Verdict:
    """What was found worse than promised."""

    broken: list[str] = field(default_factory=list)

    def hold(self, what: str, found: float, most: float) -> None:
        if found > most:
            self.broken.append(f"{what} is {found:.2f}, promised at most {most:g}")


def main() -> None:
    arguments = parse_arguments()
    if arguments.changed:
        print_changed(arguments)
        return
    verdict = Verdict()
    with tempfile.TemporaryDirectory(prefix="gpufleet-bench-") as name:
        answers = Path(name, "answers")
        with real_hosts(arguments.real) as inventory:
            for playbook in (SITE, BY_HAND):
                play(playbook, inventory, arguments.forks)  # from here on nothing changes
            print_executions(inventory, arguments, Path(name), answers, verdict)
            ratios = print_times(inventory, arguments, verdict)
            if arguments.settings:
                print_settings(inventory, arguments)
            for milliseconds in arguments.far:
                print_far(inventory, arguments, milliseconds)
        cpu_ms = print_growth(arguments, Path(name), answers, verdict)
        for playbook in ("site.yml, one batch", "drift.yml"):
            times = cpu_ms[playbook] / cpu_ms["by hand"]
            verdict.hold(f"processor time of {playbook} in times of that by hand", times, MOST_TIMES_BY_HAND)
    print_report(arguments.hosts, verdict)
    print("\nworse than promised: " + ("; ".join(verdict.broken) or "nothing"))
    # For programs: times of the playbook by hand, and the control node's processor time per stand-in.
    print(
        f"site_ratio={ratios['site.yml, one batch']:.2f} drift_ratio={ratios['drift.yml']:.2f}"
        f" cpu_ms_per_host={cpu_ms['site.yml, one batch']:.0f} drift_cpu_ms_per_host={cpu_ms['drift.yml']:.0f}"
        f" by_hand_cpu_ms_per_host={cpu_ms['by hand']:.0f} hosts={arguments.hosts}"
    )
    if arguments.check and verdict.broken:
        sys.exit(1)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=1000, help="stand-ins in the largest fleet")
    parser.add_argument("--real", type=int, default=50, help="hosts with systemd and ssh")
    parser.add_argument("--rounds", type=int, default=3, help="how often the playbooks take turns")
    parser.add_argument("--forks", type=int, default=10)
    parser.add_argument("--settings", action="store_true", help="also time other settings of Ansible")
    parser.add_argument(
        "--far", type=int, nargs="*", default=[], metavar="MS", help="also time hosts a round trip away"
    )
    parser.add_argument(
        "--changed", type=int, default=0, help="only hosts where a value changes, so many of each"
    )
    parser.add_argument("--check", action="store_true", help="fail where a promise is broken")
    return parser.parse_args()


@contextlib.contextmanager
def real_hosts(count: int) -> Iterator[Path]:
    """Hosts like each other, with two models that one card holds together; their inventory."""
    like = {"suite": "bookworm", "gpus": "rtx3060_12gb", "models": ["llama3.2:3b", "nomic-embed-text"]}
    described = {"defaults": like, "hosts": {f"gpu{number:03d}": None for number in range(count)}}
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as spec:
        yaml.safe_dump(described, spec)
        spec.flush()
        made = hosts.read_spec(Path(spec.name), "bench")
    hosts.up(made)
    try:
        yield made.inventory
    finally:
        hosts.down(made)


def play(playbook: Path, inventory: Path, forks: int, *arguments: str | Path, **environment: str) -> Cost:
    """Run a playbook. Exits where it fails or a host has a change that the caller did not expect."""
    command = [*ANSIBLE_PLAYBOOK, "-i", inventory, f"--forks={forks}", playbook, *arguments]
    cost = run(command, environment)
    # The tables come only after many of these.
    print(f"  {inventory.stem}: {playbook.name} took {cost.wall_seconds:.1f} s", file=sys.stderr)
    return cost


ANSIBLE_PLAYBOOK: Sequence[str | Path] = [Path(sys.executable).with_name("ansible-playbook")]


def run(command: Sequence[str | Path], environment: Mapping[str, str]) -> Cost:
    settings = {
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_CONNECTION_PLUGINS": str(HERE / "connection_plugins"),
        "ANSIBLE_NOCOLOR": "1",
    }
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        running = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **settings, **environment},
            stdout=output,
            stderr=output,
        )
        _pid, status, used = os.wait4(running.pid, 0)
        wall = time.monotonic() - started
        if status:
            output.seek(0)
            sys.exit(f"{' '.join(map(str, command))} failed:\n{output.read()[-6000:]}")
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def print_executions(
    inventory: Path, arguments: argparse.Namespace, folder: Path, answers: Path, verdict: Verdict
) -> None:
    """Count what the connections carry, and keep the answers for the stand-ins."""
    print("\nan unchanged run on one host        executions   KiB sent   of these")
    answers.mkdir()
    sizes: dict[str, int] = {}
    for playbook in (SITE, DRIFT, BY_HAND):
        recording = folder / f"{playbook.stem}.jsonl"
        command = [sys.executable, HERE / "recorded_playbook.py", recording, "-i", inventory, playbook]
        run([*command, f"--forks={arguments.forks}", *ONE_BATCH], {})
        with open(recording) as file:
            executions = [json.loads(line) for line in file]
        per_host = collections.Counter(one["host"] for one in executions)
        on_first = [one for one in executions if one["host"] == executions[0]["host"]]
        for one in executions:
            sizes[one["module"]] = one["sent_bytes"]
            (answers / one["key"]).write_text(one["answer"])
        sent = sum(one["sent_bytes"] for one in on_first)
        names = collections.Counter(one["module"] for one in on_first)
        listed = ", ".join(f"{name} x{times}" if times > 1 else name for name, times in names.items())
        most = max(per_host.values())
        print(f"{playbook.name:35} {most:10} {sent / 1024:10.0f}   {listed}")
        verdict.hold(f"executions of {playbook.name}", most, MOST_EXECUTIONS.get(playbook, most))
        if playbook in MOST_EXECUTIONS:
            verdict.hold(f"KiB sent by {playbook.name}", sent / 1024, MOST_SENT_KIB)
    print("\nmodule                              KiB sent")
    for name, size in sorted(sizes.items(), key=lambda pair: -pair[1]):
        print(f"{name:35} {size / 1024:8.0f}")


def print_times(inventory: Path, arguments: argparse.Namespace, verdict: Verdict) -> dict[str, float]:
    """The playbooks in turn, so that what else the machine does meets all of them; wall times in times of that by hand."""
    runs: dict[str, tuple[Path, Sequence[str]]] = {
        "by hand": (BY_HAND, ()),
        "site.yml, one batch": (SITE, ONE_BATCH),
        "site.yml, default batches": (SITE, ()),
        "drift.yml": (DRIFT, ()),
    }
    costs: dict[str, list[Cost]] = collections.defaultdict(list)
    for _round in range(arguments.rounds):
        for name, (playbook, options) in runs.items():
            costs[name].append(play(playbook, inventory, arguments.forks, *options))
    print(f"\nnothing to change on {arguments.real} hosts over ssh, {arguments.forks} forks, load {load()}")
    ratios = print_costs(costs)
    for name in ("site.yml, one batch", "drift.yml"):
        verdict.hold(f"wall time of {name} in times of that by hand", ratios[name], MOST_TIMES_BY_HAND)
    return ratios


def print_costs(costs: Mapping[str, Sequence[Cost]]) -> dict[str, float]:
    """A line for each playbook whose runs took turns; the medians of their wall times in times of that by hand."""
    print("run                          wall s (each round)           times by hand    CPU s, control node")
    ratios = {}
    for name, took in costs.items():
        pairs = zip(took, costs["by hand"])
        ratios[name] = statistics.median(one.wall_seconds / by.wall_seconds for one, by in pairs)
        cpu = statistics.median(one.cpu_seconds for one in took)
        walls = " ".join(f"{one.wall_seconds:6.1f}" for one in took)
        print(f"{name:28} {walls:30} {ratios[name]:12.2f} {cpu:22.1f}")
    return ratios


def print_changed(arguments: argparse.Namespace) -> None:
    """Both playbooks in turn, each on hosts of its own, with a value that is another in each round."""
    costs: dict[str, list[Cost]] = collections.defaultdict(list)
    with real_hosts(2 * arguments.changed) as inventory:
        names = sorted(yaml.safe_load(inventory.read_text())["all"]["hosts"])
        ours, by_hand = ",".join(names[::2]), ",".join(names[1::2])
        # The playbook by hand expects it, as site.yml makes it where both run on the same hosts.
        folder = "path=/etc/systemd/system/ollama.service.d state=directory mode=0755"
        ansible = Path(sys.executable).with_name("ansible")
        run(
            [ansible, "-i", inventory, "all", "--limit", by_hand, "-m", "ansible.builtin.file", "-a", folder],
            {},
        )
        for number in range(arguments.rounds + 1):
            requests = 3 + number % 2
            environment = {"OLLAMA_MAX_LOADED_MODELS": "2", "OLLAMA_NUM_PARALLEL": str(requests)}
            runs: dict[str, tuple[Path, str, dict[str, Any]]] = {
                "by hand": (BY_HAND, by_hand, {"by_hand_environment": environment}),
                "site.yml, one batch": (
                    SITE,
                    ours,
                    {"ollama_plan_requests": requests, "gpufleet_serial": "100%"},
                ),
            }
            for name, (playbook, limit, variables) in runs.items():
                options = ("--limit", limit, "-e", json.dumps(variables))
                cost = play(playbook, inventory, arguments.forks, *options)
                if number:  # the first one finds hosts as they were made
                    costs[name].append(cost)
    print(f"\na changed value on {arguments.changed} hosts over ssh, {arguments.forks} forks, load {load()}")
    print_costs(costs)


def print_far(inventory: Path, arguments: argparse.Namespace, milliseconds: int) -> None:
    """The playbooks in turn on the same hosts, whose answers come a round trip later."""
    proxy = f"-o ProxyCommand='{sys.executable} {HERE / 'far.py'} {milliseconds} %h %p'"
    path = f"ansible_control_path=/dev/shm/gpufleet-hosts/far-{milliseconds}-%%C"
    costs: dict[str, list[Cost]] = collections.defaultdict(list)
    for _round in range(arguments.rounds):
        for name, playbook in (("by hand", BY_HAND), ("site.yml, one batch", SITE), ("drift.yml", DRIFT)):
            options = ONE_BATCH if playbook == SITE else ()
            environment = {"ANSIBLE_SSH_EXTRA_ARGS": proxy}
            cost = play(playbook, inventory, arguments.forks, *options, "-e", path, **environment)
            costs[name].append(cost)
    print(f"\nevery answer {milliseconds} ms later, load {load()}")
    print_costs(costs)


def print_settings(inventory: Path, arguments: argparse.Namespace) -> None:
    """What each setting is worth, on an unchanged site.yml in one batch."""
    facts = HERE / "gather_facts.yml"
    settings: dict[str, tuple[int, Sequence[Path], dict[str, str]]] = {
        "5 forks": (5, (), {}),
        "10 forks": (10, (), {}),
        "25 forks": (25, (), {}),
        "50 forks": (50, (), {}),
        "without pipelining": (arguments.forks, (), {"ANSIBLE_PIPELINING": "0"}),
        "without ControlPersist": (arguments.forks, (), {"ANSIBLE_SSH_ARGS": "-o ControlMaster=no"}),
        "with fact gathering before": (arguments.forks, (facts,), {}),
    }
    print("\nsite.yml, one batch              wall s    CPU s, control node    load")
    for name, (forks, more, environment) in settings.items():
        cost = play(SITE, inventory, forks, *more, *ONE_BATCH, **environment)
        print(f"{name:30} {cost.wall_seconds:8.1f} {cost.cpu_seconds:22.1f} {load():>7}")


def print_growth(
    arguments: argparse.Namespace, folder: Path, answers: Path, verdict: Verdict
) -> dict[str, float]:
    """The control node's own work on fleets of growing size; ms of its processor per host of the largest."""
    cpu_ms = {}
    half = (MIDDLE_FLEET + arguments.hosts) // 2
    sizes = sorted(
        {min(size, arguments.hosts) for size in (1, SMALL_FLEET, MIDDLE_FLEET, half, arguments.hosts)}
    )
    print(f"\nthe control node alone, {arguments.forks} forks; the first host of a fleet is not counted")
    print(
        "run                     hosts    wall s   CPU ms per host   MiB at peak   KiB per further host    load"
    )
    for name, playbook, options in (
        ("by hand", BY_HAND, ()),
        ("site.yml, one batch", SITE, ONE_BATCH),
        ("drift.yml", DRIFT, ()),
    ):
        costs = usual_costs(sizes, playbook, options, arguments, folder, answers)
        times, memories = {}, {}
        for smaller, size in zip(sizes, sizes[1:]):
            cost = costs[size]
            times[size] = (cost.cpu_seconds - costs[1].cpu_seconds) / (size - 1)
            memories[size] = (cost.memory_bytes - costs[smaller].memory_bytes) / (size - smaller)
            print(
                f"{name:23} {size:5} {cost.wall_seconds:9.1f} {times[size] * 1000:17.0f} "
                f"{cost.memory_bytes / MIB:13.0f} {memories[size] / 1024:22.0f} {load():>7}"
            )
        cpu_ms[name] = times[sizes[-1]] * 1000
        if playbook != BY_HAND and arguments.hosts > MIDDLE_FLEET:
            time_growth = times[arguments.hosts] / times[SMALL_FLEET]
            verdict.hold(f"growth of time per host of {playbook.name}", time_growth, MOST_GROWTH)
            memory_kib = memories[arguments.hosts] / 1024
            verdict.hold(f"KiB for a host more of {playbook.name}", memory_kib, MOST_KIB_FOR_A_HOST_MORE)
    return cpu_ms


def usual_costs(
    sizes: Sequence[int],
    playbook: Path,
    options: Sequence[str],
    arguments: argparse.Namespace,
    folder: Path,
    answers: Path,
) -> dict[int, Cost]:
    """For each size the median of its runs on so many stand-ins.

    Runs of a few seconds vary by a tenth, and machines get slower and faster: small fleets are run often, half of the
    times before the large ones and half after.
    """
    small = [size for size in sizes if size <= SMALL_FLEET] * arguments.rounds * 2
    middle = [size for size in sizes if SMALL_FLEET < size <= MIDDLE_FLEET] * arguments.rounds
    large = [size for size in sizes if size > MIDDLE_FLEET]
    runs: dict[int, list[Cost]] = {size: [] for size in sizes}
    for size in [*small, *middle, *large, *small]:
        inventory = stand_ins(size, folder, answers)
        runs[size].append(play(playbook, inventory, arguments.forks, *options))
    return {
        size: Cost(
            statistics.median(cost.wall_seconds for cost in costs),
            statistics.median(cost.cpu_seconds for cost in costs),
            int(statistics.median(cost.memory_bytes for cost in costs)),
        )
        for size, costs in runs.items()
    }


def stand_ins(count: int, folder: Path, answers: Path) -> Path:
    """The inventory of hosts that are not there."""
    inventory = folder / f"stand-ins-{count}.yml"
    names = {f"gpu{number:04d}": {} for number in range(count)}
    variables: dict[str, Any] = {
        "ansible_connection": "stand_in",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_remote_tmp": str(folder / "tmp"),
        "stand_in_answers": str(answers),
        "gpufleet_report_dir": str(folder / "report"),
    }
    inventory.write_text(json.dumps({"ollama": {"hosts": names, "vars": variables}}))
    return inventory


def print_report(count: int, verdict: Verdict) -> None:
    """The page of a mixed fleet, made as the role has it made."""
    from ansible_collections.gpufleet.ollama.plugins.module_utils.report._host_data import HostData
    from ansible_collections.gpufleet.ollama.plugins.module_utils.report._known import known_of
    from ansible_collections.gpufleet.ollama.plugins.module_utils.report._report import fleet_report
    from ansible_collections.gpufleet.ollama.plugins.plugin_utils._html_page import fill_page
    from ansible_collections.gpufleet.ollama.tests.report.fleet import fleet

    template = (REPOSITORY / "roles/ollama_report/templates/report.html.j2").read_text()
    facts = fleet(count)
    started = time.monotonic()
    known = (HostData(**known_of(name, variables)) for name, variables in facts.items())
    page = "".join(fill_page(fleet_report(known, "2026-01-01T00:00:00Z"), template, "Fleet", ""))
    seconds = time.monotonic() - started
    size = len(page.encode())
    print(
        f"\nthe report of {count} hosts: {seconds:.1f} s, {size / MIB:.2f} MiB (tests/report works it in a browser)"
    )
    verdict.hold("seconds for the report", seconds, MOST_REPORT_SECONDS)
    verdict.hold("bytes of the report", size, MOST_REPORT_BYTES)


def load() -> str:
    return f"{os.getloadavg()[0]:.0f}"


if __name__ == "__main__":
    main()
