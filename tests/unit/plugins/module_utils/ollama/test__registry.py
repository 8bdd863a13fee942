# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry tells the size and the header of a model before it is here, and what it does wrong is one sentence."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _gguf, _registry
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._gguf import read_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._proxies import proxies_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._registry import (
    Registry,
    RegistryError,
    UnknownModelError,
)
from ansible_collections.gpufleet.ollama.tests.registry.front import Front
from ansible_collections.gpufleet.ollama.tests.registry.models import publish, small_model
from ansible_collections.gpufleet.ollama.tests.registry.proxy import ForwardProxy


@pytest.fixture
def front():
    front = Front(0).start()
    yield front
    front.stop()


@pytest.fixture
def registry(front, tmp_path):
    """The registry of a model, whose manifest and file the front holds."""
    publish(front, "team/model", "v1", small_model(tmp_path), {"num_ctx": 1024})
    return Registry(f"localhost:{front.port}/team/model:v1", insecure=True)


def test_a_manifest_tells_digest_and_sizes(front, registry, tmp_path):
    manifest = registry.manifest()
    text = front.kept["/v2/team/model/manifests/v1"]
    assert manifest.digest == hashlib.sha256(text).hexdigest()
    weights = (tmp_path / "small-1.gguf").stat().st_size
    assert [(layer.kind, layer.size_bytes) for layer in manifest.layers] == [("model", weights), ("params", 17)]
    assert manifest.size_bytes == sum(layer.size_bytes for layer in manifest.layers) + manifest.config.size_bytes


def test_a_file_that_two_layers_name_is_counted_once(front, registry):
    twice = front.kept["/v2/team/model/manifests/v1"].replace(b'"layers": [', b'"layers": [LAYER, ')
    layer = twice[twice.index(b'[LAYER, ') + 8 :].split(b"}")[0] + b"}"
    front.kept["/v2/team/model/manifests/v1"] = twice.replace(b"LAYER", layer)
    manifest = registry.manifest()
    assert len(manifest.layers) == 3
    assert len(manifest.files) == 3


def test_the_header_is_read_from_the_first_bytes(front, registry, tmp_path, monkeypatch):
    monkeypatch.setattr(_gguf, "BLOCK_BYTES", 500)
    monkeypatch.setattr(_registry, "FIRST_PIECE_BYTES", 1000)
    monkeypatch.setattr(_registry, "PIECE_BYTES", 3000)
    model = registry.model(registry.manifest())
    assert model.header == read_header(str(tmp_path / "small-1.gguf"))
    assert model.parameters == {"num_ctx": 1024}
    assert model.shape().name == registry.name
    asked = [asked for _method, path, asked in front.asked if path.startswith("/direct")]
    assert asked[1] == "bytes=0-999"
    ranges = [tuple(map(int, text[6:].split("-"))) for text in asked[1:-1]]
    assert ranges == sorted(ranges)
    assert sum(last - first + 1 for first, last in ranges) < (tmp_path / "small-1.gguf").stat().st_size / 4


@pytest.mark.parametrize(
    ("faults", "sentence"),
    [
        ({"manifest_status": 404}, "has no model team/model:v1: look for a slip in its name and tag, or push it there"),
        ({"manifest_status": 403}, "answers 403: it lets only those in who log in, as Ollama may$"),
        ({"manifest_status": 401}, "answers 401: .* asks for it in a way that Ollama does not have: let the host in"),
        ({"manifest_status": 500}, "answers 500"),
        ({"half_manifest": True}, "answers half: IncompleteRead"),
    ],
)
def test_a_registry_that_does_not_tell(front, registry, faults, sentence):
    front.given = faults
    with pytest.raises(RegistryError, match=sentence):
        registry.manifest()


NOT_OURS = "in a way that Ollama does not have: let the host in without a login"


