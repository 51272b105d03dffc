"""Makes any configuration of transformers tiny: 32 wide, 4 heads, 128 tokens, as few layers as show every kind."""

import math
import re
from dataclasses import fields
from typing import Any

WIDTH, HEADS, VOCABULARY, POSITIONS, SPECIAL = 32, 4, 128, 128, 16
#: Tokens from SPECIAL to here mean nothing special.
PLAIN = VOCABULARY - 50
_KEY_VALUE_HEADS = "num_key_value_heads|num_kv_heads|n_kv_heads|num_key_value_attention_heads"
_QUERY_HEADS = ("num_attention_heads", "n_heads", "num_heads", "n_head")
#: Numbers by the end of their name, the first that fits.
_NUMBERS: tuple[tuple[str, int], ...] = (
    (
        r"max_(position_embeddings|source_positions|target_positions)|n_positions|n_ctx|context_length|block_size",
        POSITIONS,
    ),
    (r"qk_head_dim", 16),
    (r"(head_dim|attention_head_size|d_kv|dim_head|d_head|kv_channels|head_size|rotary_dim)", WIDTH // HEADS),
    (
        r"intermediate_size|ffn_dim|d_ff|mlp_dim|ffn_hidden_size|dim_feedforward|d_inner|feedforward_dim|ffn_size"
        r"|linear_units|intermediate_dim|intermediate_size_mlp|feed_forward_size",
        2 * WIDTH,
    ),
    (
        r"hidden_size|hidden_dim|d_model|embed_dim|n_embd|emb_dim|embedding_size|embedding_dim|projection_dim|projection_size"
        r"|output_dim|codevector_dim|fpn_feature_size|mask_feature_size|classifier_proj_size|conv_dim|lru_width|d_latents"
        r"|fusion_hidden_size|encoder_hidden_dim|dim|condition_dim|thinker_hidden_size|text_hidden_size|out_hidden_size"
        r"|auxiliary_channels|conv_channels|mask_dim|pooler_output_size|subsampling_conv_channels|num_filters|output_channels|upsample_groups",
        WIDTH,
    ),
    (r"vocab_size(_per_layer_input)?", VOCABULARY),
    (_KEY_VALUE_HEADS, HEADS // 2),
    (r"mamba_n(um)?_heads", 2 * HEADS),
    (r"num_attention_heads|n_heads?|num_heads|attention_heads|num_(linear_)?(key|value)_heads", HEADS),
    (
        r"num_(hidden_)?layers|n_layers?|(encoder|decoder|num_encoder|num_decoder|num_residual)_layers|num_blocks|layers",
        2,
    ),
    (r"num_experts|num_local_experts|n_routed_experts|num_experts_(base|global)", 4),
    (r"(num_)?experts_per_tok(en)?|moe_topk|top_?k|moe_k", 2),
    (r"n_groups?|num_expert_groups?|topk_group", 1),
    (r"first_k_dense_replace|num_dense_layers", 1),
    (r"q_lora_rank|kv_lora_rank|lora_rank|o_lora_rank|gate_rank", 16),
    (r"num_queries|num_query_tokens|num_latents", 10),
    (r"sliding_window(_size)?|attention_window(_size)?|local_attention|attention_chunk_size", 8),
    (r"state_size|d_state", 8),
    (r"num_feature_levels", 3),
    (r"entity_vocab_size|codebook_size|num_embeddings", VOCABULARY),
)
_KEPT = ("transformers_version", "architectures", "id2label", "label2id", "_out_features", "_out_indices")
#: What a type cannot do without that its own defaults leave open.
_NONE = {"head_dim": WIDTH // HEADS, "num_experts_per_tok": 2, "vocab_size": VOCABULARY}
#: Numbers that have to fit others of the same type.
_ALSO: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "bit": {"num_groups": 8},
    "donut-swin": {"window_size": 2},
    "efficientnet": {"width_coefficient": 0.25, "depth_coefficient": 0.1, "hidden_dim": 320},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "layoutlmv3": {"coordinate_size": 5, "shape_size": 6},
    "lilt": {"hidden_size": 48},
    "mobilevit": {"hidden_sizes": [32, 48, 64]},
    "reformer": {"is_decoder": True, "axial_pos_embds": False},
    "swin": {"window_size": 2},
    "xmod": {"default_language": "en_XX"},
}
_KINDS = ("layer_types", "mlp_layer_types", "layers_block_type", "indexer_types", "block_types", "attn_layers")
_DEPTHS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "depth", "encoder_layers")


def tiny(config: Any, **given: Any) -> Any:
    """A small configuration of the same class; ``given`` overrides what it has."""
    old, usual = _values(config), _values(type(config)())
    kept = _layers_kept(old)
    small = {name: _small(name, value, old, *kept) for name, value in old.items()}
    changed = {name: value for name, value in small.items() if value is not old[name] or old[name] != usual.get(name)}
    known = {name: value for name, value in given.items() if hasattr(config, name)}
    return type(config)(**changed | known | _ALSO.get(config.model_type, {}))


def _values(config: Any) -> dict[str, Any]:
    whole = config.to_dict()
    values = {field.name: whole.get(field.name) for field in fields(config) if field.name not in _KEPT}
    return values | {name: part for name, part in vars(config).items() if hasattr(part, "to_dict")}


def _layers_kept(old: dict[str, Any]) -> tuple[int, list[int]]:
    """How many layers there were, and the numbers of those that are kept: the first of each kind, and two at least."""
    total = next((old[name] for name in _DEPTHS if isinstance(old.get(name), int)), 0)
    kinds = [old[name] for name in _KINDS if isinstance(old.get(name), list) and len(old[name]) == total]
    seen: set[tuple[int, Any]] = set()
    kept = []
    for index in range(total):
        here = {(number, kind[index]) for number, kind in enumerate(kinds)}
        if not here <= seen:
            kept.append(index)
            seen |= here
    rest = [index for index in range(total) if index not in kept]
    return total, sorted(kept + rest[: max(0, 2 - len(kept))])


def _small(name: str, value: Any, old: dict[str, Any], total: int, indices: list[int]) -> Any:
    if hasattr(value, "to_dict"):
        return tiny(value)
    if isinstance(value, dict):
        return None if name == "per_layer_config" else _rope(value) if "rope" in name else value
    if isinstance(value, list | tuple):
        return _list(name, list(value), total, indices)
    if type(value) is int:
        return _number(name, value, old, total, indices)
    return _NONE.get(name) if value is None else value


def _number(name: str, value: int, old: dict[str, Any], total: int, indices: list[int]) -> int:
    if name in _DEPTHS and total:
        return len(indices) if value == total else min(value, 2)
    if re.search(r"token_(id|index)$|_id$", name):
        return value if value < SPECIAL else VOCABULARY - 1 - _number_of(name)
    if (fitting := _fitting(name, value, old)) is not None:
        return fitting
    return next((min(value, number) for pattern, number in _NUMBERS if re.search(f"(^|_)({pattern})$", name)), value)


def _fitting(name: str, value: int, old: dict[str, Any]) -> int | None:
    """A number that another one asks for."""
    patch, heads = old.get("patch_size"), old.get("num_heads")
    if name == "image_size":
        return 4 * patch if isinstance(patch, int) and patch >= 8 else 64
    if name == "embed_dim" and isinstance(heads, list):
        return int(WIDTH // HEADS * heads[0])
    if name == "num_heads" and "expand" in old:
        return 2 * HEADS
    if re.fullmatch(_KEY_VALUE_HEADS, name) and value == next((old[n] for n in _QUERY_HEADS if n in old), 0):
        return min(value, HEADS)
    return None


def _list(name: str, value: list[Any], total: int, indices: list[int]) -> list[Any]:
    if total and len(value) == total and total > 2:
        return [value[index] for index in indices]
    if not value or not all(type(item) is int for item in value):
        return value
    if name in ("depths", "stage_num_blocks", "blocks_per_stage") or name.endswith("_depths"):
        return [1] * len(value)
    if re.search(r"hidden_sizes|embed_dims?$|^conv_dim|tdnn_dim", name):
        return scaled(value)
    if re.search(r"indexes|indices|_idxs|layer_ids|_layers$", name) and total:
        return sorted({min(item, len(indices) - 1) for item in value})
    return value


def scaled(sizes: list[int]) -> list[int]:
    """Divided by one power of two, the smallest becoming 16 to 31, where all can be."""
    factor = 2 ** max(0, int(math.log2(max(1, min(sizes) / 16))))
    return [size // factor for size in sizes] if all(size % factor == 0 for size in sizes) else sizes


def _rope(value: dict[str, Any]) -> dict[str, Any]:
    """Rotary embeddings of the plain type; sections as few as a small head has room for."""
    if any(isinstance(part, dict) for part in value.values()):
        return {kind: _rope(part) if isinstance(part, dict) else part for kind, part in value.items()}
    kept = {key: value[key] for key in ("rope_theta", "partial_rotary_factor") if key in value}
    pairs = int(WIDTH // HEADS * kept.get("partial_rotary_factor", 1)) // 2
    return {"rope_type": "default", **kept, "mrope_section": [pairs - 2 * (pairs // 4), pairs // 4, pairs // 4]}


def _number_of(name: str) -> int:
    """A number below 50 that is the same in every process."""
    return sum(ord(letter) * (index + 1) for index, letter in enumerate(name)) % 50
