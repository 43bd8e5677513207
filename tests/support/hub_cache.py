"""A hub cache with a random-weight Gemma 2 and a Gemma Scope SAE in their real file layouts."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from random_models import random_model, small_tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
D_MODEL, D_SAE = 2304, 16384  # sae-lens knows these of gemma-2-2b and does not read them

#: Features of the SAE that can ever be active: few, so that the file is small.
LIVE = np.arange(7, D_SAE, 64)


@dataclass(frozen=True)
class HubCache:
    """A filled cache: its HF_HOME, the model's folder and the SAE's parameters."""

    home: Path
    model: Path
    params: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a process that sees this cache and no hub."""
        return offline(self.home)


def offline(home: Path) -> dict[str, str]:
    """Return the environment of a process with this HF_HOME that does not contact the hub."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE_"))}
    return inherited | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}


def snapshot(home: Path, repo: str) -> Path:
    """Make an empty snapshot of a repository in the cache and return its folder."""
    top = home / "hub" / f"models--{repo.replace('/', '--')}"
    (top / "refs").mkdir(parents=True)
    (top / "refs" / "main").write_text(COMMIT)
    folder = top / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    return folder


def fill_hub_cache(home: Path, *, layers: int = 22) -> HubCache:
    """Write google/gemma-2-2b and the SAE behind ``gemmascope-l20`` into a cache.

    The model is as wide as the real one and thin in everything else, with at
    least 21 blocks; its files take some 20 MB.
    """
    model = random_model(
        "gemma2",
        layers=layers,
        hidden_size=D_MODEL,
        max_position_embeddings=2048,  # contexts of 1,024 must fit, as in the real one
        intermediate_size=8,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
    )
    folder = snapshot(home, "google/gemma-2-2b")
    model.save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    params = (
        snapshot(home, "google/gemma-scope-2b-pt-res")
        / "layer_20/width_16k/average_l0_71/params.npz"
    )
    params.parent.mkdir(parents=True)
    np.savez_compressed(params, **gemma_scope_parameters())  # type: ignore[arg-type]
    return HubCache(home, folder, params)


def gemma_scope_parameters(*, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return random parameters under Gemma Scope's names, in its shapes."""
    rng = np.random.default_rng(seed)
    encoder = np.zeros((D_MODEL, D_SAE), np.float32)
    decoder = np.zeros((D_SAE, D_MODEL), np.float32)
    encoder[:, LIVE] = rng.normal(size=(D_MODEL, len(LIVE))) / D_MODEL**0.5
    decoder[LIVE] = rng.normal(size=(len(LIVE), D_MODEL)) / D_MODEL**0.5
    threshold = np.full(D_SAE, 9.0, np.float32)
    threshold[LIVE] = rng.uniform(0.1, 3.0, len(LIVE))
    return {
        "w_enc": encoder,
        "w_dec": decoder,
        "b_enc": np.zeros(D_SAE, np.float32),
        "b_dec": rng.normal(size=D_MODEL).astype(np.float32),
        "threshold": threshold,
    }
