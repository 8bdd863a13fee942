# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test hosts that boot real systemd, for Molecule, the demo and the benchmarks.

python tests/hosts/hosts.py image [SUITE ...]       make and cache the images
python tests/hosts/hosts.py up NAME --spec FILE     boot a fleet (inventory: .build/hosts/NAME/inventory.yml)
python tests/hosts/hosts.py exec NAME HOST COMMAND  run a command in a host
python tests/hosts/hosts.py list                    what is up
python tests/hosts/hosts.py down NAME               remove a fleet, or --all of this checkout
python tests/hosts/hosts.py molecule SCENARIO       run a Molecule scenario as root, from create to destroy
python tests/hosts/hosts.py pytest PATH [OPTIONS]   run tests that boot hosts, as root
python tests/hosts/hosts.py clean                   remove this checkout's hosts and the cached images
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import engine
import fleet
import images


def main() -> None:
    arguments = parse_arguments()
    try:
        engine.become_root()
        arguments.action(arguments)
    except engine.HostsError as error:
        sys.exit(f"hosts: {error}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    action = actions.add_parser("image", help="make and cache the images")
    action.add_argument("suites", nargs="*", metavar="SUITE", default=list(images.default_suites()))
    action.set_defaults(action=make_images)

    action = actions.add_parser("up", help="boot a fleet")
    action.add_argument("name")
    action.add_argument("--spec", type=Path, required=True, help="YAML file that describes the hosts")
    action.set_defaults(action=lambda a: fleet.up(fleet.read_spec(a.spec, a.name)))

    action = actions.add_parser("exec", help="run a command in a host")
    action.add_argument("name")
    action.add_argument("host")
    action.add_argument("command", nargs=argparse.REMAINDER)
    action.set_defaults(action=lambda a: print(fleet.execute(fleet.Fleet(a.name), a.host, a.command), end=""))

    action = actions.add_parser("list", help="what is up")
    action.set_defaults(action=lambda a: print("\n".join(engine.containers(fleet.LABEL))))

    action = actions.add_parser("down", help="remove a fleet")
    chosen = action.add_mutually_exclusive_group(required=True)
    chosen.add_argument("name", nargs="?")
    chosen.add_argument("--all", action="store_true", help="every fleet of this checkout")
    action.set_defaults(action=lambda a: fleet.down_all() if a.all else fleet.down(fleet.Fleet(a.name)))

    action = actions.add_parser("molecule", help="run a Molecule scenario")
    action.add_argument("scenario")
    action.add_argument("step", nargs="?", default="test", help="default: test, from create to destroy")
    action.set_defaults(action=molecule)

    action = actions.add_parser("pytest", help="run tests that boot hosts")
    action.add_argument("path")
    action.add_argument("options", nargs=argparse.REMAINDER)
    action.set_defaults(action=run_pytest)

    action = actions.add_parser("clean", help="remove this checkout's hosts and the cached images")
    action.set_defaults(action=clean)
    return parser.parse_args()


def make_images(arguments: argparse.Namespace) -> None:
    engine.require("podman", "runc")
    for suite, name in images.ensure(arguments.suites).items():
        engine.say(f"{suite}: {name}")
    engine.clean_up_when_unused()


def molecule(arguments: argparse.Namespace) -> None:
    """Molecule as root: it starts this program without a terminal, where sudo could not ask."""
    programs = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ.get('PATH', '')}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MOLECULE_COMMAND_BORDERS": "false",
    }
    command = ["molecule", arguments.step, "--scenario-name", arguments.scenario]
    sys.exit(subprocess.run(command, cwd=fleet.CHECKOUT, env=environment, check=False).returncode)


def run_pytest(arguments: argparse.Namespace) -> None:
    """Pytest as root, without a cache, which would belong to root in the caller's checkout."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", arguments.path, *arguments.options]
    sys.exit(subprocess.run(command, cwd=fleet.CHECKOUT, check=False).returncode)


def clean(_arguments: argparse.Namespace) -> None:
    fleet.down_all()
    if engine.containers():
        raise engine.HostsError(
            "test hosts of another checkout are up, so the images stay: " + ", ".join(engine.containers())
        )
    images.remove_all()


if __name__ == "__main__":
    main()