@pytest.mark.parametrize(
    ("challenge", "sentence"),
    [
        ('Basic realm="a house"', f"asks for Basic {NOT_OURS}"),
        ('Bearer realm="https://auth.example.com/token",service="r"', f"asks for Bearer {NOT_OURS}"),
        ('Bearer realm="http://localhost:PORT/token",service="r"', "as Ollama does with its key, where the registry knows that"),
        ('Bearer realm="http://localhost:PORT@evil.example/token"', f"asks for Bearer {NOT_OURS}"),
        ('Bearer realm="http://["', f"asks for Bearer {NOT_OURS}"),
        ("Negotiate", f"asks for Negotiate {NOT_OURS}"),
        ("\x1b[31mX", f"asks for it {NOT_OURS}"),
    ],
)
def test_a_registry_that_wants_a_login(front, registry, challenge, sentence):
    front.given = {"manifest_status": 401, "challenge": challenge.replace("PORT", str(front.port))}
    with pytest.raises(RegistryError, match=sentence):
        registry.manifest()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"<html>", "is no manifest .*: the registry, or a proxy before it, answers half or for another"),
        (b"[]", "is no manifest"),
        (b"{}", "is no manifest: a layer is nothing"),
        (b'{"config": {}, "layers": 3}', "is no manifest: layers is a value of the kind int"),
        (b'{"config": {"digest": "x", "size": 1}, "layers": []}', "a text of 1 is no sha256 digest"),
        (b'{"layers": [{"digest": "x", "size": -1}]}', "is no manifest: the size of a layer"),
        (
            b'{"layers": [{"digest": "sha256:%s", "size": 1}], "config": {"digest": "sha256:%s", "size": %d}}'
            % (b"b" * 64, b"a" * 64, _registry.MAX_MODEL_BYTES),
            "is to have 1125899906842625 bytes, which no disk holds",
        ),
        (b'{"layers": [], "config": {"digest": "sha256:%s", "size": %d}}' % (b"a" * 64, 10**400), "the size of a layer"),
    ],
)
def test_what_is_no_manifest(front, registry, text, sentence):
    front.kept["/v2/team/model/manifests/v1"] = text
    with pytest.raises(UnknownModelError, match=sentence):
        registry.manifest()


@pytest.mark.parametrize(
    ("faults", "sentence"),
    [
        ({"no_ranges": True}, "does not give a part of a file, so that a model there cannot be looked into"),
        ({"short_range": True}, "answers half: .* bytes came of .* that were asked for"),
        ({"blob_status": 403}, "answers 403: it lets only those in who log in"),
        ({"blob_status": 500}, "answers 500$"),
        ({"redirect": "file:///etc/passwd"}, "redirects to another place than one of HTTP"),
        ({"redirect": "http://["}, "redirects to another place than one of HTTP"),
        ({"redirect": "http://[::1"}, "redirects to another place than one of HTTP"),
        ({"redirect": "http://" + "a" * 5000 + "/x"}, r"^a{80}\.\.\. cannot be asked"),
        ({"redirect": "/v2/team/model/blobs/again"}, f"redirects more than {_registry.MAX_REDIRECTS} times"),
    ],
)
def test_a_file_that_cannot_be_looked_into(front, registry, monkeypatch, faults, sentence):
    monkeypatch.setattr(_registry, "FIRST_PIECE_BYTES", 1000)
    manifest = registry.manifest()
    front.given = faults
    with pytest.raises(RegistryError, match=sentence) as raised:
        registry.model(manifest)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(("cuts", "is_read"), [(_registry.TRIES - 1, True), (_registry.TRIES, False)])
def test_a_connection_that_breaks_off_is_made_again(front, registry, cuts, is_read):
    manifest = registry.manifest()
    front.given = {"cut_after": 50_000, "cuts": cuts}
    if is_read:
        assert registry.model(manifest).parameters == {"num_ctx": 1024}
    else:
        with pytest.raises(RegistryError, match="answers half: IncompleteRead"):
            registry.model(manifest)


def test_no_secret_of_a_redirect_is_told(front, registry):
    manifest = registry.manifest()
    front.given = {"redirect": "http://user:hunter2@127.0.0.1:1/blob?X-Amz-Signature=hunter3"}
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:1 cannot be asked: Connection refused") as raised:
        registry.model(manifest)
    assert "hunter" not in str(raised.value)


@pytest.mark.parametrize("place", ["127.0.0.1:1", "localhost:1", "169.254.169.254", "[::1]:1", "[fe80::1]:1", "0.0.0.0:1"])
def test_no_registry_elsewhere_sends_this_host_to_itself_or_to_its_own_link(place):
    class Elsewhere(Registry):
        def _answer(self, url, max_bytes, headers, may_be_near):
            if "/manifests/" in url:
                return _registry._Answer("elsewhere", 307, b"", f"http://{place}/secrets", "", is_near=False)
            return super()._answer(url, max_bytes, headers, may_be_near)

    with pytest.raises(RegistryError, match="cannot be asked: it lies on this machine or its own link"):
        Elsewhere("elsewhere/team/model", insecure=True).manifest()


