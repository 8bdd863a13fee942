# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTP side: Ollama's routes, replies and errors.

Source: the recorded replies in tests/data/captures; Ollama v0.33.0-rc2 server/routes.go for the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn
from urllib.parse import urlsplit

from . import generation, gotext, making, registry
from .config import Config, Fault
from .environment import Settings
from .scheduler import Busy, LoadFailed, Runner, Scheduler
from .store import Gguf, Model, Store, full_name, is_cloud, short_name, whole_header

JSON = "application/json; charset=utf-8"
PLAIN_JSON = "application/json"
BLOBS = "/api/blobs/"
# Their reply to another method names none that is allowed; recorded.
WITHOUT_ALLOW = ("/api/show",)
MAX_BODY_BYTES = 16 << 20
ROUTES = {
    "/": ("GET", "HEAD"),
    "/api/version": ("GET", "HEAD"),
    "/api/status": ("GET",),
    "/api/tags": ("GET", "HEAD"),
    "/api/ps": ("GET",),
    "/api/show": ("POST",),
    "/api/generate": ("POST",),
    "/api/chat": ("POST",),
    "/api/embed": ("POST",),
    "/api/create": ("POST",),
    "/api/copy": ("POST",),
    "/api/delete": ("DELETE",),
    "/api/pull": ("POST",),
    "/api/push": ("POST",),
    "/v1/models": ("GET",),
}
_INTEGERS = (
    "num_keep", "seed", "num_predict", "top_k", "repeat_last_n", "num_ctx", "num_batch", "num_gpu",
    "main_gpu", "num_thread",
)  # fmt: skip
_FLOATS = (
    "top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty",
)  # fmt: skip
_BOOLEANS = ("use_mmap",)
_STRINGS = ("stop",)
EMBEDDING_LENGTH_FALLBACK = 8
_REMOTE_REFUSED = ("remote model is unavailable", "remote model details are unavailable")


class Refusal(Exception):
    """A reply other than 200."""

    def __init__(self, status: int, error: str, kind: str = JSON) -> None:
        super().__init__(error)
        self.status, self.kind = status, kind


