"""One tool of ``benchmarks.peers`` in a process of its own; it needs nothing of this project.

    python benchmarks/peer_tools.py plain MODEL SAE TOKENS.npy LAYER OUT

Each tool runs the model and the SAE over the same contexts and writes its usual results:

- ``plain``: a loop of torch: codes of each batch to a file, counts, maxima and the 20 highest
  activations of each feature, and dense co-activation counts.
- ``delphi``: ``LatentCache`` of EleutherAI's delphi, its splits on disk, and its statistics.
- ``dashboard``: ``SaeVisRunner`` of SAEDashboard, in memory.

Exit code 3 means that a library is missing; its name is the last line.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

BATCH = 16
TOP = 20


def opened(model: str, sae: str) -> tuple[Any, Any]:
    """Return the model without its head, and the SAE."""
    from sae_lens import SAE
    from transformers import AutoModel

    return AutoModel.from_pretrained(model).eval(), SAE.load_from_disk(sae).eval()


@torch.no_grad()
def plain(model: str, sae: str, contexts: torch.Tensor, layer: int, out: Path) -> None:
    """Encode batch by batch with a forward hook, as a script would."""
    lm, encoder = opened(model, sae)
    read: list[torch.Tensor] = []

    def store(_: Any, __: Any, output: Any) -> None:
        read.append(output[0] if isinstance(output, tuple) else output)

    lm.layers[layer].register_forward_hook(store)
    width = encoder.cfg.d_sae
    counts, top = torch.zeros(width), torch.zeros(TOP, width)
    where, together = torch.zeros(TOP, width, dtype=torch.long), torch.zeros(width, width)
    for number, batch in enumerate(contexts.split(BATCH)):
        lm(batch)
        z = encoder.encode(read.pop()).flatten(0, 1)
        on = (z > 0).float()
        counts += on.sum(0)
        together += on.T @ on
        values, rows = torch.cat([top, z]).topk(TOP, dim=0)
        places = torch.arange(len(z))[:, None].expand(-1, width) + number * batch.numel()
        where = torch.cat([where, places]).gather(0, rows)
        top = values
        at = z.nonzero()
        torch.save((at.int(), z[at[:, 0], at[:, 1]]), out / f"{number}.pt")
    torch.save((counts, top, where, together), out / "statistics.pt")


def delphi(model: str, sae: str, contexts: torch.Tensor, layer: int, out: Path) -> None:
    """Cache the activations with delphi, as its ``__main__`` does."""
    from delphi.latents.cache import LatentCache

    lm, encoder = opened(model, sae)
    cache = LatentCache(lm, {f"layers.{layer}": encoder.encode}, batch_size=BATCH)
    cache.run(contexts.numel(), contexts)
    cache.save_splits(n_splits=5, save_dir=out)
    cache.generate_statistics_cache()


def dashboard(model: str, sae: str, contexts: torch.Tensor, layer: int, out: Path) -> None:
    """Collect the data of all dashboards, without writing them."""
    from sae_dashboard.sae_vis_data import SaeVisConfig
    from sae_dashboard.sae_vis_runner import SaeVisRunner
    from sae_lens import SAE

    encoder = SAE.load_from_disk(sae)
    # SAEDashboard folds the norms of the decoder, which sae-lens refuses otherwise. They are 1 here.
    encoder.cfg.rescale_acts_by_decoder_norm = True
    hook = f"blocks.{layer}.hook_resid_post"
    config = SaeVisConfig(hook_point=hook, features=range(encoder.cfg.d_sae), verbose=False)
    SaeVisRunner(config).run(encoder=encoder, model=_hooked_llama(model), tokens=contexts)


def _hooked_llama(model: str) -> Any:
    """Load a Llama model from a folder; ``HookedTransformer.from_pretrained`` takes known names only."""
    import transformers
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_llama_weights

    head = transformers.AutoModelForCausalLM.from_pretrained(model)
    llama = head.config
    own_keys = llama.num_key_value_heads != llama.num_attention_heads
    d_head = llama.hidden_size // llama.num_attention_heads
    config = HookedTransformerConfig(
        n_layers=llama.num_hidden_layers,
        d_model=llama.hidden_size,
        d_head=d_head,
        n_heads=llama.num_attention_heads,
        n_key_value_heads=llama.num_key_value_heads if own_keys else None,
        d_mlp=llama.intermediate_size,
        n_ctx=llama.max_position_embeddings,
        eps=llama.rms_norm_eps,
        d_vocab=llama.vocab_size,
        act_fn="silu",
        gated_mlp=True,
        normalization_type="RMS",
        final_rms=True,
        positional_embedding_type="rotary",
        rotary_dim=d_head,
        rotary_adjacent_pairs=False,
    )
    lm = HookedTransformer(config, transformers.AutoTokenizer.from_pretrained(model))
    lm.load_state_dict(convert_llama_weights(head, config), strict=False)
    return lm


def main() -> None:
    """Run one tool."""
    tool, model, sae, tokens, layer, out = sys.argv[1:]
    try:
        {"plain": plain, "delphi": delphi, "dashboard": dashboard}[tool](
            model, sae, torch.from_numpy(np.load(tokens)), int(layer), Path(out)
        )
    except ImportError as error:
        print(error)
        raise SystemExit(3) from error


if __name__ == "__main__":
    main()
