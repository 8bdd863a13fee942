# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the stand-in makes of its environment, beside what Ollama v0.33.0-rc2 logged."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path

import pytest
from ansible_collections.gpufleet.ollama.tests.standin_ollama import environment

from ..conftest import CAPTURES, Server, Start

RECORDED = {
    "HOME": "/usr/share/ollama",
    "OLLAMA_HOST": "127.0.0.1:21434",
    "OLLAMA_NO_CLOUD": "1",
    "OLLAMA_DEBUG": "1",
}


def logged(path: Path) -> str:
    found = re.search(r'msg="server config" env="(.*)"', path.read_text())
    assert found
    return found.group(1)


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in CAPTURES.glob("*/ENV.txt")))
def test_logs_the_environment_as_recorded(folder: str) -> None:
    words = (CAPTURES / folder / "ENV.txt").read_text().split()
    variables = dict(word.split("=", 1) for word in words if word.startswith("OLLAMA_"))
    settings = environment.parse({**RECORDED, **variables})
    assert settings.server_config == logged(CAPTURES / folder / "server.log")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("OLLAMA_NUM_PARALLEL", "3", "3"),
        ("OLLAMA_NUM_PARALLEL", ' "3" ', "3"),
        ("OLLAMA_NUM_PARALLEL", "three", "1"),
        ("OLLAMA_NUM_PARALLEL", "-1", "1"),
        ("OLLAMA_GPU_OVERHEAD", "8G", "0"),
        ("OLLAMA_CONTEXT_LENGTH", "8k", "0"),
        ("OLLAMA_MAX_QUEUE", "", "512"),
        ("OLLAMA_SCHED_SPREAD", "yes", "true"),
        ("OLLAMA_SCHED_SPREAD", "f", "false"),
        ("OLLAMA_FLASH_ATTENTION", "off", "true"),
        ("OLLAMA_KEEP_ALIVE", "-1", "2562047h47m16.854775807s"),
        ("OLLAMA_KEEP_ALIVE", "90", "1m30s"),
        ("OLLAMA_KEEP_ALIVE", "soon", "5m0s"),
        ("OLLAMA_LOAD_TIMEOUT", "0", "2562047h47m16.854775807s"),
        ("OLLAMA_HOST", "0.0.0.0", "http://0.0.0.0:11434"),
        ("OLLAMA_HOST", "https://example.org", "https://example.org:443"),
        ("OLLAMA_HOST", ":8080", "http://:8080"),
        ("OLLAMA_HOST", "[::1]:1234", "http://[::1]:1234"),
        ("OLLAMA_HOST", "1.2.3.4:99999", "http://1.2.3.4:11434"),
        ("OLLAMA_HOST", "127.0.0.1:11901/ollama", "http://127.0.0.1:11901/ollama"),
        ("OLLAMA_HOST", "[::1%lo]:0", "http://[::1%25lo]:0"),
        ("OLLAMA_KEEP_ALIVE", "9300000000", "2562047h47m16.854775807s"),
        ("OLLAMA_DEBUG", "2", "DEBUG-4"),
        ("OLLAMA_MODELS", "/srv/models", "/srv/models"),
    ],
)
def test_reads_a_variable_as_ollama_does(name: str, value: str, shown: str) -> None:
    settings = environment.parse({"HOME": "/root", name: value})
    assert str(settings.config[name]).lower() == shown.lower()


def test_warns_of_a_number_it_cannot_read(start: Start) -> None:
    server = start(OLLAMA_NUM_PARALLEL="many")
    warning = 'level=WARN source=config.go:263 msg="invalid environment variable, using default"'
    assert f"{warning} key=OLLAMA_NUM_PARALLEL value=many default=1" in server.log


@pytest.mark.parametrize(
    ("gpus_gib", "context"), [((), 4096), ((12,), 4096), ((24,), 32768), ((24, 24), 262144)]
)
def test_the_default_context_follows_the_memory_of_all_gpus(
    start: Start, gpus_gib: tuple[float, ...], context: int
) -> None:
    server = start(gpus_gib=gpus_gib)
    assert re.search(
        rf'msg="vram-based default context" total_vram="[^"]+" default_num_ctx={context}$', server.log, re.M
    )
    assert server.log.count('msg="inference compute"') == max(len(gpus_gib), 1)


def test_ends_with_gos_words_where_the_port_is_taken(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = start(wait=False, OLLAMA_HOST=f"127.0.0.1:{port}")
        assert server.process.wait(20) == 1
    assert f"Error: listen tcp 127.0.0.1:{port}: bind: address already in use" in server.log


def test_shows_the_version_it_is_told(start: Start) -> None:
    assert start(config={"version": "0.12.3"}).ask("GET", "/api/version").json() == {"version": "0.12.3"}


# What a server logs of Ollama's cloud and of its own caches.
NOT_STOOD_IN_FOR = frozenset(
    ("model_list_cache.go", "model_recommendations.go", "model_show_cache.go", "images.go", "sched.go")
)
LINE = re.compile(r'^time=\S+ level=(\w+) source=(\w+\.go:\d+) msg=("(?:[^"\\]|\\.)*"|\S+)(.*)$')


def shape_of(log: str, beyond: frozenset[str] = NOT_STOOD_IN_FOR) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """Level, place, message without numbers, and names of the fields of every line."""
    found = [match.groups() for match in map(LINE.match, log.splitlines()) if match]
    return [
        (level, source, re.sub(r"[\d.:]+", "0", message), tuple(re.findall(r"(\w+)=", re.sub(r'"(?:[^"\\]|\\.)*"', "", rest))))
        for level, source, message, rest in found
        if source.partition(":")[0] not in beyond or message.startswith('"total ')
    ]


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("normal", {}),
        ("debug_minus_1", {"OLLAMA_DEBUG": "-1"}),
    ],
)
def test_logs_a_start_as_recorded(start: Start, name: str, variables: dict[str, str]) -> None:
    told = (CAPTURES / "real_cpu" / "start_log" / f"{name}.log").read_text()
    server = start(wait=not variables, **variables)
    if variables:
        _until_it_answers(server)
    assert shape_of(server.log) == shape_of(told)


def _until_it_answers(server: Server) -> None:
    for _attempt in range(100):
        try:
            assert server.ask("GET", "/api/version").status == 200
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(server.log)


def test_warns_as_recorded_of_a_number_it_cannot_read(start: Start) -> None:
    told = (CAPTURES / "real_cpu" / "start_log" / "num_parallel_unparsable.log").read_text()
    server = start(OLLAMA_NUM_PARALLEL="four")
    assert shape_of(server.log)[0] == shape_of(told)[0]


def test_logs_a_load_as_recorded(start: Start) -> None:
    told = (CAPTURES / "real_cpu" / "load_tiny_models.log").read_text()
    server = start()
    server.ask("POST", "/api/generate", {"model": "gemma3-270m"})
    recorded = iter(shape_of(told, set()))
    logged = shape_of(server.log, set())
    assert [line for line in logged if line not in recorded] == []
    kinds = re.compile(r"^(\w+): +CPU (\w+) buffer size = +[\d.]+ MiB$", re.M)
    assert set(kinds.findall(server.log)) <= set(kinds.findall(told))
    assert kinds.findall(server.log) != []
