# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The environment as Ollama reads it: wrong numbers warn and fall back, wrong booleans mean true.

Source: Ollama envconfig/config.go and the ``server config`` lines in tests/data/captures.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from . import gotext

DEFAULT_KEEP_ALIVE_NS = 5 * 60 * 10**9
DEFAULT_LOAD_TIMEOUT_NS = 5 * 60 * 10**9
_ORIGIN_HOSTS = ("localhost", "127.0.0.1", "0.0.0.0")
_ORIGIN_SCHEMES = ("app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*")


@dataclass(frozen=True)
class Settings:
    """What Ollama makes of its environment; durations in nanoseconds."""

    scheme: str
    host: str
    port: int
    num_parallel: int
    max_loaded_models: int
    max_queue: int
    context_length: int
    keep_alive_ns: int
    load_timeout_ns: int
    models: str
    kv_cache_type: str
    flash_attention: str
    sched_spread: bool
    gpu_overhead_bytes: int
    no_cloud: bool
    fit_target_mib: str
    visible_devices: str
    config: Mapping[str, Any]

    @property
    def server_config(self) -> str:
        """The ``env`` field of the ``server config`` line."""
        return (
            "map[" + " ".join(f"{name}:{_show(value)}" for name, value in sorted(self.config.items())) + "]"
        )


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + " ".join(value) + "]"
    return str(value)


class _Reader:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment

    def text(self, name: str) -> str:
        return self.environment.get(name, "").strip().strip("\"'")

    def uint(self, name: str, default: int, source: str = "config.go:263") -> int:
        value = self.text(name)
        if not value:
            return default
        if value.isascii() and value.isdigit() and int(value) < 2**64:
            return int(value)
        gotext.log(
            "WARN",
            source,
            "invalid environment variable, using default",
            key=name,
            value=value,
            default=default,
        )
        return default

    def boolean(self, name: str, default: bool = False) -> bool:
        value = self.text(name)
        if not value:
            return default
        try:
            return gotext.parse_bool(value)
        except ValueError:
            return True

    def duration(self, name: str, default: int) -> int:
        value = self.text(name)
        if not value:
            return default
        try:
            return gotext.parse_duration(value)
        except ValueError:
            pass
        try:
            return (int(value) * 10**9 + 2**63) % 2**64 - 2**63
        except ValueError:
            return default

    def log_level(self) -> str:
        value = self.text("OLLAMA_DEBUG")
        try:
            if gotext.parse_bool(value):
                return "DEBUG"
        except ValueError:
            pass
        try:
            level = int(value) * -4
        except ValueError:
            return "INFO"
        named = {0: "INFO", -4: "DEBUG", 4: "WARN", 8: "ERROR"}
        return named.get(level, f"DEBUG{level + 4}" if level < 0 else f"ERROR+{level - 8}")

    def address(self) -> tuple[str, str, int]:
        value = self.text("OLLAMA_HOST").strip()
        scheme, separator, hostport = value.partition("://")
        default_port = {"http": "80", "https": "443"}.get(scheme, "11434") if separator else "11434"
        if not separator:
            scheme, hostport = "http", value
        hostport = hostport.split("/", 1)[0]
        host, port = _split_host_port(hostport, default_port)
        if not (port.isascii() and port.isdigit()) or int(port) > 65535:
            gotext.log("WARN", "config.go:54", "invalid port, using default", port=port, default=default_port)
            port = default_port
        return scheme, host, int(port)

    def path(self) -> str:
        """What OLLAMA_HOST has behind the port: it is shown, and nothing else is done with it."""
        value = self.text("OLLAMA_HOST").strip()
        _host, slash, path = value.partition("://")[2].partition("/") if "://" in value else value.partition("/")
        return slash + quote(path, safe="$&+,/:;=@") if path else ""

    def origins(self) -> list[str]:
        own = self.text("OLLAMA_ORIGINS")
        origins = own.split(",") if own else []
        for host in _ORIGIN_HOSTS:
            origins += [f"http://{host}", f"https://{host}", f"http://{host}:*", f"https://{host}:*"]
        return origins + list(_ORIGIN_SCHEMES)


# Source: github.com/gin-contrib/cors v1.7 utils.go and config.go (validateAllowedSchemas), as Ollama configures it.
ORIGIN_SCHEMES_OF_CORS = (
    "http", "https", "chrome-extension", "safari-extension", "moz-extension", "ms-browser-extension",
)  # fmt: skip
_ORIGIN_SCHEMES_OF_OLLAMA = ("app", "file", "tauri", "vscode-webview", "vscode-file")


def is_bad_origin(origin: str) -> bool:
    """Whether Ollama panics at it."""
    schemes = (*ORIGIN_SCHEMES_OF_CORS, *_ORIGIN_SCHEMES_OF_OLLAMA)
    return "*" not in origin and not origin.startswith(tuple(f"{scheme}://" for scheme in schemes))


def _split_host_port(hostport: str, default_port: str) -> tuple[str, str]:
    bare = hostport.strip("[]")
    if "%" not in bare:  # Python would take everything behind it for a zone
        try:
            return str(ipaddress.ip_address(bare)), default_port
        except ValueError:
            pass
    host, separator, port = hostport.rpartition(":")
    if separator and (":" not in host or host.startswith("[")):
        return host.strip("[]"), port
    return hostport or "127.0.0.1", default_port


