# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installed models out of recorded replies, the same as from the store on disk."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _store
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api_models import (
    parse_parameters,
    read_model,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._installed import (
    ModelError,
    UnplannableError,
)
from hypothesis import given
from hypothesis import strategies as st
from store import add_model

TAG = {"name": "gemma3-270m:latest", "size": 253113180, "details": {"family": "gemma3"}}


@pytest.fixture
def shown(recording):
    """The recorded reply to a verbose /api/show."""
    _status, body = recording("show_verbose")
    return json.loads(body)


def reply_with(server, reply):
    server.replies["/api/show"] = lambda _body: (200, json.dumps(reply).encode())


class TestRecordedModel:
    def test_is_read_without_its_vocabulary(self, ollama):
        model = read_model(Api(ollama.url), TAG)
        assert (model.name, model.family) == ("gemma3-270m:latest", "gemma3")
        assert model.header["metadata"]["gemma3.block_count"] == 18
        assert ["token_embd.weight", "Q8_0", [640, 262144]] in model.header["tensors"]
        assert [body["verbose"] for _method, path, body in ollama.asked if path == "/api/show"] == [False]

    def test_its_parameters_are_read(self, ollama):
        model = read_model(Api(ollama.url), dict(TAG, name="g-ctx8k:latest"))
        assert model.shape().num_ctx == 8192

    def test_its_blob_is_named(self, ollama):
        digest = "sha256-a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
        assert read_model(Api(ollama.url), TAG).digest == digest

    def test_sizes_of_files_that_cannot_be_seen_are_estimated_and_said_to_be(self, ollama):
        model = read_model(Api(ollama.url), TAG)
        assert 253_000_000 < model.header["file_bytes"] < TAG["size"]
        assert (
            model.note == "model gemma3-270m:latest: its files cannot be seen, so their sizes are estimated"
        )

    def test_without_a_size_it_is_not_taken(self, ollama):
        with pytest.raises(ModelError, match="model gemma3-270m:latest: the API does not tell its size"):
            read_model(Api(ollama.url), {"name": "gemma3-270m"})

    def test_arrays_that_were_left_out_are_asked_for(self, server, shown):
        pattern = [True] * 18
        brief = dict(
            shown, model_info={**shown["model_info"], "gemma3.attention.sliding_window_pattern": None}
        )
        full = dict(
            shown, model_info={**brief["model_info"], "gemma3.attention.sliding_window_pattern": pattern}
        )
        server.replies["/api/show"] = lambda body: (
            200,
            json.dumps(full if body["verbose"] else brief).encode(),
        )
        metadata = read_model(Api(server.url), TAG).header["metadata"]
        assert metadata["gemma3.attention.sliding_window_pattern"] == pattern
        assert metadata["tokenizer.ggml.tokens"] == {"array_length": 262144}


class TestAgainstTheDisk:
    """The store is made of what the recorded server said of the model; its reply names the store's own file."""

    @pytest.fixture
    def store(self, tmp_path, shown):
        metadata = {
            key: value for key, value in shown["model_info"].items() if key != "general.parameter_count"
        }
        for key in ("tokens", "scores", "token_type"):
            metadata[f"tokenizer.ggml.{key}"] = {"array_length": 262144}
        metadata["gemma3.rope.freq_base"] = 1000000.0
        tensors = [[tensor["name"], tensor["type"], tensor["shape"]] for tensor in shown["tensors"]]
        header = {"metadata": metadata, "tensors": tensors, "quantization": "Q4_K_M"}
        add_model(tmp_path, "gemma3-270m", header)
        add_model(tmp_path, "g-ctx8k", header, params={"num_ctx": 8192, "temperature": 0.1})
        return tmp_path

    @pytest.mark.parametrize("name", ["gemma3-270m:latest", "g-ctx8k:latest"])
    def test_both_sources_give_the_same_shape(self, name, ollama, store):
        (manifest,) = [one for one in _store.installed(str(store)) if one.name == name]
        on_disk = _store.read_model(str(store), manifest).shape()
        recorded_show = ollama.replies["/api/show"]

        def with_our_file(body):
            status, content = recorded_show(body)
            reply = json.loads(content)
            first, old, rest = reply["modelfile"].partition(
                "FROM /usr/share/ollama/.ollama/models/blobs/sha256-"
            )
            reply["modelfile"] = f"{first}FROM {store}/blobs/{on_disk.digest}\n{rest.partition(chr(10))[2]}"
            assert old
            return status, json.dumps(reply).encode()

        ollama.replies["/api/show"] = with_our_file
        (tag,) = [tag for tag in Api(ollama.url).tags() if tag["name"] == name]
        model = read_model(Api(ollama.url), tag)
        assert asdict(model.shape()) == asdict(on_disk)
        assert model.note == ""


class TestOtherModels:
    def test_a_cloud_model_takes_no_memory_here(self, server):
        with pytest.raises(UnplannableError, match=r"runs at https://ollama.com and takes no memory here"):
            read_model(Api(server.url), dict(TAG, remote_host="https://ollama.com"))
        assert server.asked == []

    def test_a_safetensors_model_is_not_predicted(self, server):
        with pytest.raises(UnplannableError, match="safetensors"):
            read_model(Api(server.url), dict(TAG, details={"format": "safetensors"}))

    def test_separate_files_are_counted(self, server, shown, tmp_path):
        sizes = {"model": 1000, "adapter": 30, "projector": 200, "draft": 4}
        for name, size in sizes.items():
            (tmp_path / name).write_bytes(bytes(size))
        lines = ["# a comment", ""]
        lines += [f"FROM {tmp_path}/model", f"ADAPTER {tmp_path}/adapter", f"FROM {tmp_path}/projector"]
        lines += [f"DRAFT {tmp_path}/draft", "TEMPLATE x", f"FROM {tmp_path}/model"]
        reply_with(server, dict(shown, modelfile="\n".join(lines)))
        model = read_model(Api(server.url), TAG)
        assert model.header["file_bytes"] == 1000
        assert (model.projector_bytes, model.adapter_bytes, model.draft_bytes) == (200, 30, 4)
        assert model.digest == ""

    @pytest.mark.parametrize("tensors", [None, [], {}])
    def test_a_reply_without_tensors_is_of_no_use(self, server, shown, tensors):
        reply_with(server, dict(shown, tensors=tensors))
        with pytest.raises(ModelError, match="model gemma3-270m:latest: the API does not list its tensors"):
            read_model(Api(server.url), TAG)

    @pytest.mark.parametrize(
        "tensor", [3, {}, {"name": "x", "type": "F32"}, {"name": "x", "type": "F32", "shape": 3}]
    )
    def test_a_tensor_must_have_name_type_and_shape(self, server, shown, tensor):
        reply_with(server, dict(shown, tensors=[tensor]))
        with pytest.raises(ModelError, match="lists a tensor without name, type and shape"):
            read_model(Api(server.url), TAG)

    def test_tensors_of_a_type_that_ollama_does_not_name_are_told(self, server, shown):
        reply_with(server, dict(shown, tensors=[{"name": "x", "type": "unknown", "shape": [256]}]))
        with pytest.raises(
            ModelError, match=r"does not name the type of its tensors .* read the store on disk"
        ):
            read_model(Api(server.url), TAG)

    def test_a_reply_without_anything_else_is_no_model(self, server, shown):
        reply_with(server, {"tensors": shown["tensors"], "model_info": 3})
        with pytest.raises(ModelError, match=r"general\.architecture is missing"):
            read_model(Api(server.url), TAG).shape()


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("", {}),
        ("num_ctx                        8192\ntemperature   0.1", {"num_ctx": 8192, "temperature": "0.1"}),
        ('stop   "<a>"\nstop   "<b c>"', {"stop": '"<b c>"'}),
        ("num_gpu -1\n\n  \nflag", {"num_gpu": -1, "flag": ""}),
        ("num_ctx " + "9" * 30, {"num_ctx": "9" * 30}),
    ],
)
def test_parameters_are_read_line_by_line(text, parameters):
    assert parse_parameters(text) == parameters


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
KEYS = ("details", "model_info", "tensors", "modelfile", "parameters", "template", "system", "license")
TENSOR = st.fixed_dictionaries({"name": JSON, "type": JSON, "shape": st.lists(JSON, max_size=4)})


@given(
    tag=st.fixed_dictionaries(
        {"name": st.text(max_size=20)}, optional={"size": JSON, "details": JSON, "model": JSON}
    ),
    show=st.fixed_dictionaries(
        {}, optional={**dict.fromkeys(KEYS, JSON), "tensors": st.lists(TENSOR, max_size=3) | JSON}
    ),
)
def test_whatever_a_server_tells_is_a_model_or_one_sentence(tag, show):
    class AnyServer:
        def show(self, model, *, verbose=False):
            return show

    with contextlib.suppress(ModelError, UnplannableError):
        read_model(AnyServer(), tag).shape()
