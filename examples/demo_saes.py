"""Sparse autoencoders of the demo: activations, training, and measuring."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from demo_models import CONTEXT
from sae_lens import (
    SAE,
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    LoggingConfig,
    SAETrainer,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import SAEMetadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from transformers import LlamaForCausalLM

BATCH = 1024
RATE = 1e-3
DEAD_WINDOW = 200
Rows = tuple["NDArray[np.int64]", "NDArray[np.bool_]"]

log = logging.getLogger("demo")


@dataclass(frozen=True)
class SaeSpec:
    """What makes one demo SAE.

    Parameters
    ----------
    name
        Name of its folder.
    model
        Name of the demo model that it reads.
    layer
        Decoder layer whose output it reads.
    architecture
        Architecture in training: ``topk``, or ``batchtopk``, which sae-lens
        saves as ``jumprelu`` with one threshold for all features.
    d_sae
        Features.
    seed
        Seed of the weights and of the order of the activations.
    tokens
        Activations to train on.
    l0
        Active features per token: of each token for TopK, on average for BatchTopK.
    """

    name: str
    model: str
    layer: int
    architecture: Literal["topk", "batchtopk"]
    d_sae: int
    seed: int
    tokens: int = 1_500_000
    l0: int = 20

    @property
    def hook_name(self) -> str:
        """Name of the site, as TransformerLens writes it."""
        return f"blocks.{self.layer}.hook_resid_post"


SAES = (
    SaeSpec("tiny-a-l1-s0", "tiny-a", 1, "topk", 768, seed=0, tokens=3_000_000),
    SaeSpec("tiny-a-l1-jumprelu", "tiny-a", 1, "batchtopk", 768, seed=0),
    SaeSpec("tiny-a-l1-s1", "tiny-a", 1, "topk", 768, seed=1, tokens=2_000_000),
    SaeSpec("tiny-a-l0-s0", "tiny-a", 0, "topk", 768, seed=0),
    SaeSpec("tiny-a-l1-wide", "tiny-a", 1, "topk", 1536, seed=0),
    SaeSpec("tiny-b-l1-s0", "tiny-b", 1, "topk", 768, seed=0),
)


@torch.inference_mode()
def collect(model: LlamaForCausalLM, rows: Rows, layers: list[int]) -> list[Any]:
    """Collect the outputs of decoder layers at the real tokens of rows.

    Parameters
    ----------
    model
        Model to run.
    rows
        Token ids, and True where the activation is wanted (never at BOS);
        both of shape (rows, context).
    layers
        Decoder layers to read.

    Returns
    -------
    One float32 tensor per layer, shape (wanted tokens, d_model), tokens in
    row order.
    """
    ids, wanted = (torch.from_numpy(part) for part in rows)
    found = [torch.empty(int(wanted.sum()), model.config.hidden_size) for _ in layers]
    seen: dict[int, torch.Tensor] = {}

    def keep(layer: int) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            seen[layer] = output if isinstance(output, torch.Tensor) else output[0]

        return hook

    handles = [model.model.layers[layer].register_forward_hook(keep(layer)) for layer in layers]
    done = 0
    try:
        for i in range(0, len(ids), 64):
            model.model(input_ids=ids[i : i + 64], use_cache=False)
            mask = wanted[i : i + 64]
            size = int(mask.sum())
            for tensor, layer in zip(found, layers, strict=True):
                tensor[done : done + size] = seen[layer][mask]
            done += size
    finally:
        for handle in handles:
            handle.remove()
    return found


def batches(activations: torch.Tensor, seed: int) -> Iterator[torch.Tensor]:
    """Give full batches for ever, in a new seeded order at each pass.

    Parameters
    ----------
    activations
        Activations, shape (tokens, d_model).
    seed
        Seed of the orders.

    Yields
    ------
    Activations, shape (BATCH, d_model).
    """
    draws = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(activations), generator=draws)
        for i in range(0, len(order) - BATCH + 1, BATCH):
            yield activations[order[i : i + BATCH]]


def new_sae(spec: SaeSpec, d_in: int) -> TopKTrainingSAE:
    """Build an untrained SAE with seeded weights.

    Parameters
    ----------
    spec
        Architecture, sizes and seed.
    d_in
        Width of the activations.

    Returns
    -------
    The SAE, its metadata filled in.
    """
    torch.manual_seed(spec.seed)
    common: dict[str, Any] = {
        "d_in": d_in,
        "d_sae": spec.d_sae,
        "normalize_activations": "expected_average_only_in",
        "metadata": SAEMetadata(
            model_name=spec.model,
            hook_name=spec.hook_name,
            prepend_bos=True,
            context_size=CONTEXT,
            seed=spec.seed,
        ),
    }
    if spec.architecture == "batchtopk":
        return BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(k=spec.l0, **common))
    return TopKTrainingSAE(TopKTrainingSAEConfig(k=spec.l0, **common))


def train_sae(spec: SaeSpec, activations: torch.Tensor) -> TopKTrainingSAE:
    """Train one SAE with the trainer of sae-lens.

    Parameters
    ----------
    spec
        Architecture, sizes and seed.
    activations
        Training activations, shape (tokens, d_model); they are used again when
        they run out.

    Returns
    -------
    The trained SAE, with the scaling of its input folded into its weights.
    """
    steps = spec.tokens // BATCH
    sae = new_sae(spec, activations.shape[1])
    config = SAETrainerConfig(
        total_training_samples=steps * BATCH,
        train_batch_size_samples=BATCH,
        lr=RATE,
        lr_end=RATE / 20,
        lr_warm_up_steps=100,
        lr_decay_steps=steps // 2,
        dead_feature_window=DEAD_WINDOW,
        n_batches_for_norm_estimate=100,
        logger=LoggingConfig(log_to_wandb=False),
    )
    trainer: SAETrainer[Any, Any] = SAETrainer(
        cfg=config, sae=sae, data_provider=batches(activations, spec.seed)
    )
    trainer.fit()
    return sae


@torch.inference_mode()
def measure(sae: SAE[Any], held_out: torch.Tensor, demo: torch.Tensor) -> dict[str, float | int]:
    """Measure a saved SAE.

    Parameters
    ----------
    sae
        SAE to measure.
    held_out
        Activations of held-out stories, shape (tokens, d_model).
    demo
        Activations of the demo text, shape (tokens, d_model).

    Returns
    -------
    ``fvu`` (residual over centred sum of squares) and ``l0`` on the held-out
    stories, ``dead`` (share of features never active on either), and the
    tokens of both.
    """
    ever = torch.zeros(sae.cfg.d_sae, dtype=torch.bool)
    active, residual = 0, 0.0
    for i in range(0, len(held_out), 4096):
        chunk = held_out[i : i + 4096]
        codes = sae.encode(chunk)
        ever |= (codes > 0).any(0)
        active += int((codes > 0).sum())
        residual += float((sae.decode(codes) - chunk).double().square().sum())
    for i in range(0, len(demo), 4096):
        ever |= (sae.encode(demo[i : i + 4096]) > 0).any(0)
    total = float((held_out - held_out.mean(0)).double().square().sum())
    return {
        "fvu": round(residual / total, 4),
        "l0": round(active / len(held_out), 2),
        "dead": round(1 - float(ever.float().mean()), 4),
        "tokens_held_out": len(held_out),
        "tokens_demo": len(demo),
    }


def make_sae(
    spec: SaeSpec, train: torch.Tensor, tests: list[torch.Tensor], out: Path
) -> dict[str, Any]:
    """Train one SAE, write it, load it again and measure it.

    Parameters
    ----------
    spec
        Architecture, sizes and seed.
    train
        Training activations, shape (tokens, d_model).
    tests
        Activations of the held-out stories and of the demo text.
    out
        Folder of the demo.

    Returns
    -------
    The facts on the SAE.
    """
    began = time.monotonic()
    trained = train_sae(spec, train)
    seconds = time.monotonic() - began
    folder = out / "saes" / spec.name
    for path in trained.save_inference_model(folder):
        path.chmod(0o644)
    sae = SAE.load_from_disk(folder)
    return {
        "model": spec.model,
        "site": spec.hook_name,
        "architecture": sae.cfg.architecture(),
        "trained_as": spec.architecture,
        "d_in": sae.cfg.d_in,
        "d_sae": spec.d_sae,
        "seed": spec.seed,
        "tokens_trained": spec.tokens // BATCH * BATCH,
        "seconds_trained": round(seconds),
        **measure(sae, *tests),
    }