def serve(settings: Settings, config: Config, scheduler: Scheduler) -> ThreadingHTTPServer:
    """A server bound to the configured address; the caller runs it. Raises: OSError."""

    class Handler(_Handler):
        pass

    Handler.settings, Handler.config, Handler.scheduler = settings, config, scheduler
    Handler.store = Store(settings.models)
    Handler.answered = {}
    Server.address_family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    return Server((settings.host, settings.port), Handler)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        # HTTPServer would look its own name up, which can take seconds where no name server answers.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    settings: Settings
    config: Config
    scheduler: Scheduler
    store: Store
    answered: dict[str, int]

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def do_DELETE(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def log_message(self, format: str, *args: Any) -> None:
        """Log in gin's form instead, when the request is over."""

    def send_response(self, code: int, message: str | None = None) -> None:
        self._status = code
        self.send_response_only(code, message)
        self.send_header("Date", self.date_time_string())

    def _handle(self) -> None:
        started = time.monotonic_ns()
        self._status, self._streaming = 0, False
        path = urlsplit(self.path).path
        try:
            self._body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), MAX_BODY_BYTES))
            self._route(path)
        except Refusal as refusal:
            self._refuse(refusal)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        stamp = datetime.now(timezone.utc).strftime("%Y/%m/%d - %H:%M:%S")
        took = gotext.format_duration(time.monotonic_ns() - started)
        client = self.client_address[0]
        gotext.write(
            f'[GIN] {stamp} | {self._status} | {took:>13} | {client:>15} | {self.command:<8} "{path}"'
        )

    def _route(self, path: str) -> None:
        blob = path[len(BLOBS) :] if path.startswith(BLOBS) else ""
        methods = ("HEAD", "POST") if blob else ROUTES.get(path)
        if methods is None:
            self._send(404, "text/plain", b"404 page not found")
            return
        if self.command not in methods:
            allow = {} if blob or path in WITHOUT_ALLOW else {"Allow": ", ".join(methods)}
            self._send(405, "text/plain", b"405 method not allowed", **allow)
            return
        self.answered[path] = self.answered.get(path, 0) + 1
        for fault in self.scheduler.faults:
            self._misbehave(fault, path)
        handlers: Mapping[str, Callable[[], None]] = {
            "/": lambda: self._send(200, "text/plain; charset=utf-8", b"Ollama is running"),
            "/api/version": lambda: self._json({"version": self.config.version}),
            "/api/status": lambda: self._json({"cloud": self._cloud()}),
            "/api/tags": lambda: self._json({"models": [_listed(model) for model in self.store.models()]}),
            "/api/ps": lambda: self._json(
                {"models": [self._running(item) for item in self.scheduler.loaded()]}
            ),
            "/api/show": self._show,
            "/api/generate": self._generate,
            "/api/chat": self._chat,
            "/api/embed": self._embed,
            "/v1/models": self._v1_models,
            "/api/create": self._create,
            "/api/copy": self._copy,
            "/api/delete": self._delete,
            "/api/pull": self._pull,
            "/api/push": self._push,
        }
        if blob:
            self._blob(blob)
        else:
            handlers[path]()

    def _misbehave(self, fault: Fault, path: str) -> None:
        options = fault.options
        if not _concerns(fault, path) or self.answered[path] <= int(options.get("after", 0)):
            return
        if fault.action == "fail":
            raise Refusal(
                int(options.get("status", 500)), str(options.get("error", "an unexpected error occurred"))
            )
        if fault.action == "hang":
            time.sleep(float(options.get("seconds", 3600)))
        elif fault.action in ("drop", "exit_in_request") and "tokens" not in options:
            self._break(fault)

    def _break(self, fault: Fault) -> None:
        if fault.action == "exit_in_request":
            self.scheduler.stop()
            os._exit(int(fault.options.get("status", 2)))
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
        raise ConnectionResetError

    def _cloud(self) -> dict[str, Any]:
        return {"disabled": self.settings.no_cloud, "source": "env" if self.settings.no_cloud else "none"}

    def _request(self, names: Mapping[str, type]) -> dict[str, Any]:
        if not self._body:
            raise Refusal(400, "missing request body")
        try:
            data = json.loads(self._body)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise Refusal(400, _go_json_error(self._body, error)) from error
        if not isinstance(data, dict):
            raise Refusal(400, f"json: cannot unmarshal {_go_kind(data)} into Go value of type api.Request")
        for name, kind in names.items():
            if data.get(name) is not None and not isinstance(data[name], kind):
                found, wanted = (
                    _go_kind(data[name]),
                    {str: "string", bool: "bool", dict: "map[string]interface {}"}[kind],
                )
                raise Refusal(
                    400, f"json: cannot unmarshal {found} into Go struct field .{name} of type {wanted}"
                )
        data["keep_alive"] = _keep_alive(data.get("keep_alive"))
        return data

    def _model(self, asked: str, path: str) -> Model:
        """The model that a request is for. Raises: Refusal."""
        if not asked:
            raise Refusal(404, "model '' not found")
        if is_cloud(asked):
            self._refuse_remote(502, path)
        try:
            model = self.store.model(asked)
        except ValueError:
            raise Refusal(400, "invalid model name") from None
        if model is None:
            raise Refusal(404, f"model '{asked}' not found")
        return model

    def _refuse_remote(self, status: int, path: str, kind: str = JSON) -> NoReturn:
        """What a server answers that does not reach Ollama's cloud, or may not use it."""
        if self.settings.no_cloud:
            raise Refusal(403, f"ollama cloud is disabled: {_REMOTE_REFUSED[path == '/api/show']}")
        address = f"https://ollama.com:443{path}?ts={int(time.time())}"
        raise Refusal(status, f'Post "{address}": {registry.no_such_host("ollama.com")}', kind)

    def _show(self) -> None:
        data = self._request({"model": str, "verbose": bool})
        asked = data.get("model") or data.get("name") or ""
        if not asked:
            raise Refusal(400, "model is required")
        try:
            model = self._model(asked, "/api/show")
        except Refusal as refusal:
            if refusal.status != 404:
                raise
            raise Refusal(404, f"model '{short_name(*self.store.existing(asked))}' not found") from None
        if model.remote_host and self.settings.no_cloud:
            self._refuse_remote(403, "/api/show")
        self._json(_shown(model, bool(data.get("verbose"))))

    def _generate(self) -> None:
        data = self._request({"model": str, "prompt": str, "stream": bool, "options": dict})
        model = self._model(data.get("model") or "", "/api/generate")
        if model.remote_host:
            stream = data.get("stream") is not False
            self._refuse_remote(500, "/api/generate", "application/x-ndjson" if stream else JSON)
        prompt = data.get("prompt") or ""
        if not prompt and data["keep_alive"] == 0:
            self.scheduler.unload(model)
            self._json({**self._head(data), "response": "", "done": True, "done_reason": "unload"})
            return
        if model.capabilities == ["embedding"]:
            raise Refusal(400, f'"{data["model"]}" does not support generate')
        self._answer(data, model, prompt, lambda text: {"response": text})

    def _chat(self) -> None:
        data = self._request({"model": str, "stream": bool, "options": dict})
        if not data.get("model"):
            raise Refusal(400, "model is required")
        messages = data.get("messages") or []
        model = self._model(data["model"], "/api/chat")
        if model.remote_host:
            stream = data.get("stream") is not False
            self._refuse_remote(500, "/api/chat", "application/x-ndjson" if stream else JSON)

        def body(text: str) -> dict[str, Any]:
            return {"message": {"role": "assistant", "content": text}}

        if not messages and data["keep_alive"] == 0:
            self.scheduler.unload(model)
            self._json({**self._head(data), **body(""), "done": True, "done_reason": "unload"})
            return
        if data.get("tools"):
            raise Refusal(400, f"registry.ollama.ai/library/{model.name} does not support tools")
        if data.get("think"):
            raise Refusal(400, f'"{data["model"]}" does not support thinking')
        if model.capabilities == ["embedding"]:
            raise Refusal(400, f'"{data["model"]}" does not support chat')
        self._answer(data, model, "\n".join(str(message.get("content", "")) for message in messages), body)

    def _answer(
        self, data: Mapping[str, Any], model: Model, prompt: str, body: Callable[[str], dict[str, Any]]
    ) -> None:
        options = _options({**_typed(model), **(data.get("options") or {})})
        started = time.monotonic_ns()
        with self._runner(model, options, data["keep_alive"]) as item:
            loaded = time.monotonic_ns()
            if not prompt:
                self._json({**self._head(data), **body(""), "done": True, "done_reason": "load"})
                return
            limit = int(options.get("num_predict", -1))
            reason = "length" if limit > 0 else "stop"
            limit = limit if limit > 0 else self.config.throughput.output_tokens
            timings = generation.Timings(generation.count_tokens(prompt))
            stream = data.get("stream") is not False
            text, last, repeats = "", "", 0
            first_repeated = generation.repeats_from(self.config.throughput, prompt, options)
            words = generation.words_of(prompt, first_repeated, limit)
            for token in generation.generate(self.scheduler, item, words, timings):
                repeats = repeats + 1 if token == last else 0
                if repeats > generation.MOST_REPEATS:
                    self._cut(data, stream, body(text))
                    return
                last = token
                self._break_in_stream(timings.tokens)
                if stream:
                    self._chunk({**self._head(data), **body(token), "done": False})
                    if self._is_cut_short(timings.tokens):
                        self._end_chunks()
                        return
                text += token
            end = {**self._head(data), **body("" if stream else text), "done": True, "done_reason": reason}
            if self.path.endswith("/api/generate") and not data.get("raw"):
                end["context"] = [number % 1000 for number in range(timings.prompt_tokens + timings.tokens)]
            end["total_duration"] = loaded - started + timings.prompt_ns + timings.tokens_ns
            end["load_duration"] = loaded - started
            end["prompt_eval_count"], end["prompt_eval_duration"] = timings.prompt_tokens, timings.prompt_ns
            end["eval_count"], end["eval_duration"] = timings.tokens, timings.tokens_ns
            if stream:
                self._chunk(end)
                self._end_chunks()
            else:
                self._json(end)

    def _cut(self, data: Mapping[str, Any], stream: bool, body: Mapping[str, Any]) -> None:
        """The end of an answer that repeats itself: nothing says that it is one."""
        if stream:
            self._end_chunks()
        else:
            self._json({**self._head(data), **body, "done": False})

    def _break_in_stream(self, tokens: int) -> None:
        for fault in self._faults_at(tokens, "drop", "exit_in_request"):
            self._break(fault)

    def _is_cut_short(self, tokens: int) -> bool:
        return bool(self._faults_at(tokens, "cut_short"))

    def _faults_at(self, tokens: int, *actions: str) -> list[Fault]:
        path = urlsplit(self.path).path
        return [
            fault
            for fault in self.scheduler.faults
            if fault.action in actions
            and _concerns(fault, path)
            and self.answered[path] > int(fault.options.get("after", 0))
            and tokens >= int(fault.options.get("tokens", tokens + 1))
        ]

    def _embed(self) -> None:
        data = self._request({"model": str, "options": dict})
        asked = data.get("input")
        if asked is not None and not isinstance(asked, (str, list)):
            raise Refusal(400, "invalid input type")
        texts = [asked] if isinstance(asked, str) and asked else asked or []
        model = self._model(data.get("model") or "", "/api/embed")
        started = time.monotonic_ns()
        options = _options({**_typed(model), **(data.get("options") or {})})
        with self._runner(model, options, data["keep_alive"]):
            loaded = time.monotonic_ns()
            if texts and "embedding" not in model.capabilities:
                raise Refusal(501, "This server does not support embeddings. Start it with `--embeddings`")
            width = model.gguf.number("embedding_length", EMBEDDING_LENGTH_FALLBACK)
            reply: dict[str, Any] = {
                "model": data["model"],
                "embeddings": [_embedding(str(text), width) for text in texts],
            }
            if texts:
                reply["total_duration"] = time.monotonic_ns() - started
                reply["load_duration"] = loaded - started
                reply["prompt_eval_count"] = sum(generation.count_tokens(str(text)) for text in texts)
            self._json(reply)

    def _blob(self, digest: str) -> None:
        if not making.DIGEST.match(digest):
            raise Refusal(400, "invalid digest format")
        if self.command == "HEAD":
            if not self.store.blob(digest).exists():
                raise Refusal(404, f'blob "{digest}" not found')
            self._done(200)
            return
        try:
            self._done(201 if making.keep_blob(self.store, digest, self._body) else 200)
        except making.Failed as error:
            raise Refusal(400, str(error)) from None

    def _create(self) -> None:
        data = self._request({"model": str, "stream": bool})
        name = self._writable(data.get("model") or data.get("name") or "", "invalid model name")
        if any(".." in path.split("/") or path.startswith("/") for path in data.get("files") or {}):
            raise Refusal(400, "file path must be relative")
        source = data.get("from")
        if not source and not data.get("files"):
            raise Refusal(400, "neither 'from' or 'files' was specified", PLAIN_JSON)
        template = str(data.get("template") or "")
        if template.count("{{") > template.count("}}"):
            raise Refusal(400, "template error: template: :1: unclosed action", PLAIN_JSON)
        base = None
        if source and not data.get("remote_host"):
            base = self.store.model(source)
            if base is None:
                self._tell(data, registry.pull(self.store, full_name(source), False))
                return
        self._tell(data, making.create(self.store, {**data, "model": name}, base))

    def _copy(self) -> None:
        data = self._request({"source": str, "destination": str})
        source, destination = data.get("source") or "", data.get("destination") or ""
        for kind, name in (("source", source), ("destination", destination)):
            self._writable(name, f'{kind} "{name}" is invalid')
        try:
            making.copy(self.store, source, destination)
        except FileNotFoundError:
            raise Refusal(404, f'model "{source}" not found') from None
        self._done(200)

    def _delete(self) -> None:
        data = self._request({"model": str})
        name = data.get("model") or data.get("name") or ""
        if not name:
            raise Refusal(400, "model is required")
        self._writable(name, f'name "{name}" is invalid')
        try:
            making.delete(self.store, name)
        except FileNotFoundError:
            raise Refusal(404, f"model '{name}' not found") from None
        self._done(200)

    def _pull(self) -> None:
        data = self._request({"model": str, "stream": bool})
        name = self._writable(data.get("model") or data.get("name") or "", "invalid model name")
        self._tell(data, registry.pull(self.store, self.store.existing(name), bool(data.get("insecure"))))

    def _push(self) -> None:
        data = self._request({"model": str, "stream": bool})
        name = data.get("model") or data.get("name") or ""
        if not name:
            raise Refusal(400, "model is required")
        self._writable(name, "invalid model name")
        self._tell(data, registry.push(self.store, self.store.existing(name), bool(data.get("insecure"))))

    def _writable(self, name: str, refusal: str) -> str:
        """The name of a model to write. Raises: Refusal."""
        try:
            full_name(name)
        except ValueError:
            raise Refusal(400, refusal) from None
        return name

    def _tell(self, data: Mapping[str, Any], lines: Iterator[dict[str, Any]]) -> None:
        """A stream of what happens, or only how it ended."""
        last: dict[str, Any] = {}
        try:
            for last in lines:
                if data.get("stream") is not False:
                    self._chunk(last)
        except making.Failed as error:
            if data.get("stream") is False:
                raise Refusal(500, str(error), PLAIN_JSON) from None
            self._chunk({"error": str(error)})
        finally:
            # A client that is gone ends what is done for it.
            close = getattr(lines, "close", None)
            if close is not None:
                close()
        if data.get("stream") is False:
            self._send(200, PLAIN_JSON, gotext.to_json(last).encode())
        else:
            self._end_chunks()

    def _done(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _v1_models(self) -> None:
        data = [
            {
                "id": model.name,
                "object": "model",
                "created": model.modified_ns // 10**9,
                "owned_by": "library",
            }
            for model in self.store.models()
        ]
        self._send(200, "application/json", gotext.to_json({"object": "list", "data": data}).encode() + b"\n")

    def _runner(self, model: Model, options: Mapping[str, Any], keep_alive: int | None) -> Any:
        return _Translated(self.scheduler.use(model, options, keep_alive))

    def _running(self, item: Runner) -> dict[str, Any]:
        return {
            "name": item.model.name,
            "model": item.model.name,
            "size": item.placement.size_bytes,
            "digest": item.model.digest,
            "details": item.model.details,
            "expires_at": gotext.timestamp(self.scheduler.expiry(item)),
            "size_vram": item.placement.size_vram_bytes,
            "context_length": item.context_length,
        }

    def _head(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return {"model": data["model"], "created_at": gotext.timestamp(time.time_ns())}

    def _json(self, value: Any) -> None:
        self._send(200, JSON, gotext.to_json(value).encode())

    def _refuse(self, refusal: Refusal) -> None:
        body = gotext.to_json({"error": str(refusal)}).encode()
        if self._streaming:
            self._write_chunk(body + b"\n")
            self._end_chunks()
        else:
            self._send(refusal.status, refusal.kind, body)

    def _send(self, status: int, kind: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _chunk(self, value: Any) -> None:
        if not self._streaming:
            self._streaming = True
            self.send_response(200)
            self.send_header("Content-Type", "application/x-ndjson")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
        self._write_chunk(gotext.to_json(value).encode() + b"\n")

    def _write_chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _end_chunks(self) -> None:
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()


class _Translated:
    """The scheduler's exceptions as replies."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __enter__(self) -> Runner:
        try:
            item: Runner = self.inner.__enter__()
        except Busy as error:
            raise _busy() from error
        except LoadFailed as error:
            raise Refusal(500, str(error)) from error
        return item

    def __exit__(self, *details: Any) -> Any:
        return self.inner.__exit__(*details)


def _busy() -> Refusal:
    return Refusal(503, "server busy, please try again.  maximum pending requests exceeded")


def _concerns(fault: Fault, path: str) -> bool:
    paths = fault.options.get("paths")
    return paths is None or path in paths


def _keep_alive(value: Any) -> int | None:
    """Nanoseconds; None where the request leaves it to the server. Raises: Refusal."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            nanoseconds = gotext.parse_duration(value)
        except ValueError as error:
            raise Refusal(400, str(error)) from error
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        nanoseconds = int(value * 10**9)
    else:
        raise Refusal(400, f"Unsupported type: '{_go_kind(value)}'")
    return gotext.FOREVER_NS if nanoseconds < 0 else nanoseconds


def _typed(model: Model) -> dict[str, Any]:
    """The options that a Modelfile sets; of those with several values none matters here."""
    return {name: value for name, value in model.parameters.items() if not isinstance(value, list)}


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options Ollama knows, checked as it checks them. Raises: Refusal."""
    known: dict[str, Any] = {}
    for name, value in options.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if name in _INTEGERS:
            wanted, good = "integer", number
        elif name in _FLOATS:
            wanted, good = "float32", number
        elif name in _BOOLEANS:
            wanted, good = "boolean", isinstance(value, bool)
        elif name in _STRINGS:
            wanted, good = "array of strings", isinstance(value, list)
        else:
            gotext.log("WARN", "types.go:1007", "invalid option provided", option=name)
            continue
        if value is None:
            continue
        if not good:
            raise Refusal(500, f'option "{name}" must be of type {wanted}')
        known[name] = int(value) if name in _INTEGERS else value
    return known


def _go_kind(value: Any) -> str:
    kinds = (
        (bool, "bool"),
        (str, "string"),
        (int, "number"),
        (float, "number"),
        (list, "array"),
        (dict, "object"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), "null")


def _go_json_error(body: bytes, error: Exception) -> str:
    text = body.decode("utf-8", "replace")
    position = error.pos if isinstance(error, json.JSONDecodeError) else len(text)
    rest = text[position:].lstrip()
    if not rest:
        return "unexpected EOF"
    place = "object key string" if "property name" in str(error) else "value"
    if isinstance(error, json.JSONDecodeError) and "delimiter" in error.msg:
        return f"invalid character '{rest[0]}' after object key:value pair"
    return f"invalid character '{rest[0]}' looking for beginning of {place}"


def _remote(model: Model) -> dict[str, str]:
    if not model.remote_host:
        return {}
    return {"remote_model": model.remote_model, "remote_host": model.remote_host}


def _listed(model: Model) -> dict[str, Any]:
    details = {**model.details, "parent_model": model.parent}
    capabilities = model.capabilities
    # Seen in the recordings, not understood: the list reads no header of files that Ollama itself wrote when it made a
    # model, which keep no general.type. It then takes an embedding model for one that completes.
    if "general.type" in model.gguf.keys:
        details["context_length"] = model.gguf.number("context_length")
        details["embedding_length"] = model.gguf.number("embedding_length")
    elif capabilities == ["embedding"]:
        capabilities = ["completion"]
    return {
        "name": model.name,
        "model": model.name,
        **_remote(model),
        "modified_at": gotext.timestamp(model.modified_ns),
        "size": model.size_bytes,
        "digest": model.digest,
        "details": details,
        **({"capabilities": capabilities} if capabilities else {}),
    }


def _shown(model: Model, verbose: bool) -> dict[str, Any]:
    parameters = sorted(model.parameters.items())
    reply: dict[str, Any] = {}
    if model.licenses:
        reply["license"] = "\n".join(model.licenses)
    reply["modelfile"] = _modelfile(model, parameters)
    if parameters:
        reply["parameters"] = "\n".join(
            f"{name:<30} {one}"
            for name, value in parameters
            for one in map(_quoted, value if isinstance(value, list) else [value])
        )
    reply["template"] = model.template
    if model.system:
        reply["system"] = model.system
    reply["details"] = {**model.details, "parent_model": model.parent}
    if model.messages:
        reply["messages"] = list(model.messages)
    reply.update(_remote(model))
    if model.blob is None:
        reply["model_info"] = {}
    else:
        reply["model_info"] = _keys(whole_header(model.blob) if verbose else model.gguf, verbose)
        if model.projector and model.projector_gguf:
            reply["projector_info"] = _keys(
                whole_header(model.projector) if verbose else model.projector_gguf, verbose
            )
        reply["tensors"] = [
            {"name": name, "type": kind, "shape": list(shape)} for name, kind, shape in model.gguf.tensors
        ]
        reply["capabilities"] = model.capabilities
    reply["modified_at"] = gotext.timestamp(model.modified_ns)
    return reply


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def _keys(gguf: Gguf, verbose: bool) -> dict[str, Any]:
    keys = {**gguf.keys, "general.parameter_count": gguf.parameter_count}
    if gguf.architecture != "clip":
        keys.pop("general.name", None)
    return {name: keys[name] if verbose else _abridged(keys[name]) for name in sorted(keys)}


def _abridged(value: Any) -> Any:
    return None if isinstance(value, list) else value


def _modelfile(model: Model, parameters: list[tuple[str, Any]]) -> str:
    lines = [
        '# Modelfile generated by "ollama show"',
        "# To build a new Modelfile based on this, replace FROM with:",
        f"# FROM {model.name}",
        "",
        f"FROM {model.blob or ''}",
    ]
    if model.projector:
        lines.append(f"FROM {model.projector}")
    if model.adapter:
        lines.append(f"ADAPTER {model.adapter}")
    lines.append(f"TEMPLATE {_modelfile_text(model.template)}")
    if model.system:
        lines.append(f"SYSTEM {_modelfile_text(model.system)}")
    for name, value in parameters:
        lines += [f"PARAMETER {name} {one}" for one in (value if isinstance(value, list) else [value])]
    lines += [f"LICENSE {_modelfile_text(license_text)}" for license_text in model.licenses]
    lines += [f"MESSAGE {message['role']} {message['content']}" for message in model.messages]
    return "\n".join(lines) + "\n"


def _modelfile_text(text: str) -> str:
    return f'"""{text}"""' if re.search(r'["\n]', text) else text


def _embedding(text: str, width: int) -> list[float]:
    seed = hashlib.sha256(text.encode()).digest()
    values = [seed[position % len(seed)] / 255 - 0.5 for position in range(width)]
    norm = sum(value * value for value in values) ** 0.5 or 1.0
    return [round(value / norm, 8) for value in values]
