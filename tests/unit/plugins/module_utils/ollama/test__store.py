# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store on disk tells every installed model, and names the file that is wrong."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _store
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._installed import (
    ModelError,
    UnplannableError,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._store import (
    StoreError,
    installed,
    layers_by_model,
    look,
    read_model,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from store import add_model, blob_path, load_header, manifest_path

LLAMA = load_header("llama3.2:1b", tokens=1100)
PROJECTOR = {"metadata": {"general.architecture": "clip"}, "tensors": [["v.weight", "F16", [64, 64]]]}


def read(store, name):
    """Read one model by its name."""
    return read_model(str(store), next(one for one in installed(str(store)) if one.name == name))


def change(path, change):
    """Change the JSON in a file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


class TestListing:
    def test_a_new_store_holds_no_models(self, tmp_path):
        assert installed(str(tmp_path)) == []

    def test_lists_models_of_every_registry_by_name(self, tmp_path):
        for name in ("llama3.2:1b", "alias", "somebody/model:tag", "hf.co/somebody/model:Q8_0"):
            add_model(tmp_path, name, LLAMA)
        names = [one.name for one in installed(str(tmp_path))]
        assert names == ["alias:latest", "hf.co/somebody/model:Q8_0", "llama3.2:1b", "somebody/model:tag"]

    def test_the_newer_folder_of_manifests_wins(self, tmp_path):
        add_model(tmp_path, "llama3.2:1b", LLAMA)
        old = manifest_path(tmp_path, "llama3.2:1b")
        new = tmp_path / "manifests-v2" / "ollama.com" / "library" / "llama3.2" / "1b"
        new.parent.mkdir(parents=True)
        blob = blob_path(tmp_path, f"sha256:{hashlib.sha256(old.read_bytes()).hexdigest()}")
        blob.write_bytes(old.read_bytes())
        os.symlink(f"../../../../blobs/{blob.name}", new)
        (found,) = installed(str(tmp_path))
        assert (found.name, found.path, found.blob) == ("llama3.2:1b", str(new), blob.name)
        assert read(tmp_path, "llama3.2:1b").family == "llama"
        blob.write_bytes(b"{}")
        with pytest.raises(ModelError, match=f"{blob} is another file than its name says"):
            read(tmp_path, "llama3.2:1b")

    def test_files_at_other_depths_are_no_manifests(self, tmp_path):
        add_model(tmp_path, "llama3.2:1b", LLAMA)
        (tmp_path / "manifests" / "stray").write_text("x")
        (tmp_path / "manifests" / "registry.ollama.ai" / "library" / "llama3.2" / ".1b.swp").write_text("x")
        (tmp_path / "manifests" / "registry.ollama.ai" / "library" / "llama3.2" / "folder").mkdir()
        assert [one.name for one in installed(str(tmp_path))] == ["llama3.2:1b"]

    def test_a_store_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(StoreError, match=r"absent is no model store: No such file.*; set models_path"):
            installed(str(tmp_path / "absent"))

    def test_a_file_is_no_store(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreError, match="is no model store: Not a directory"):
            installed(str(tmp_path / "file"))

    def test_a_store_that_may_not_be_read_asks_for_root(self, tmp_path, monkeypatch):
        def refuse(path, **_options):
            raise PermissionError(13, "Permission denied", path)

        monkeypatch.setattr(_store, "open_folder", refuse)
        with pytest.raises(StoreError, match=f"{tmp_path} cannot be read: run the task as root"):
            installed(str(tmp_path))

    def test_an_absurd_number_of_models_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_store, "MAX_MANIFESTS", 2)
        for number in range(3):
            add_model(tmp_path, f"model:{number}", LLAMA)
        with pytest.raises(StoreError, match="holds more than 2 models"):
            installed(str(tmp_path))


class TestLinks:
    @pytest.mark.parametrize(
        "place",
        ["manifests", "manifests/registry.ollama.ai", "manifests/registry.ollama.ai/library/llama3.2/1b"],
    )
    def test_are_not_followed_and_said(self, place, tmp_path):
        add_model(tmp_path / "store", "llama3.2:1b", LLAMA)
        (tmp_path / "store" / place).rename(tmp_path / "secret")
        os.symlink(tmp_path / "secret", tmp_path / "store" / place)
        found = look(str(tmp_path / "store"))
        assert found.models == {}
        assert found.notes[0].startswith(f"'{place}' is a link where a manifest")

    def test_to_their_own_folder_cost_nothing(self, tmp_path):
        add_model(tmp_path, "llama3.2:1b", LLAMA)
        for number in range(300):
            os.symlink(".", tmp_path / "manifests" / f"loop{number}")
        found = look(str(tmp_path))
        assert (list(found.models), len(found.links)) == (["llama3.2:1b"], 300)
        assert found.notes[0].startswith(
            "'manifests/loop0', 'manifests/loop1', 'manifests/loop10', ... are 300 links where"
        )

    def test_the_store_itself_may_be_one(self, tmp_path):
        add_model(tmp_path / "disk", "llama3.2:1b", LLAMA)
        os.symlink(tmp_path / "disk", tmp_path / "store")
        assert read(tmp_path / "store", "llama3.2:1b").family == "llama"

    def test_folders_and_files_are_counted_wherever_they_lie(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_store, "MAX_ENTRIES", 20)
        for number in range(21):
            (tmp_path / "manifests" / f"h{number}").mkdir(parents=True)
        with pytest.raises(StoreError, match=f"the store {tmp_path} is not read: .* more than 20 files and"):
            installed(str(tmp_path))


class TestReading:
    def test_tells_header_digest_family_and_parameters(self, tmp_path):
        add_model(tmp_path, "llama3.2:1b", LLAMA, params={"num_ctx": 8192, "stop": ["a"]}, family="other")
        model = read(tmp_path, "llama3.2:1b")
        assert model.header["metadata"] == LLAMA["metadata"]
        assert model.header["tensors"] == LLAMA["tensors"]
        assert (tmp_path / "blobs" / model.digest).stat().st_size == model.header["file_bytes"]
        assert (model.family, model.quantization) == ("other", "Q8_0")
        assert model.parameters == {"num_ctx": 8192, "stop": ["a"]}

    def test_a_model_without_parameters_has_none(self, tmp_path):
        add_model(tmp_path, "llama3.2:1b", LLAMA)
        assert read(tmp_path, "llama3.2:1b").parameters == {}

    def test_counts_projector_and_adapter(self, tmp_path):
        add_model(tmp_path, "llama3.2:1b", LLAMA, projector=PROJECTOR, adapter=PROJECTOR)
        model = read(tmp_path, "llama3.2:1b")
        assert model.projector_bytes == model.adapter_bytes > 64 * 64 * 2

    def test_tells_what_lies_beside_the_weights(self, tmp_path):
        add_model(tmp_path, "plain", LLAMA)
        add_model(tmp_path, "vision", LLAMA, projector=PROJECTOR)
        assert read(tmp_path, "plain:latest").side_files == ()
        (side_file,) = read(tmp_path, "vision:latest").side_files
        assert (tmp_path / "blobs" / side_file).is_file()
        assert read(tmp_path, "vision:latest").shape().parameters["side_files"] == [side_file]

    def test_tags_on_one_blob_have_the_same_digest(self, tmp_path):
        add_model(tmp_path, "llama3.2:1b", LLAMA)
        add_model(tmp_path, "chat:8k", LLAMA, params={"num_ctx": 8192})
        assert read(tmp_path, "llama3.2:1b").digest == read(tmp_path, "chat:8k").digest

    def test_blobs_may_be_links(self, tmp_path):
        add_model(tmp_path / "store", "llama3.2:1b", LLAMA)
        (tmp_path / "store" / "blobs").rename(tmp_path / "disk")
        os.symlink(tmp_path / "disk", tmp_path / "store" / "blobs")
        assert read(tmp_path / "store", "llama3.2:1b").family == "llama"

    def test_the_parts_of_a_split_model_are_joined(self, tmp_path):
        add_model(tmp_path, "llama3.2:1b", LLAMA)
        layers = []
        for number in range(2):
            metadata = {**LLAMA["metadata"], "split.no": number, "split.count": 2}
            part = {"metadata": metadata, "tensors": LLAMA["tensors"][number::2]}
            path = add_model(tmp_path, f"part:{number}", part)
            layers.append(json.loads(path.read_text())["layers"][0])
        manifest = manifest_path(tmp_path, "llama3.2:1b")
        change(manifest, lambda content: content.update(layers=layers[::-1]))
        model = read(tmp_path, "llama3.2:1b")
        assert sorted(model.header["tensors"]) == sorted(LLAMA["tensors"])
        assert model.header["file_bytes"] == sum(layer["size"] for layer in layers)

    def test_of_a_list_of_manifests_the_one_for_llama_cpp_is_read(self, tmp_path):
        path = add_model(tmp_path, "llama3.2:1b", LLAMA)
        children = [{"runner": "mlx"}, {"runner": "llamacpp", **json.loads(path.read_text())}]
        path.write_text(json.dumps({"mediaType": _store._LIST_MEDIA_TYPE, "manifests": children}))
        assert read(tmp_path, "llama3.2:1b").family == "llama"

    def test_a_list_may_name_its_manifests_by_digest(self, tmp_path):
        path = add_model(tmp_path, "llama3.2:1b", LLAMA)
        digest = "sha256:" + "a" * 64
        blob_path(tmp_path, digest).write_text(path.read_text())
        children = [{"runner": "ollama", "digest": digest}]
        path.write_text(json.dumps({"mediaType": _store._LIST_MEDIA_TYPE, "manifests": children}))
        assert read(tmp_path, "llama3.2:1b").family == "llama"


class TestUnplannable:
    def test_a_cloud_model_takes_no_memory_here(self, tmp_path):
        path = add_model(tmp_path, "big:cloud", LLAMA)
        config = blob_path(tmp_path, json.loads(path.read_text())["config"]["digest"])
        change(config, lambda content: content.update(remote_host="https://ollama.com:443"))
        with pytest.raises(
            UnplannableError, match=r"runs at https://ollama\.com:443 and takes no memory here"
        ):
            read(tmp_path, "big:cloud")

    def test_a_cloud_model_has_no_layers(self, tmp_path):
        path = add_model(tmp_path, "big:cloud", LLAMA)
        config = blob_path(tmp_path, json.loads(path.read_text())["config"]["digest"])
        change(config, lambda content: content.update(remote_host="https://ollama.com:443"))
        change(path, lambda content: content.update(layers=None))
        with pytest.raises(UnplannableError, match=r"runs at https://ollama\.com:443"):
            read(tmp_path, "big:cloud")

    def test_a_safetensors_model_is_not_predicted(self, tmp_path):
        add_model(tmp_path, "mlx:1b", LLAMA, model_format="safetensors")
        with pytest.raises(UnplannableError, match="safetensors model, which runs on MLX"):
            read(tmp_path, "mlx:1b")

    def test_a_model_of_single_tensors_is_not_predicted(self, tmp_path):
        path = add_model(tmp_path, "mlx:1b", LLAMA)
        change(
            path, lambda content: content["layers"][0].update(mediaType="application/vnd.ollama.image.tensor")
        )
        with pytest.raises(UnplannableError, match="safetensors"):
            read(tmp_path, "mlx:1b")

    def test_a_list_without_a_variant_for_llama_cpp_is_not_predicted(self, tmp_path):
        path = add_model(tmp_path, "mlx:1b", LLAMA)
        path.write_text(
            json.dumps({"mediaType": _store._LIST_MEDIA_TYPE, "manifests": [{"runner": "mlx"}, 7]})
        )
        with pytest.raises(UnplannableError, match=r"no variant for llama\.cpp"):
            read(tmp_path, "mlx:1b")


DIGEST = "sha256:" + "0" * 64
BAD_MANIFESTS = {
    "nothing": ("", "is empty, as a pull that was interrupted leaves it"),
    "text": ("hello", "is no JSON"),
    "bytes": ("\udcff", "is no JSON"),
    "a list": ("[]", "holds a list of 0, expected a mapping"),
    "deep nesting": ("[" * 100000, "is no JSON: it is nested too deep"),
    "nothing but braces": ("{}", "is no manifest: config is nothing, expected a mapping"),
    "no layers and no remote host": (
        json.dumps({"layers": None, "config": {"digest": DIGEST}}),
        f"blobs/{DIGEST.replace(':', '-')} cannot be read: No such file or directory",
    ),
    "layers of another kind": (
        '{"layers": {}}',
        "is no manifest: layers is a value of the kind dict, expected a list",
    ),
    "a layer of another kind": (
        '{"layers": [3]}',
        "is no manifest: a layer is a value of the kind int, expected a mapping",
    ),
    "a layer without a size": ('{"layers": [{}]}', "is no manifest: the size of a layer is nothing"),
    "a layer of a truth": (
        '{"layers": [{"size": true}]}',
        "is no manifest: the size of a layer is a value of the kind bool",
    ),
    "a layer below zero": (
        '{"layers": [{"size": -1}]}',
        "is no manifest: the size of a layer is a value of the kind int",
    ),
    "a layer without a digest": ('{"layers": [{"size": 1}]}', "is no manifest: nothing is no sha256 digest"),
    "a digest that leaves the store": (
        json.dumps({"layers": [{"size": 1, "digest": "sha256:../../../../etc/passwd" + "0" * 90}]}),
        "is no manifest: a text of 119 is no sha256 digest",
    ),
    "no configuration": ('{"layers": []}', "is no manifest: config is nothing, expected a mapping"),
    "a configuration that is not there": (
        json.dumps({"layers": [], "config": {"digest": DIGEST}}),
        f"blobs/{DIGEST.replace(':', '-')} cannot be read: No such file or directory",
    ),
}


class TestDamage:
    @pytest.mark.parametrize(("content", "message"), BAD_MANIFESTS.values(), ids=BAD_MANIFESTS)
    def test_a_bad_manifest_is_named_with_what_is_wrong(self, content, message, tmp_path):
        path = add_model(tmp_path, "llama3.2:1b", LLAMA)
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
        with pytest.raises(ModelError) as raised:
            read(tmp_path, "llama3.2:1b")
        assert str(raised.value).startswith(f"model llama3.2:1b: {tmp_path}")
        assert "pull llama3.2:1b again, or remove it with 'ollama rm llama3.2:1b'" in str(raised.value)
        assert message in str(raised.value)

    def test_a_manifest_without_a_model_is_named(self, tmp_path):
        path = add_model(tmp_path, "llama3.2:1b", LLAMA)
        change(path, lambda content: content.update(layers=[]))
        with pytest.raises(ModelError, match=f"{path} names no model layer: pull llama3.2:1b again"):
            read(tmp_path, "llama3.2:1b")

    def test_an_endless_manifest_is_given_up(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_store, "MAX_JSON_BYTES", 100)
        path = add_model(tmp_path, "llama3.2:1b", LLAMA)
        with pytest.raises(ModelError, match=f"{path} is longer than 100 bytes, which no manifest needs"):
            read(tmp_path, "llama3.2:1b")

    def test_a_manifest_that_is_a_pipe_is_not_waited_for(self, tmp_path):
        path = add_model(tmp_path, "llama3.2:1b", LLAMA)
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(ModelError, match=f"{path} cannot be read: not a regular file"):
            read(tmp_path, "llama3.2:1b")

    @pytest.mark.parametrize("exchanged", ["manifest", "folder"])
    def test_what_became_a_link_since_it_was_listed_is_not_followed(self, exchanged, tmp_path):
        path = add_model(tmp_path, "llama3.2:1b", LLAMA)
        (listed,) = installed(str(tmp_path))
        place = path if exchanged == "manifest" else path.parent
        place.rename(tmp_path / "elsewhere")
        os.symlink(tmp_path / "elsewhere", place)
        with pytest.raises(ModelError, match=f"{path} cannot be read: (it is a link|Not a directory)"):
            read_model(str(tmp_path), listed)

    def test_a_missing_blob_is_named(self, tmp_path):
        add_model(tmp_path, "llama3.2:1b", LLAMA)
        blob = tmp_path / "blobs" / read(tmp_path, "llama3.2:1b").digest
        blob.unlink()
        with pytest.raises(ModelError, match=f"model llama3.2:1b: {blob} cannot be read: No such file"):
            read(tmp_path, "llama3.2:1b")

    def test_a_blob_of_another_size_is_named(self, tmp_path):
        add_model(tmp_path, "llama3.2:1b", LLAMA)
        blob = tmp_path / "blobs" / read(tmp_path, "llama3.2:1b").digest
        os.truncate(blob, 1000)
        with pytest.raises(
            ModelError, match=f"{blob} has 1000 bytes, its manifest says .*: pull llama3.2:1b again"
        ):
            read(tmp_path, "llama3.2:1b")

    def test_a_blob_that_is_no_gguf_file_is_named(self, tmp_path):
        path = add_model(tmp_path, "llama3.2:1b", LLAMA)
        blob = tmp_path / "blobs" / read(tmp_path, "llama3.2:1b").digest
        blob.write_bytes(b"nonsense" * 10)
        change(path, lambda content: content["layers"][0].update(size=80))
        with pytest.raises(
            ModelError, match=f"model llama3.2:1b: {blob}, byte 4: it does not begin with b'GGUF'"
        ):
            read(tmp_path, "llama3.2:1b")

    @settings(deadline=None)  # each example is a store on disk
    @given(st.data())
    def test_a_changed_manifest_is_read_or_refused(self, tmp_path_factory, data):
        store = tmp_path_factory.getbasetemp() / "changed"
        path = add_model(store, "llama3.2:1b", LLAMA)
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
        path.write_bytes(bytes(content))
        with contextlib.suppress(ModelError, UnplannableError):
            read(store, "llama3.2:1b").shape()


def test_the_files_of_each_model_with_none_of_a_damaged_one(tmp_path):
    for name in ("one", "two"):
        add_model(tmp_path, name, LLAMA)
    layers = layers_by_model(str(tmp_path))
    assert {layer.kind for layer in layers["one:latest"]} >= {"model", "application/vnd.docker.container.image.v1+json"}
    assert layers["one:latest"][0] == layers["two:latest"][0]
    manifest_path(tmp_path, "two").write_text("{")
    assert layers_by_model(str(tmp_path)) == {"one:latest": layers["one:latest"], "two:latest": ()}


def test_a_store_of_more_files_than_any_server_needs_is_not_counted(tmp_path, monkeypatch):
    for name in ("one", "two"):
        add_model(tmp_path, name, LLAMA)
    files = sum(map(len, layers_by_model(str(tmp_path)).values()))
    assert _store.MAX_LAYERS_IN_ALL == 200_000
    monkeypatch.setattr(_store, "MAX_LAYERS_IN_ALL", files)
    layers_by_model(str(tmp_path))
    monkeypatch.setattr(_store, "MAX_LAYERS_IN_ALL", files - 1)
    with pytest.raises(StoreError, match=r"are made of more than .* files, which no server needs"):
        layers_by_model(str(tmp_path))
