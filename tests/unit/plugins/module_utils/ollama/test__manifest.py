# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A manifest's layers are taken by their kinds and sizes, and what is none is refused without what it holds."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _manifest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._gguf import GgufError
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._installed import (
    ModelError,
    UnplannableError,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._manifest import (
    Layer,
    kind_of,
    layers_of,
    model_of,
    refuse_unplannable,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import header
from hypothesis import given
from hypothesis import strategies as st

HEX = "a" * 64
ENTRY = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{HEX}", "size": 3}
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["digest", "size", "layers"]), inner)),
)


@pytest.mark.parametrize(
    ("manifest", "layers"),
    [
        ({"layers": [ENTRY]}, [Layer("model", f"sha256-{HEX}", 3)]),
        ({"layers": [{**ENTRY, "mediaType": "other", "digest": f"sha256-{HEX.upper()}"}]}, [Layer("other", f"sha256-{HEX}", 3)]),
        ({"layers": None}, []),
        ({}, []),
    ],
)
def test_layers(manifest, layers):
    assert layers_of(manifest, "m") == layers


@pytest.mark.parametrize(
    ("manifest", "sentence"),
    [
        ({"layers": 3}, "m is no manifest: layers is a value of the kind int, expected a list"),
        ({"layers": [3]}, "m is no manifest: a layer is a value of the kind int, expected a mapping"),
        ({"layers": [{**ENTRY, "size": True}]}, "m is no manifest: the size of a layer is a value of the kind bool"),
        ({"layers": [{**ENTRY, "size": -1}]}, "m is no manifest: the size of a layer is a value of the kind int"),
        ({"layers": [{**ENTRY, "digest": "hunter2"}]}, "m is no manifest: a text of 7 is no sha256 digest"),
        ({"layers": [ENTRY] * (_manifest.MAX_LAYERS + 1)}, "layers is a list of 20001, expected a list"),
    ],
)
def test_what_is_no_manifest(manifest, sentence):
    with pytest.raises(ModelError, match=sentence):
        layers_of(manifest, "m")


@given(st.dictionaries(st.just("layers"), ANYTHING))
def test_any_data_are_layers_or_refused(manifest):
    try:
        layers = layers_of(manifest, "m")
    except ModelError:
        return
    assert all(isinstance(layer.size_bytes, int) for layer in layers)


@pytest.mark.parametrize(("size", "sentence"), [(3, None), (4, "has 3 bytes, its manifest says 4: pull m again")])
def test_a_file_has_the_size_that_its_manifest_says(tmp_path, size, sentence):
    layer = Layer("model", f"sha256-{HEX}", size)
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        layer.check(str(tmp_path), "m")
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / layer.digest).write_bytes(b"abc")
    if sentence is None:
        layer.check(str(tmp_path), "m")
    else:
        with pytest.raises(ModelError, match=sentence):
            layer.check(str(tmp_path), "m")


def layer(kind, size=1, digest=HEX):
    return Layer(kind, f"sha256-{digest}", size)


def test_a_model_is_made_of_its_layers():
    published = header("gemma3:4b")
    layers = [
        *(layer("model", 9), layer("projector", 5, "b" * 64), layer("adapter", 2, "c" * 64)),
        *(layer("draft", 1, "d" * 64), layer("params"), layer("params")),
    ]
    read = iter([{"num_ctx": 1024, "num_batch": 8}, {"num_ctx": 2048}])
    model = model_of(
        "gemma3:4b", layers, {"model_family": "gemma3", "file_type": 3}, "m", lambda files: published, lambda _layer: next(read)
    )
    assert (model.projector_bytes, model.adapter_bytes, model.draft_bytes) == (5, 2, 1)
    assert model.parameters == {"num_ctx": 2048, "num_batch": 8}
    assert (model.family, model.quantization, model.digest) == ("gemma3", "", f"sha256-{HEX}")
    assert model.side_files == ("sha256-" + "c" * 64, "sha256-" + "b" * 64)


def test_what_makes_no_model():
    with pytest.raises(ModelError, match="m names no model layer: pull x again"):
        model_of("x", [layer("params")], {}, "m", lambda files: {}, lambda layer: {})

    def damaged(_files):
        raise GgufError("it is damaged")

    with pytest.raises(ModelError, match="model x: it is damaged"):
        model_of("x", [layer("model")], {}, "m", damaged, lambda layer: {})


@pytest.mark.parametrize(
    ("config", "layers"),
    [({"remote_host": "https://ollama.com"}, []), ({"model_format": "safetensors"}, []), ({}, [layer("tensor")])],
)
def test_what_no_plan_counts(config, layers):
    with pytest.raises(UnplannableError):
        refuse_unplannable(config, layers)
    refuse_unplannable({}, [layer("model")])


@pytest.mark.parametrize(
    ("value", "kind"), [("abc", "a text of 3"), ([1], "a list of 1"), (None, "nothing"), (1.5, "a value of the kind float")]
)
def test_kinds(value, kind):
    assert kind_of(value) == kind
