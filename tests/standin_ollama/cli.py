# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command ``ollama`` as far as a service needs it: ``ollama serve`` and ``ollama --version``."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from types import FrameType

from . import config, environment, gotext, gpus, runner
from .scheduler import Scheduler
from .server import serve

GO_PANIC_STATUS = 2
_PLACES_OF_A_PANIC = (
    "github.com/gin-contrib/cors.newCors", "github.com/gin-contrib/cors.New",
    "github.com/ollama/ollama/server.(*Server).GenerateRoutes", "github.com/ollama/ollama/server.Serve",
    "github.com/ollama/ollama/cmd.RunServer", "github.com/spf13/cobra.(*Command).execute",
    "github.com/spf13/cobra.(*Command).ExecuteC", "github.com/spf13/cobra.(*Command).Execute",
    "github.com/spf13/cobra.(*Command).ExecuteContext", "main.main",
)  # fmt: skip


def main() -> int:
    """Run one command; the result is the exit status."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["runner"]:
        runner.main()
    if arguments == ["serve"] or arguments == ["start"]:
        return _serve()
    if arguments in (["--version"], ["-v"]):
        return _version()
    print(f'Error: unknown command "{" ".join(arguments)}" for "ollama"', file=sys.stderr)
    return 1


def _version() -> int:
    settings = environment.parse(os.environ)
    own = config.load().version
    try:
        with urllib.request.urlopen(
            f"http://{settings.host}:{settings.port}/api/version", timeout=2
        ) as reply:
            reply.read()
        print(f"ollama version is {own}")
    except (OSError, urllib.error.URLError):
        print(f"Warning: could not connect to a running Ollama instance\nWarning: client version is {own}")
    return 0


def _serve() -> int:
    wishes = config.load()
    faults = wishes.active_faults(os.environ)
    for fault in faults:
        if fault.action == "exit_on_start":
            print("Error: stand-in told to die on start", file=sys.stderr)
            return int(fault.options.get("status", 1))
        if fault.action == "slow_start":
            time.sleep(float(fault.options.get("seconds", 10)))
        if fault.action == "exit_after":
            _exit_later(float(fault.options.get("seconds", 1)), int(fault.options.get("status", 1)))
    settings = environment.parse(os.environ)
    gotext.set_level(settings.config["OLLAMA_DEBUG"])
    if any(environment.is_bad_origin(origin) for origin in settings.config["OLLAMA_ORIGINS"]):
        return _panic(settings)
    scheduler = Scheduler(settings, wishes, (sys.executable, os.path.abspath(sys.argv[0])))
    try:
        server = serve(settings, wishes, scheduler)
    except OSError:
        where = f"[{settings.host}]" if ":" in settings.host else settings.host
        print(f"Error: listen tcp {where}:{settings.port}: bind: address already in use", file=sys.stderr)
        return 1
    _announce(settings, wishes, scheduler)

    def leave(_signal: int, _frame: FrameType | None) -> None:
        scheduler.stop()
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    server.serve_forever()
    return 0


def _panic(settings: environment.Settings) -> int:
    """What Go writes of an origin that its library for CORS refuses; recorded."""
    _announce_settings(settings)
    allowed = ",".join(f"{scheme}://" for scheme in environment.ORIGIN_SCHEMES_OF_CORS)
    gotext.write(f"panic: bad origin: origins must contain '*' or include {allowed}")
    gotext.write("\ngoroutine 1 [running]:")
    for place in _PLACES_OF_A_PANIC:
        gotext.write(f"{place}(...)\n\t{place.rpartition('.')[0]}.go:1 +0x1")
    return GO_PANIC_STATUS


def _announce_settings(settings: environment.Settings) -> None:
    gotext.log("INFO", "routes.go:1951", "server config", env=settings.server_config)
    gotext.log("INFO", "routes.go:1953", f"Ollama cloud disabled: {str(settings.no_cloud).lower()}")
    try:
        blobs = len(os.listdir(os.path.join(settings.models, "blobs")))
    except OSError:
        blobs = 0
    gotext.log("INFO", "images.go:919", f"total blobs: {blobs}")
    gotext.log("INFO", "images.go:926", "total unused blobs removed: 0")


def _announce(settings: environment.Settings, wishes: config.Config, scheduler: Scheduler) -> None:
    """The lines Ollama logs at its start, in its order."""
    _announce_settings(settings)
    where = f"[{settings.host}]" if ":" in settings.host else settings.host
    gotext.log("INFO", "routes.go:2008", f"Listening on {where}:{settings.port} (version {wishes.version})")
    gotext.log("INFO", "runner.go:60", "discovering available GPUs...")
    scheduler.log_discovery()
    visible = scheduler.visible_gpus()
    for gpu in visible:
        gotext.log(
            "INFO", "types.go:32", "inference compute", id=gpu.index, filter_id=gpu.index, library="CUDA",
            compute=gpu.compute_capability, name=f"CUDA{gpu.index}", description=gpu.name,
            libdirs="ollama,cuda_v13", driver="13.0", pci_id=gpu.pci_bus_id, type="discrete",
            total=gotext.human_size(gpu.total_bytes), available=gotext.human_size(gpu.free_bytes),
        )  # fmt: skip
    if not visible:
        total, free = gpus.system_memory()
        gotext.log(
            "INFO", "types.go:50", "inference compute", id="cpu", library="cpu", compute="", name="cpu",
            description="cpu", libdirs="ollama", driver="", pci_id="", type="",
            total=gotext.human_size(total), available=gotext.human_size(free),
        )  # fmt: skip
    gotext.log(
        "INFO", "routes.go:2058", "vram-based default context",
        total_vram=gotext.human_size(sum(gpu.total_bytes for gpu in visible)),
        default_num_ctx=scheduler.default_context(),
    )  # fmt: skip


def _exit_later(seconds: float, status: int) -> None:
    def leave() -> None:
        time.sleep(seconds)
        os._exit(status)

    threading.Thread(target=leave, daemon=True).start()
