"""TransformerLens' own implementation of a model in memory: the reference for sites."""

from typing import Any

import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.loading_from_pretrained import fill_missing_keys
from transformer_lens.pretrained import weight_conversions as weights


def _settings(model: Any) -> tuple[dict[str, Any], Any]:
    config = model.config
    rms = {
        "normalization_type": "RMS",
        "positional_embedding_type": "rotary",
        "rotary_adjacent_pairs": False,
        "rotary_dim": getattr(config, "head_dim", None) or 6,
        "final_rms": True,
        "gated_mlp": True,
        "n_key_value_heads": getattr(config, "num_key_value_heads", None),
    }
    if config.model_type == "llama":
        return rms | {"eps": config.rms_norm_eps, "act_fn": "silu"}, weights.convert_llama_weights
    if config.model_type == "gemma2":
        own = {
            "eps": config.rms_norm_eps,
            "act_fn": "gelu_pytorch_tanh",
            "use_attn_scale": True,
            "attn_scale": config.query_pre_attn_scalar**0.5,
            "window_size": config.sliding_window,
            "use_local_attn": True,
            "attn_types": ["local" if "sliding" in t else "global" for t in config.layer_types],
            "attn_scores_soft_cap": config.attn_logit_softcapping,
            "use_normalization_before_and_after": True,
        }
        return rms | own, weights.convert_gemma_weights
    if config.model_type == "gpt2":
        own = {"eps": config.layer_norm_epsilon, "act_fn": "gelu_new", "normalization_type": "LN"}
        return own, weights.convert_gpt2_weights
    if config.model_type == "gpt_neo":
        own = {
            "eps": config.layer_norm_epsilon,
            "act_fn": config.activation_function,
            "normalization_type": "LN",
            "use_attn_scale": False,
            "use_local_attn": True,
            "window_size": config.window_size,
            "attn_types": config.attention_layers,
        }
        return own, weights.convert_neo_weights
    own = {
        "eps": config.layer_norm_eps,
        "act_fn": config.hidden_act,
        "parallel_attn_mlp": config.model_type == "phi" or config.use_parallel_residual,
        "positional_embedding_type": "rotary",
        "rotary_adjacent_pairs": False,
        "rotary_dim": round(config.rope_parameters["partial_rotary_factor"] * 8),
        "normalization_type": "LN",
    }
    if config.model_type == "phi":
        return own, weights.convert_phi_weights
    return own, weights.convert_neox_weights


def hooked(model: Any) -> HookedTransformer:
    """Return a HookedTransformer with the weights of a Llama, Gemma 2, GPT-2, GPT-Neo, GPT-NeoX or Phi model.

    Nothing is folded or centred.
    """
    config = model.config
    own, convert = _settings(model)
    lens = HookedTransformer(
        HookedTransformerConfig(
            n_layers=config.num_hidden_layers,
            d_model=config.hidden_size,
            d_head=getattr(config, "head_dim", None)
            or config.hidden_size // config.num_attention_heads,
            n_heads=config.num_attention_heads,
            d_mlp=40,
            n_ctx=64,
            d_vocab=config.vocab_size,
            device="cpu",
            default_prepend_bos=False,
            init_weights=False,
            **own,
        )
    )
    with torch.no_grad():
        state = convert(model, lens.cfg)
    lens.load_state_dict(fill_missing_keys(lens, state), strict=False)
    return lens.eval()