def parse(environment: Mapping[str, str]) -> Settings:
    """Read an environment as ``ollama serve`` does; warnings go to the log."""
    reader = _Reader(environment)
    scheme, host, port = reader.address()
    keep_alive = reader.duration("OLLAMA_KEEP_ALIVE", DEFAULT_KEEP_ALIVE_NS)
    keep_alive = gotext.FOREVER_NS if keep_alive < 0 else keep_alive
    load_timeout = reader.duration("OLLAMA_LOAD_TIMEOUT", DEFAULT_LOAD_TIMEOUT_NS)
    load_timeout = gotext.FOREVER_NS if load_timeout <= 0 else load_timeout
    home = environment.get("HOME", "/")
    models = reader.text("OLLAMA_MODELS") or os.path.join(home, ".ollama", "models")
    flash_attention = reader.boolean("OLLAMA_FLASH_ATTENTION")
    flash_argument = (
        "auto" if not reader.text("OLLAMA_FLASH_ATTENTION") else "on" if flash_attention else "off"
    )
    remotes = reader.text("OLLAMA_REMOTES")
    show_host = f"[{host}]" if ":" in host else host
    config: dict[str, Any] = {
        "OLLAMA_DEBUG": reader.log_level(),
        "OLLAMA_DEBUG_LOG_REQUESTS": reader.boolean("OLLAMA_DEBUG_LOG_REQUESTS"),
        "OLLAMA_EDITOR": reader.text("OLLAMA_EDITOR"),
        "OLLAMA_FLASH_ATTENTION": flash_attention,
        "OLLAMA_GO_TEMPLATE": reader.boolean("OLLAMA_GO_TEMPLATE", True),
        "OLLAMA_GPU_OVERHEAD": reader.uint("OLLAMA_GPU_OVERHEAD", 0, "config.go:285"),
        "OLLAMA_HOST": f"{scheme}://{quote(show_host, safe='[]:')}:{port}{reader.path()}",
        "OLLAMA_IGPU_ENABLE": reader.text("OLLAMA_IGPU_ENABLE"),
        "OLLAMA_CONTEXT_LENGTH": reader.uint("OLLAMA_CONTEXT_LENGTH", 0),
        "OLLAMA_KEEP_ALIVE": gotext.format_duration(keep_alive),
        "OLLAMA_KV_CACHE_TYPE": reader.text("OLLAMA_KV_CACHE_TYPE"),
        "OLLAMA_LLM_LIBRARY": reader.text("OLLAMA_LLM_LIBRARY"),
        "OLLAMA_LOAD_TIMEOUT": gotext.format_duration(load_timeout),
        "OLLAMA_MAX_LOADED_MODELS": reader.uint("OLLAMA_MAX_LOADED_MODELS", 0),
        "OLLAMA_MAX_QUEUE": reader.uint("OLLAMA_MAX_QUEUE", 512),
        "OLLAMA_MAX_TRANSFER_STREAMS": reader.uint("OLLAMA_MAX_TRANSFER_STREAMS", 4),
        "OLLAMA_MODELS": models,
        "OLLAMA_NOHISTORY": reader.boolean("OLLAMA_NOHISTORY"),
        "OLLAMA_NOPRUNE": reader.boolean("OLLAMA_NOPRUNE"),
        "OLLAMA_NO_CLOUD": reader.boolean("OLLAMA_NO_CLOUD"),
        "OLLAMA_NUM_PARALLEL": reader.uint("OLLAMA_NUM_PARALLEL", 1),
        "OLLAMA_ORIGINS": reader.origins(),
        "OLLAMA_REMOTES": remotes.split(",") if remotes else ["ollama.com"],
        "OLLAMA_SCHED_SPREAD": reader.boolean("OLLAMA_SCHED_SPREAD"),
        "OLLAMA_VULKAN": reader.boolean("OLLAMA_VULKAN", True),
    }
    for name in (
        "CUDA_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "HIP_VISIBLE_DEVICES",
        "HSA_OVERRIDE_GFX_VERSION", "HTTPS_PROXY", "HTTP_PROXY", "LLAMA_ARG_FIT", "LLAMA_ARG_FIT_TARGET",
        "NO_PROXY",
        "ROCR_VISIBLE_DEVICES", "http_proxy", "https_proxy", "no_proxy",
    ):  # fmt: skip
        config[name] = reader.text(name)
    return Settings(
        scheme=scheme,
        host=host,
        port=port,
        num_parallel=max(config["OLLAMA_NUM_PARALLEL"], 1),
        max_loaded_models=config["OLLAMA_MAX_LOADED_MODELS"],
        max_queue=config["OLLAMA_MAX_QUEUE"],
        context_length=config["OLLAMA_CONTEXT_LENGTH"],
        keep_alive_ns=keep_alive,
        load_timeout_ns=load_timeout,
        models=models,
        kv_cache_type=config["OLLAMA_KV_CACHE_TYPE"],
        flash_attention=flash_argument,
        sched_spread=config["OLLAMA_SCHED_SPREAD"],
        gpu_overhead_bytes=config["OLLAMA_GPU_OVERHEAD"],
        no_cloud=config["OLLAMA_NO_CLOUD"],
        fit_target_mib=config["LLAMA_ARG_FIT_TARGET"],
        visible_devices=config["CUDA_VISIBLE_DEVICES"],
        config=config,
    )