def test_with_https_no_redirect_leads_to_plain_http(front, registry, monkeypatch):
    secure = Registry(registry.name)
    answer = _registry._Answer("registry", 307, b"", "http://elsewhere/blob", "")
    monkeypatch.setattr(secure, "_exchange", lambda *_arguments: answer)
    with pytest.raises(RegistryError, match="redirects to another place than one of HTTPS"):
        secure.manifest()


def test_plain_http_asked_by_https_says_what_to_do(front, registry):
    with pytest.raises(RegistryError, match="a registry that speaks plain HTTP needs insecure: true"):
        Registry(registry.name).manifest()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A file with a certificate for TestProxy.NAME, signed by itself, and its key."""
    key, signed = (tmp_path_factory.mktemp("tls") / name for name in ("key", "signed"))
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    name = ["-subj", f"/CN={TestProxy.NAME}", "-addext", f"subjectAltName=DNS:{TestProxy.NAME}"]
    subprocess.run(["openssl", "req", *kind, *name, "-keyout", key, "-out", signed], check=True, capture_output=True)
    signed.write_bytes(key.read_bytes() + signed.read_bytes())
    return signed


class TestProxy:
    """A registry whose name only the proxy knows, by plain HTTP and by TLS."""

    NAME = "registry.test"

    @pytest.fixture(params=["http", "https"])
    def scheme(self, request, front, certificate, monkeypatch):
        if request.param == "https":
            front.speak_tls(certificate)
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        return request.param

    @pytest.fixture
    def beyond(self, front, tmp_path, scheme):
        """`beyond(proxy)` is the registry of a model as a service sees it that goes by this proxy."""
        publish(front, "team/model", "v1", small_model(tmp_path), {"num_ctx": 1024})

        def look(url, **environment):
            proxies = proxies_of({f"{scheme.upper()}_PROXY": url, **environment})
            return Registry(f"{self.NAME}:{front.port}/team/model:v1", scheme == "http", proxies)

        return look

    @pytest.fixture
    def proxy(self):
        made = []

        def make(login=""):
            made.append(ForwardProxy(login))
            return made[-1]

        yield make
        for one in made:
            one.stop()

    @pytest.mark.parametrize("login", ["", "user:hunter2"])
    def test_all_is_asked_by_it(self, beyond, proxy, front, scheme, login):
        forward = proxy(login)
        registry = beyond(forward.url)
        model = registry.model(registry.manifest())
        assert (model.shape().name, model.parameters) == (registry.name, {"num_ctx": 1024})
        place = f"{self.NAME}:{front.port}"
        expected = f"CONNECT {place} HTTP/1.1" if scheme == "https" else f"GET http://{place}/v2/team/model/manifests/v1 HTTP/1.1"
        assert forward.asked[0] == expected
        assert len(forward.asked) == len(front.asked)

    @pytest.mark.parametrize(
        ("login", "given", "sentence"),
        [
            ("user:hunter2", "", r"it wants a login and the variable has none$"),
            ("user:hunter2", "user:hunter3@", r"it wants a login but does not take that of the variable$"),
        ],
    )
    def test_one_that_wants_another_login(self, beyond, proxy, login, given, sentence):
        forward = proxy(login)
        place = forward.url.rpartition("@")[2]
        told = rf"cannot be asked through the proxy {place} \(the service's HTTPS?_PROXY\): {sentence}"
        with pytest.raises(RegistryError, match=told) as raised:
            beyond(f"http://{given}{place}").manifest()
        assert "hunter" not in str(raised.value)

    def test_one_that_does_not_let_through(self, beyond, proxy, scheme):
        forward = proxy()
        forward.status = 502
        told = r"answers 502 through the proxy .*Bad Gateway|cannot be asked through the proxy .*: it answers 502 Bad Gateway$"
        with pytest.raises(RegistryError, match=told):
            beyond(forward.url).manifest()

    def test_one_that_is_not_there(self, beyond):
        with pytest.raises(RegistryError, match=r"cannot be asked through the proxy 127\.0\.0\.1:1 .*: Connection refused"):
            beyond("http://user:hunter2@127.0.0.1:1").manifest()

    def test_one_of_another_kind(self, beyond):
        with pytest.raises(RegistryError, match="is a proxy of the kind socks5, by which Ollama may go and this look cannot"):
            beyond("socks5://user:hunter2@127.0.0.1:1").manifest()

    def test_what_is_excepted_is_asked_without_it(self, beyond, proxy):
        forward = proxy()
        with pytest.raises(RegistryError, match=r"registry\.test:\d+ cannot be asked: "):
            beyond(forward.url, NO_PROXY=".test").manifest()
        assert forward.asked == []

    @pytest.mark.parametrize("place", ["127.0.0.1", "localhost", "169.254.169.254", "[::1]", "metadata.localhost."])
    def test_no_redirect_leads_to_the_own_link(self, beyond, proxy, front, scheme, place):
        registry = beyond(proxy().url)
        manifest = registry.manifest()
        front.given = {"redirect": f"{scheme}://{place}:{front.port}/secrets"}
        with pytest.raises(RegistryError, match=r"cannot be asked.*: it lies on this machine or its own link"):
            registry.model(manifest)
        assert not any("/secrets" in path for _method, path, _range in front.asked)


def test_a_certificate_that_the_host_does_not_trust(front, registry, certificate):
    front.speak_tls(certificate)
    with pytest.raises(RegistryError, match=r"the host does not trust its certificate \(self.signed certificate\)"):
        Registry(registry.name).manifest()


def test_what_is_too_long_is_not_read(front, registry, monkeypatch):
    monkeypatch.setattr(_registry, "MAX_MANIFEST_BYTES", 100)
    with pytest.raises(RegistryError, match="the answer is longer than 100 bytes"):
        registry.manifest()
    monkeypatch.undo()
    manifest = registry.manifest()
    monkeypatch.setattr(_registry, "MAX_TEXT_BYTES", 10)
    with pytest.raises(RegistryError, match="bytes, at most 10 are read"):
        registry.model(manifest)
    monkeypatch.undo()
    monkeypatch.setattr(_registry, "MAX_HEADER_BYTES", 10)
    with pytest.raises(RegistryError, match="is longer than 10 bytes"):
        registry.model(manifest)


def test_many_files_share_one_budget(front, registry, monkeypatch):
    text = front.kept["/v2/team/model/manifests/v1"]
    layers = json.loads(text)["layers"]

    def with_layers(*more):
        front.kept["/v2/team/model/manifests/v1"] = json.dumps({**json.loads(text), "layers": [*layers, *more]}).encode()
        return registry.manifest()

    texts = with_layers(*layers[1:] * 3)
    config_bytes = texts.config.size_bytes
    monkeypatch.setattr(_registry, "MAX_TEXT_BYTES", config_bytes + 3 * layers[1]["size"])
    with pytest.raises(RegistryError, match=r"the texts of .* bytes, at most"):
        registry.model(texts)
    monkeypatch.undo()
    files = with_layers(*layers[:1] * 3)
    monkeypatch.setattr(_registry, "MAX_FETCHED_BYTES", 2 * layers[0]["size"])
    with pytest.raises(RegistryError, match=r"the headers of .* are longer than"):
        Registry(registry.name, insecure=True).model(files)


def test_a_registry_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(_registry, "ANSWER_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        registry = Registry(f"127.0.0.1:{silent.getsockname()[1]}/team/model", insecure=True)
        with pytest.raises(RegistryError, match=r"cannot be asked: no whole answer within 0\.1 seconds"):
            registry.manifest()
        monkeypatch.setattr(_registry, "MODEL_SECONDS", 0.0)
        late = Registry(registry.name, insecure=True)
        with pytest.raises(RegistryError, match="not all was told within 0 seconds"):
            late.manifest()


@pytest.mark.parametrize("name", ["a b", "", "x/y/z/.hidden", "host/space name/model"])
def test_what_is_no_name_is_not_asked_for(name):
    with pytest.raises(UnknownModelError, match=r"is no model's name: write \[HOST"):
        Registry(name).manifest()


def test_the_budgets():
    assert (_registry.ANSWER_SECONDS, _registry.MODEL_SECONDS) == (20.0, 60.0)
    assert (_registry.MAX_MANIFEST_BYTES, _registry.MAX_TEXT_BYTES) == (4 << 20, 1 << 20)
    assert (_registry.FIRST_PIECE_BYTES, _registry.PIECE_BYTES, _registry.MAX_HEADER_BYTES) == (1 << 20, 4 << 20, 64 << 20)
    assert (_registry.MAX_FETCHED_BYTES, _registry.MAX_SHOWN_HOST) == (256 << 20, 80)
