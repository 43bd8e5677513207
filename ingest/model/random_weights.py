"""A model of another's shape with the weights it would begin training with: the floor that training must beat."""

from pathlib import Path

import torch

from atlas.atomic_files import placed_folder
from atlas.errors import BadInput
from ingest.error_translation import reached
from ingest.model.loading import fast_tokenizer, locate, read_config, unheard

__all__ = ["save_random_weights"]


def save_random_weights(
    model: str | Path, out: Path | None = None, *, seed: int = 0, revision: str | None = None
) -> Path:
    """Save a model of the same configuration with random weights, and the tokenizer.

    Weights are drawn by transformers as its classes are initialized; the torch generator
    of the process is left as it was. Of the model only configuration and tokenizer are read.

    Parameters
    ----------
    model
        A model's name at the hub, a short name of TransformerLens, a folder, or a model of the demo.
    out
        The folder to make; by default the model's name with ``-random`` behind, here.
    seed
        Of the draw.
    revision
        Of the model at the hub.

    Returns
    -------
    pathlib.Path
        The folder, in the number format that the configuration names.

    Raises
    ------
    Missing, OutOfRoom
        If the configuration is not to be had, or the weights do not fit into memory or onto the disk.
    BadInput
        If it is of no causal language model, or ``out`` is there already.

    References
    ----------
    .. [1] T. Heap, T. Lawson, L. Farnik and L. Aitchison, "Sparse Autoencoders Can Interpret
       Randomly Initialized Transformers", 2025, arXiv:2501.17727.
    """
    from transformers import AutoModelForCausalLM

    where = locate(model)
    folder = out or Path(f"{where.name.rsplit('/', 1)[-1]}-random")
    if folder.exists() or folder.is_symlink():
        raise BadInput(f"{folder} is there already; name a new folder.")
    tokenizer = fast_tokenizer(where.path, revision=revision)
    with reached("model", where.name, repo=where.repo):
        config = read_config(where, revision=revision)
        if hasattr(config, "quantization_config"):  # what is drawn is not quantized
            del config.quantization_config
        with torch.random.fork_rng(devices=[]):
            # That of no GPU: weights are drawn by the processor.
            torch.default_generator.manual_seed(seed)
            drawn = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    with placed_folder(folder) as beside, unheard():
        drawn.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
    return folder
