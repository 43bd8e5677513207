"""Randomly initialised models: a baseline with the shape of a trained model."""

from pathlib import Path

import torch

from atlas.disk.atomic_files import atomic_folder, write_json
from atlas.errors import BadInput
from ingest.error_translation import reached
from ingest.model.loading import fast_tokenizer, locate, read_config, silenced

__all__ = ["MARK", "has_random_weights", "save_random_weights"]

MARK = "random-weights.json"
"""File that marks the folder of a model with random weights; it records the model and the seed."""


def has_random_weights(folder: Path | None) -> bool:
    """Return whether a folder of a model carries the mark of ``save_random_weights``."""
    return folder is not None and (folder / MARK).is_file()


def save_random_weights(
    model: str | Path, out: Path | None = None, *, seed: int = 0, revision: str | None = None
) -> Path:
    """Save a model of the same configuration with random weights, and the tokenizer.

    The classes of transformers initialise the weights; the torch generator of the process
    is not changed. Only configuration and tokenizer of the model are read.

    Parameters
    ----------
    model
        A model's name at the hub, a short name of TransformerLens, a folder, or a model of the demo.
    out
        The folder to create; by default the name of the model with the suffix ``-random``, in
        the current directory.
    seed
        Seed of the initialisation.
    revision
        Revision of the model at the hub.

    Returns
    -------
    pathlib.Path
        The folder; its weights have the number format that the configuration names.

    Raises
    ------
    Missing, OutOfSpace
        If the configuration cannot be loaded, or the weights do not fit into memory or on the disk.
    BadInput
        If the model is not a causal language model, or ``out`` exists.

    References
    ----------
    .. [1] T. Heap, T. Lawson, L. Farnik and L. Aitchison, "Sparse Autoencoders Can Interpret
       Randomly Initialized Transformers", 2025, arXiv:2501.17727.
    """
    from transformers import AutoModelForCausalLM

    where = locate(model)
    folder = out or Path(f"{where.name.rsplit('/', 1)[-1]}-random")
    if folder.exists() or folder.is_symlink():
        raise BadInput(f"{folder} already exists; name a new folder.")
    tokenizer = fast_tokenizer(where.path, revision=revision)
    with reached("model", where.name, repo=where.repo):
        config = read_config(where, revision=revision)
        if hasattr(config, "quantization_config"):  # random weights are not quantized
            del config.quantization_config
        with torch.random.fork_rng(devices=[]):
            # Only the CPU generator is seeded, since the CPU draws the weights.
            torch.default_generator.manual_seed(seed)
            drawn = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    with atomic_folder(folder) as unfinished, silenced():
        drawn.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        write_json(unfinished / MARK, {"model": where.name, "seed": seed, "revision": revision})
    return folder
