# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ollama keeps and says: GGUF files, the store, the API, its environment and its log; and stored benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._buffers import buffers_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._conditions import conditions_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._measured import measured_parallel
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._stored import StoredError, read
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._json import read_json
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._taken import (
    NamedGpu,
    dropped_words,
    is_taken,
    why_not,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import (
    Api,
    ApiError,
    address_of,
    url_of_host,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._gguf import (
    GgufError,
    read_header,
    read_parts,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._go_text import (
    duration_text,
    parse_bool,
    parse_duration_ns,
    parse_int,
    parse_uint,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._installed import (
    InstalledModel,
    ModelError,
    UnplannableError,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._inventory import InventoryError, gather
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._pulling import MakingError, Told
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._registry import (
    UnknownModelError,
    manifest_in,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._residence import (
    files_of,
    loaded_model,
    runner_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._room import no_room
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_config import (
    find_server_config,
    parse_map,
    unparsed,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_log import (
    read_server_log,
    server_log_from_dict,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._settings import (
    KNOWN,
    as_printed,
    problems,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._store import (
    StoreError,
    installed,
    read_model,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._values import address
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import masked_environment
from ansible_collections.gpufleet.ollama.plugins.modules.ollama_host_info import MOST_BYTES
from ansible_collections.gpufleet.ollama.tests.fuzz.target import (
    SEPARATOR,
    Folder,
    Target,
    as_json,
    changed,
    split,
    text,
)
from ansible_collections.gpufleet.ollama.tests.model_store.gguf_writer import header_bytes, tensor_data_bytes

# The smallest model that says all that planning asks for.
HEADER = {
    "file_bytes": 4096,
    "metadata": {
        "general.architecture": "llama",
        "general.file_type": 15,
        "llama.block_count": 1,
        "llama.context_length": 4096,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 128,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": [2],
        "tokenizer.ggml.tokens": {"array_length": 20},
    },
    "tensors": [
        ["token_embd.weight", "F16", [64, 2]],
        ["blk.0.attn_q.weight", "Q4_0", [64, 1]],
        ["output.weight", "F32", [64, 1]],
    ],
}


def _file(header: Mapping[str, Any]) -> bytes:
    return header_bytes(dict(header)) + bytes(tensor_data_bytes(header["tensors"]))


GGUF = _file(HEADER)


def _part(number: int) -> bytes:
    split_keys = {"split.no": number, "split.count": 2, "split.tensors.count": 6}
    return _file({**HEADER, "metadata": {**HEADER["metadata"], **split_keys}})


def _gguf(data: bytes) -> None:
    _FILES.write({"model.gguf": data})
    header = read_header(str(_FILES.path / "model.gguf"))
    json.dumps(InstalledModel("m:latest", "sha256-x", "", "", header, 0, 0, 0, {}).shape().to_dict())


def _gguf_parts(data: bytes) -> None:
    names = ("part-00001-of-00002.gguf", "part-00002-of-00002.gguf")
    _FILES.write(dict(zip(names, split(data, 2))))
    paths = [str(_FILES.path / name) for name in names]
    json.dumps(read_parts(paths))
    json.dumps(read_header(paths[0]))


# The digests of the model, the configuration and the parameters.
_MODEL, _CONFIG, _PARAMETERS = (letter * 64 for letter in "abc")
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "config": {"digest": f"sha256:{_CONFIG}", "size": 10},
    "layers": [
        {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{_MODEL}", "size": len(GGUF)},
        {"mediaType": "application/vnd.ollama.image.params", "digest": f"sha256:{_PARAMETERS}", "size": 64},
    ],
}
_LIST = {
    "mediaType": "application/vnd.ollama.manifest.list.v2+json",
    "manifests": [{"runner": "ollama", **MANIFEST}, {"runner": "mlx", "digest": f"sha256:{_CONFIG}"}],
}
CONFIGURATION = {"model_family": "llama", "file_type": "Q4_K_M", "model_format": "gguf", "remote_host": ""}
PARAMETERS = {"num_ctx": 8192.0, "num_batch": 512, "stop": ["a"]}


def _store(data: bytes) -> None:
    _read_store(*split(data, 4))


def _store_structure(data: bytes) -> None:
    told = changed({"manifest": MANIFEST, "configuration": CONFIGURATION, "parameters": PARAMETERS}, data)
    told = told if isinstance(told, dict) else {}
    _read_store(*(as_json(told.get(name)) for name in ("manifest", "configuration", "parameters")), GGUF)


def _read_store(manifest: bytes, configuration: bytes, parameters: bytes, model: bytes) -> None:
    files = {
        "manifests/registry.ollama.ai/library/m/latest": manifest,
        f"blobs/sha256-{_CONFIG}": configuration,
        # So that its size is as the manifest says.
        f"blobs/sha256-{_PARAMETERS}": parameters.ljust(64),
        f"blobs/sha256-{_MODEL}": model,
    }
    _STORE.write(files)
    models_path = str(_STORE.path)
    for found in installed(models_path):
        json.dumps(read_model(models_path, found).shape().to_dict())


@dataclass(frozen=True)
class _Answering(Api):
    """A server that answers so."""

    replies: Mapping[str, bytes] = field(default_factory=dict)

    def _exchange(
        self, method: str, path: str, body: Mapping[str, Any] | None, max_bytes: int
    ) -> tuple[int, bytes]:
        reply = self.replies[path]
        return (500 if reply.endswith(b"!") else 200), reply


REPLIES = {
    "/api/version": {"version": "0.33.0"},
    "/api/tags": {
        "models": [
            {
                "name": "m:latest",
                "size": 1_000_000,
                "remote_host": "",
                "details": {"format": "gguf", "family": "llama", "quantization_level": "Q4_K_M"},
            }
        ]
    },
    "/api/ps": {"models": [{"name": "m:latest", "size": 2, "size_vram": 1, "context_length": 4096}]},
    "/api/show": {
        "details": {},
        "modelfile": "# x\nFROM /tmp/x\nADAPTER /tmp/y\nPARAMETER a 1",
        "parameters": 'num_ctx 4096\nstop "a"',
        "model_info": {name: value for name, value in HEADER["metadata"].items() if "tokens" not in name},
        "tensors": [dict(zip(("name", "type", "shape"), tensor)) for tensor in HEADER["tensors"]],
        "projector_info": {"clip.projector_type": "gemma3", "clip.vision.patch_size": 14},
        "capabilities": ["completion"],
    },
}


def _api(data: bytes) -> None:
    _ask(dict(zip(REPLIES, split(data, len(REPLIES)))))


def _api_structure(data: bytes) -> None:
    told = changed(REPLIES, data)
    _ask({path: as_json(told.get(path)) if isinstance(told, dict) else b"" for path in REPLIES})


def _ask(replies: Mapping[str, bytes]) -> None:
    api = _Answering(replies=replies)
    found = gather("/nonexistent", api, "auto", [])
    json.dumps([model.to_dict() for model in found.models])
    json.dumps([found.loaded, found.unplannable, found.damaged, found.problems, found.version])
    for entry in found.loaded or ():
        json.dumps(loaded_model("m", entry, None, None).to_dict())
    files_of(api.show("m"))


def _settings(data: bytes) -> None:
    value = text(data)
    parse_uint(value)
    parse_int(value)
    parse_bool(value)
    nanoseconds = parse_duration_ns(value)
    if nanoseconds is not None:
        assert parse_duration_ns(duration_text(nanoseconds)) == nanoseconds
    for name in KNOWN:
        as_printed(name, value)
    assert all(
        len(problem) < 2000 + 4 * len(value) for problem in problems(dict.fromkeys(KNOWN, value), "0.33.0")
    )


def _host(data: bytes) -> None:
    value = text(data)
    known = address(value)
    assert known.port.isascii()
    address_of(known.url)
    url = url_of_host(value)
    address_of(url)
    Api(url).connection(1, 1)
    Api(value).connection(1, 1)


def _log(data: bytes) -> None:
    lines = data.decode("utf-8", "replace").split("\n")
    config = find_server_config(lines)
    if config:
        unparsed(config, {name: f"{value}x" for name, value in config.items()})
        masked_environment(config)
    parse_map(f"map[{lines[0]}]")
    buffers_of(lines, ["runner", "--port", "1"])
    runner_of(1, lines)


def _server_log(data: bytes) -> None:
    log = read_server_log(*(part.decode("utf-8", "replace").split("\n") for part in split(data, 2)))
    told = log.to_dict()
    assert server_log_from_dict(json.loads(json.dumps(told, allow_nan=False))) == log
    assert len(json.dumps(told)) < MOST_BYTES["server"]
    for gpu in (NamedGpu("GPU-0", "A", "00000000:01:00.0"), NamedGpu("", "", "")):
        if is_taken(log, gpu) is False:
            dropped_words(gpu, why_not(log, gpu))


# Lines of tests/data/captures and tests/data/ollama_scheduler.jsonl.
LOADED = (
    b'time=2026-11-28T01:58:29.012Z level=INFO source=llama_server.go:433 msg="starting llama-server" cmd="/x/llama-server'
    b' --model /m/blobs/sha256-a --port 1 --host h -c 8192 -np 2 --flash-attn auto -b 512 -ub 512 --keep 4"\n'
    b'time=2026-11-28T01:58:29.013Z level=INFO source=sched.go:620 msg="gpu memory" id=0 library=CUDA free="12.0 GiB"\n'
    b"load_tensors: offloaded 35/36 layers to GPU\n"
    b"llama_context: constructing llama_context\n"
    b"sched_reserve:      CUDA0 compute buffer size =   168.04 MiB\n"
    b'time=2026-11-28T01:58:30.869Z level=INFO source=sched.go:728 msg="loaded runners" count=1'
)
FOUND = (
    b'time=2026-11-28T01:58:28Z level=WARN source=cuda_compat.go:70 msg="NVIDIA driver too old" device="Tesla P40"\n'
    b'level=INFO source=types.go:32 msg="inference compute" id=0 library=CUDA pci_id=0000:01:00.0 total="12.0 GiB"'
)

NOW = conditions_of(
    {"devices": [{"name": "A", "uuid": "GPU-0"}], "driver_version": "1"},
    [{"name": "m", "digest": "d"}],
    ["m"],
    ollama_version="0.33.0",
    context_length=4096,
    kv_cache_type="f16",
)
BENCHMARK = {
    "format": 1,
    "measured_at": "x",
    "knee": {"parallel": 4, "reason": "r"},
    "conditions": NOW.to_dict(),
    "correction": {"cuda_context_bytes": 1, "compute_excess_bytes": 2},
}


def _benchmark(data: bytes) -> None:
    _FILES.write({"benchmark.json": data})
    result = read(str(_FILES.path / "benchmark.json"))
    assert result is not None
    assert measured_parallel(result, NOW).sentence


def _benchmark_structure(data: bytes) -> None:
    _benchmark(as_json(changed(BENCHMARK, data)))


def _registry_manifest(data: bytes) -> None:
    manifest = manifest_in(data, "localhost:5000/team/model:v1")
    no_room("/m", manifest.size_bytes, 0, 0, {"m": manifest.layers}, [])


def _registry_structure(data: bytes) -> None:
    _registry_manifest(as_json(changed(MANIFEST, data)))


def _pull_lines(data: bytes) -> None:
    told = Told()
    for line in data.split(b"\n"):
        value = read_json(line, 1000)
        if isinstance(value, dict):
            told.take(value)
    json.dumps([told.status, told.completed, told.totals, told.is_checking])


_FILES = Folder()
_STORE = Folder()

TARGETS = (
    Target("gguf", _gguf, (GgufError, ModelError), honest=(GGUF,)),
    Target(
        "gguf-parts",
        _gguf_parts,
        (GgufError,),
        honest=(_part(0) + SEPARATOR + _part(1),),
        # Two parts of which one has no number.
        crashed=(_part(0) + SEPARATOR + GGUF,),
    ),
    Target(
        "store",
        _store,
        (StoreError, ModelError, UnplannableError),
        honest=tuple(
            SEPARATOR.join([as_json(manifest), as_json(CONFIGURATION), as_json(PARAMETERS), GGUF])
            for manifest in (MANIFEST, _LIST)
        ),
    ),
    Target("store-structure", _store_structure, (StoreError, ModelError, UnplannableError)),
    Target(
        "api",
        _api,
        (InventoryError, ApiError),
        honest=(SEPARATOR.join(map(as_json, REPLIES.values())),),
        # A path that no file can have.
        crashed=tuple(
            SEPARATOR.join(
                map(as_json, {**REPLIES, "/api/show": {**REPLIES["/api/show"], "modelfile": line}}.values())
            )
            for line in ("FROM /a\x00b", "FROM /tmp/\ud800")
        ),
    ),
    Target("api-structure", _api_structure, (InventoryError, ApiError)),
    Target(
        "settings",
        _settings,
        honest=(b"1h2m3.5s", b"18446744073709551615", b"-5m", b"0.0.0.0:11434", b"true", b"q8_0"),
        crashed=(b"9" * 5000, b"9" * 5000 + b"h"),
    ),
    Target(
        "host",
        _host,
        (ApiError,),
        honest=(b"http://[::1]:80/x", b"http://h:1/a?b#c"),
        crashed=(
            "a:²".encode(),
            ":²".encode(),
            b"http://a\x7f:1",
            b"a\xff:1/\xff",
            b"http://a b:1",
            b"[fe80::1%eth0]:1",
            b":99999",
        ),
    ),
    Target(
        "log",
        _log,
        honest=(
            b'msg="server config" env="map[HTTP_PROXY:http://u:p@h OLLAMA_ORIGINS:[a b] OLLAMA_KEEP_ALIVE:5m0s]"',
            b'msg="starting llama-server" --port 1 \na: CUDA0 model buffer size = 10.5 MiB',
        ),
        crashed=("--ctx-size\n²\n--model\nsha256-".encode() + b"a" * 64,),
    ),
    Target(
        "server-log",
        _server_log,
        honest=(FOUND + SEPARATOR + LOADED, LOADED + b"\n" + LOADED.replace(b"sha256-a", b"sha256-b")),
    ),
    Target("registry", _registry_manifest, (UnknownModelError,), honest=(as_json(MANIFEST),)),
    Target("registry-structure", _registry_structure, (UnknownModelError,)),
    Target(
        "pull",
        _pull_lines,
        (MakingError, ValueError),
        honest=(b'{"status":"pulling manifest"}\n{"status":"pulling a","digest":"sha256:a","total":9,"completed":3}',),
    ),
    Target("benchmark", _benchmark, (StoredError,), honest=(as_json(BENCHMARK),)),
    Target("benchmark-structure", _benchmark_structure, (StoredError,)),
)
