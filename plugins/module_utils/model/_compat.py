# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Headers as Ollama publishes them, brought into the form in which llama.cpp loads them.

Ollama translates the files of its own earlier converters while it loads them: under another name of the architecture,
with keys that they lack, with tensors of other names, or of several made into one.

Source: Ollama llama/compat/llama-ollama-compat.cpp, translate_metadata (v0.33.0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Dict, List, Tuple

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass

# Tensors of a vision or audio tower that lie in the same file as the text model.
PROJECTOR_PREFIXES = ("v.", "mm.", "a.", "model.vision_tower.")
# Tensors of layers that predict further tokens ahead, which the engine does not load.
AHEAD_PREFIX = "mtp."
AHEAD_LAYER_PREFIX = "mtp.layers."
# Sections of the positions of qwen3vl, which its files lack.
QWEN3VL_SECTIONS = (24, 20, 20, 0)
# A file has no more layers that predict ahead.
MAX_LAYERS_AHEAD = 64

Values = Dict[str, Any]
Tensor = Tuple[str, str, Tuple[int, ...]]
Tensors = List[Tensor]


@dataclass(frozen=True)
class Translation:
    """How the files of one architecture differ from what llama.cpp loads.

    architecture: under which llama.cpp loads them; '' for the same. tower: a prefix of tensors of the projector,
    besides the usual ones. renames: parts of tensor names, in order. change: what else is done.
    """

    architecture: str = ""
    tower: str = ""
    renames: tuple[tuple[str, str], ...] = ()
    change: Callable[[str, Values, Tensors], Tensors] | None = None


def _shape_of(tensors: Tensors, name: str) -> tuple[int, ...]:
    return next((shape for other, _type_name, shape in tensors if other == name), ())


def _sections(architecture: str, values: Values, tensors: Tensors) -> Tensors:
    """Three sections of positions become four."""
    found = values.get(f"{architecture}.rope.mrope_section")
    if isinstance(found, list) and len(found) >= 3:
        values[f"{architecture}.rope.dimension_sections"] = [*found[:3], 0]
    return tensors


def _expert_length(architecture: str, values: Values, tensors: Tensors) -> Tensors:
    """The length of an expert's network is that of its tensors."""
    shape = _shape_of(tensors, "blk.0.ffn_gate_exps.weight")
    if len(shape) > 1:
        values.setdefault(f"{architecture}.expert_feed_forward_length", shape[1])
    return tensors


def _absorbed_attention(architecture: str, values: Values, tensors: Tensors) -> Tensors:
    """Latent attention by the lengths of its heads becomes latent attention by the length of its latent."""
    prefix = f"{architecture}.attention"
    head_length = values.get(f"{prefix}.key_length")
    latent = values.get(f"{prefix}.kv_lora_rank")
    turned = values.get(f"{architecture}.rope.dimension_count")
    values[f"{prefix}.head_count_kv"] = 1
    if isinstance(latent, int) and isinstance(turned, int):
        values[f"{prefix}.key_length"] = latent + turned
        values[f"{prefix}.value_length"] = latent
    if isinstance(head_length, int):
        values[f"{prefix}.key_length_mla"] = values[f"{prefix}.value_length_mla"] = head_length
    values.setdefault(f"{architecture}.expert_group_count", 1)
    values.setdefault(f"{architecture}.expert_group_used_count", 1)
    return tensors


def _one_head_count(architecture: str, values: Values, tensors: Tensors) -> Tensors:
    """A number of KV heads for each layer, zero in recurrent ones, becomes the one of the others."""
    key = f"{architecture}.attention.head_count_kv"
    found = values.get(key)
    if isinstance(found, list) and found and all(isinstance(one, int) for one in found):
        values[key] = max(found) or 2
    return tensors


def _delta_net(architecture: str, values: Values, tensors: Tensors) -> Tensors:
    _one_head_count(architecture, values, tensors)
    return [
        (f"{name}.bias" if name.endswith(".ssm_dt") else name, type_name, shape)
        for name, type_name, shape in tensors
    ]


def _qwen35(architecture: str, values: Values, tensors: Tensors) -> Tensors:
    """Besides, layers that predict ahead are numbered after the others."""
    tensors = _delta_net(architecture, values, tensors)
    ahead = _layers_ahead(tensors)
    count = values.get(f"{architecture}.block_count")
    if ahead and isinstance(count, int) and not any(".nextn." in name for name, _type_name, _shape in tensors):
        values[f"{architecture}.nextn_predict_layers"] = ahead
        values[f"{architecture}.block_count"] = count + ahead
    return tensors


def _layers_ahead(tensors: Tensors) -> int:
    names = [name for name, _type_name, _shape in tensors if name.startswith(AHEAD_PREFIX)]
    numbers = [
        int(part)
        for name in names
        for part in [name[len(AHEAD_LAYER_PREFIX) :].split(".", 1)[0]]
        if name.startswith(AHEAD_LAYER_PREFIX) and part.isascii() and part.isdigit() and len(part) < 4
    ]
    if numbers:
        return min(max(numbers) + 1, MAX_LAYERS_AHEAD)
    return 1 if names else 0


def _deep_inputs(architecture: str, values: Values, tensors: Tensors) -> Tensors:
    if f"{architecture}.rope.dimension_sections" in values:
        return tensors
    values[f"{architecture}.rope.dimension_sections"] = list(QWEN3VL_SECTIONS)
    indices = values.get(f"{architecture}.vision.deepstack_visual_indexes")
    count = indices.get("array_length") if isinstance(indices, dict) else indices
    count = len(count) if isinstance(count, list) else count
    values.setdefault(f"{architecture}.n_deepstack_layers", count if isinstance(count, int) else 0)
    return tensors


def _embedding_gemma(architecture: str, values: Values, tensors: Tensors) -> Tensors:
    values.pop(f"{architecture}.attention.sliding_window_pattern", None)
    exact = {
        "dense.0.weight": "dense_2.weight",
        "dense.1.weight": "dense_3.weight",
        "norm.weight": "output_norm.weight",
    }
    return [(exact.get(name, name), type_name, shape) for name, type_name, shape in tensors]


def _short_vocabulary(_architecture: str, _values: Values, tensors: Tensors) -> Tensors:
    """Token embeddings end where those of the layers' own inputs end."""
    shape = _shape_of(tensors, "per_layer_token_embd.weight")
    if len(shape) != 2:
        return tensors
    return [
        (name, type_name, (own[0], shape[1]) if name == "token_embd.weight" and len(own) == 2 else own)
        for name, type_name, own in tensors
    ]


def _fused(tensors: Tensors, gate: str, up: str, both: str) -> Tensors:
    """In every block two tensors of one kind become one, twice as long."""
    known = {name: (type_name, shape) for name, type_name, shape in tensors}
    result = []
    for name, type_name, shape in tensors:
        block = name[: -len(up)] if name.endswith(up) else name[: -len(gate)]
        pair = (known.get(block + gate), known.get(block + up))
        if pair[0] is None or pair[0] != pair[1] or len(shape) < 2 or name not in (block + gate, block + up):
            result.append((name, type_name, shape))
        elif name == block + up:
            result.append((block + both, type_name, (shape[0], 2 * shape[1], *shape[2:])))
    return result


def _fused_network(architecture: str, values: Values, tensors: Tensors) -> Tensors:
    _sections(architecture, values, tensors)
    key_length = values.get(f"{architecture}.attention.key_length")
    if isinstance(key_length, int):
        values.setdefault(f"{architecture}.rope.dimension_count", key_length)
    return _fused(tensors, "ffn_gate.weight", "ffn_up.weight", "ffn_up.weight")


def _fused_experts(_architecture: str, values: Values, tensors: Tensors) -> Tensors:
    """In files that Ollama's own converter made, told by their towers or by their tokenizer."""
    names = [name for name, _type_name, _shape in tensors]
    is_own = values.get("tokenizer.ggml.model") == "llama" or any(is_projector_tensor(name) for name in names)
    has_scales = any(name.endswith(EXPERT_SCALES) for name in names)
    if not is_own or has_scales:
        return tensors
    return _fused(tensors, "ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_gate_up_exps.weight")


def _output_norm(_architecture: str, _values: Values, tensors: Tensors) -> Tensors:
    if any(name == "token_embd_norm.weight" for name, _type_name, _shape in tensors):
        return tensors
    return [
        ("token_embd_norm.weight" if name == "output_norm.weight" else name, type_name, shape)
        for name, type_name, shape in tensors
    ]


EXPERT_SCALES = tuple(
    f"ffn_{half}_exps.{kind}" for half in ("gate", "up") for kind in ("scale", "input_scale")
)
LATENT_EXPERTS = ((".ffn_latent_in", ".ffn_latent_down"), (".ffn_latent_out", ".ffn_latent_up"))
EMBEDDING_GEMMA = Translation("gemma-embedding", change=_embedding_gemma)
TRANSLATIONS = {
    "deepseekocr": Translation("deepseek2-ocr", tower="s."),
    "gemma3n": Translation(change=_short_vocabulary),
    "gemma4": Translation(
        renames=((".ffn_gate_inp.per_expert_scale", ".ffn_down_exps.scale"),), change=_fused_experts
    ),
    "glm4moelite": Translation("deepseek2", change=_absorbed_attention),
    "glmocr": Translation(
        "glm4",
        renames=(
            (".attn_out.", ".attn_output."),
            (".post_attn_norm.", ".post_attention_norm."),
            (".post_ffn_norm.", ".post_ffw_norm."),
        ),
        change=_fused_network,
    ),
    "gptoss": Translation(
        "gpt-oss",
        renames=(
            (".attn_out.", ".attn_output."),
            (".attn_sinks", ".attn_sinks.weight"),
            (".ffn_norm.", ".post_attention_norm."),
        ),
        change=_expert_length,
    ),
    "laguna": Translation(renames=((".attn_g.weight", ".attn_gate.weight"),)),
    "lfm2": Translation(change=_output_norm),
    "nemotron_h_moe": Translation(renames=LATENT_EXPERTS),
    "nemotron_h_omni": Translation("nemotron_h", renames=LATENT_EXPERTS),
    "olmo3": Translation("olmo2"),
    "qwen25vl": Translation("qwen2vl", change=_sections),
    "qwen35": Translation(change=_qwen35),
    "qwen35moe": Translation(change=_qwen35),
    "qwen3next": Translation(change=_delta_net),
    "qwen3vl": Translation(change=_deep_inputs),
    "qwen3vlmoe": Translation(change=_deep_inputs),
}


def is_projector_tensor(name: str) -> bool:
    """Whether a tensor belongs to an inline projector, not to the text model."""
    return name.startswith(PROJECTOR_PREFIXES)


def _translation(architecture: str, values: Mapping[str, Any], tensors: Tensors) -> Translation | None:
    if architecture == "gemma3" and _shape_of(tensors, "dense.0.weight"):
        return EMBEDDING_GEMMA
    found = TRANSLATIONS.get(architecture)
    if architecture == "nemotron_h_omni" and found is not None:
        experts = (values.get(f"{architecture}.expert{part}_count") for part in ("", "_used"))
        if any(isinstance(count, int) and count > 0 for count in experts):
            return Translation("nemotron_h_moe", renames=found.renames)
    return found


def _renamed(name: str, translation: Translation) -> str:
    if translation.tower and name.startswith(translation.tower):
        return PROJECTOR_PREFIXES[0] + name
    if is_projector_tensor(name):
        return name
    for part, wanted in translation.renames:
        if wanted not in name:
            name = name.replace(part, wanted, 1)
    return name


def translated(metadata: Mapping[str, Any], tensors: Sequence[Tensor]) -> tuple[Values, Tensors]:
    """Metadata and tensors (name, type name, shape) as llama.cpp loads them."""
    values, listed = dict(metadata), list(tensors)
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str):
        return values, listed
    translation = _translation(architecture, values, listed)
    if translation is None:
        return values, listed
    wanted = translation.architecture or architecture
    if wanted != architecture:
        prefix = f"{architecture}."
        values = {
            (
                f"{wanted}.{key[len(prefix) :]}" if isinstance(key, str) and key.startswith(prefix) else key
            ): value
            for key, value in values.items()
        }
        values["general.architecture"] = wanted
    listed = [(_renamed(name, translation), type_name, shape) for name, type_name, shape in listed]
    if translation.change is not None:
        listed = translation.change(wanted, values, listed)
    return values, [one for one in listed if not one[0].startswith(AHEAD_PREFIX)]
