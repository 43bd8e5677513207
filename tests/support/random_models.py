"""Small random-weight language models of real architectures, and a tokenizer to go with them."""

from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXT = (
    "the a little big red old cat dog girl boy tree sun day park house saw ran went played said "
    "was and to in with happy sad very then one time once upon they she he it"
)
WORDS = TEXT.split()

#: Settings of each family; all have d_model 24, an MLP of 40 and a vocabulary of 96.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"intermediate_size": 40, "num_key_value_heads": 2}),
    "mistral": ("Mistral", {"intermediate_size": 40, "num_key_value_heads": 2, "head_dim": 6}),
    "qwen2": ("Qwen2", {"intermediate_size": 40, "num_key_value_heads": 2}),
    "qwen3": ("Qwen3", {"intermediate_size": 40, "num_key_value_heads": 2, "head_dim": 8}),
    "gemma": ("Gemma", {"intermediate_size": 40, "num_key_value_heads": 1, "head_dim": 8}),
    "gemma2": (
        "Gemma2",
        {"intermediate_size": 40, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8},
    ),
    "gemma3_text": (
        "Gemma3",
        {"intermediate_size": 40, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8},
    ),
    "gpt2": ("GPT2", {"n_inner": 40}),
    "gpt_neo": ("GPTNeo", {"intermediate_size": 40, "window_size": 8}),
    "gpt_neox": ("GPTNeoX", {"intermediate_size": 40, "num_attention_heads": 3}),
    "gpt_neox_serial": (
        "GPTNeoX",
        {"intermediate_size": 40, "use_parallel_residual": False, "num_attention_heads": 3},
    ),
    "phi": ("Phi", {"intermediate_size": 40, "num_attention_heads": 3}),
}


def random_model(family: str, *, layers: int = 3, seed: int = 0, **settings: Any) -> Any:
    """Return a causal language model whose every parameter, norms and biases too, is random."""
    prefix, own = FAMILIES[family]
    shape: dict[str, Any] = {
        "vocab_size": 96,
        "hidden_size": 24,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    if family == "gpt_neo":
        shape |= {"attention_types": [[["global"], 1], [["local"], layers - 1]]}
    kind = "Gemma3TextConfig" if family == "gemma3_text" else f"{prefix}Config"
    config = getattr(transformers, kind)(**(shape | own | settings))
    suffix = "LMHeadModel" if family == "gpt2" else "ForCausalLM"
    torch.manual_seed(seed)
    model = getattr(transformers, prefix + suffix)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (parameter.ndim == 1) * 0.3)
    return model.eval()


def random_gemma3_with_vision() -> Any:
    """Return a Gemma 3 of three blocks that also sees; token ids from 90 on stand for images."""
    text = FAMILIES["gemma3_text"][1] | {
        "vocab_size": 96,
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    images = {"image_token_index": 95, "boi_token_index": 94, "eoi_token_index": 93}
    torch.manual_seed(0)
    config = transformers.Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=4, **images
    )
    return transformers.Gemma3ForConditionalGeneration(config).eval()


def small_tokenizer(*, vocabulary: int = 96) -> Any:
    """Return a byte-level BPE tokenizer of at most ``vocabulary`` tokens; ids 0, 1, 2 are special."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=["<bos>", "<eos>", "<unk>"], show_progress=False
    )
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


def random_ids(*, rows: int = 3, length: int = 12, vocabulary: int = 96, seed: int = 1) -> Any:
    """Return random token ids (rows, length) with a mask whose last row ends in padding."""
    ids = torch.randint(
        3, vocabulary, (rows, length), generator=torch.Generator().manual_seed(seed)
    )
    mask = torch.ones_like(ids)
    mask[-1, length - 4 :] = 0
    return ids, mask
