"""Synthetic models with known features: model, texts and the true features as an SAE, in a folder.

``sae_lens.synthetic`` draws the features: Zipf rates, correlation by a Gaussian copula, and
trees. The folder is a model that every command reads like a language model; see
``ingest.model.synthetic_features``.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atlas.disk.atomic_files import atomic_folder, write_json
from atlas.errors import BadInput
from ingest.synthetic.known_settings import SyntheticSettings

if TYPE_CHECKING:
    import torch
    from sae_lens.synthetic import FeatureDictionary, SyntheticModel

__all__ = ["TRUTH", "save_synthetic", "tree_of"]

TRUTH = "truth"
"""Folder of the SAE that reads the true features, and its name in an atlas."""

BOS, UNKNOWN = "<bos>", "<unk>"


def save_synthetic(
    folder: Path,
    settings: SyntheticSettings = SyntheticSettings(),  # noqa: B008 - frozen
) -> Path:
    """Save a synthetic model with its texts and its true features.

    Parameters
    ----------
    folder
        The folder to create.
    settings
        Size and structure of the features, and length of the texts.

    Returns
    -------
    pathlib.Path
        The folder. It holds a model and its tokenizer, ``text.jsonl`` for an atlas,
        ``training.jsonl`` for SAEs, and ``truth``: an SAE whose codes are the activations of
        the true features.

    Raises
    ------
    BadInput
        If the folder exists.
    OutOfSpace
        If the disk is full.

    Notes
    -----
    The directions of the features are random unit vectors. With ``cosine`` c, those of one tree
    are normalised sums √c u + √(1 - c) v of a unit vector u of the tree and one of the feature.
    Children have higher rates given their parent, so that the rates of all features follow
    the Zipf law approximately [1]_.

    References
    ----------
    .. [1] SAELens, ``sae_lens.synthetic``, https://decoderesearch.github.io/SAELens

    Examples
    --------
    >>> from ingest import SyntheticSettings, save_synthetic
    >>> settings = SyntheticSettings(features=128, tokens=2000, training_tokens=2000)
    >>> sorted(path.name for path in save_synthetic(Path("made"), settings).iterdir())[-1]
    'truth'
    """
    import torch

    from ingest.model.loading import silenced
    from ingest.model.synthetic_features import SyntheticFeatures, SyntheticFeaturesConfig

    if folder.exists() or folder.is_symlink():
        raise BadInput(f"{folder} already exists; name a new folder.")
    drawn = _drawn(settings)
    correlated = settings.correlation > 0
    config = SyntheticFeaturesConfig(
        hidden_size=settings.width,
        num_features=settings.features,
        correlation_rank=settings.factors if correlated else 0,
        vocab_size=settings.vocabulary + 2,
        max_position_embeddings=settings.context,
        generator_seed=settings.seed,
    )
    model = SyntheticFeatures(config)
    sums, generator = model.sums, drawn.activation_generator
    with torch.no_grad():
        sums.down_proj.weight.copy_(drawn.feature_dict.feature_vectors.T)
        sums.down_proj.bias.zero_()
        sums.rate.copy_(generator.firing_probabilities)
        sums.mean.copy_(generator.mean_firing_magnitudes)
        sums.deviation.copy_(generator.std_firing_magnitudes)
        if correlated:
            assert drawn.correlation_matrix is not None
            sums.factor.copy_(drawn.correlation_matrix.correlation_factor)
        parent, exclusive = _trees(drawn)
        sums.parent.copy_(parent)
        sums.exclusive.copy_(exclusive)
    with atomic_folder(folder) as unfinished, silenced():
        model.save_pretrained(unfinished)
        _tokenizer(settings).save_pretrained(unfinished)
        for name, tokens in (("text", settings.tokens), ("training", settings.training_tokens)):
            with (unfinished / f"{name}.jsonl").open("w", encoding="utf-8") as file:
                for document in _documents(settings, name=name, tokens=tokens):
                    file.write(json.dumps({"text": document}) + "\n")
        _truth(settings, model=folder.name).save_model(unfinished / TRUTH)
        write_json(unfinished / "synthetic.json", asdict(settings))
    return folder


def tree_of(parent: "torch.Tensor") -> "torch.Tensor":
    """Return the root of each feature, whose parents precede it; -1 has no parent.

    Examples
    --------
    >>> import torch
    >>> tree_of(torch.tensor([-1, -1, 0, 2])).tolist()
    [0, 1, 0, 0]
    """
    import torch

    root = torch.arange(len(parent))
    for feature, own in enumerate(parent.tolist()):
        if own >= 0:
            root[feature] = root[own]
    return root


def _drawn(settings: SyntheticSettings) -> "SyntheticModel":
    """Draw the features with sae-lens."""
    from sae_lens.synthetic import (
        HierarchyConfig,
        LowRankCorrelationConfig,
        SyntheticModel,
        SyntheticModelConfig,
        ZipfianFiringProbabilityConfig,
    )

    config = SyntheticModelConfig(
        num_features=settings.features,
        hidden_dim=settings.width,
        firing_probability=ZipfianFiringProbabilityConfig(
            exponent=settings.exponent, max_prob=settings.max_rate, min_prob=settings.min_rate
        ),
        hierarchy=HierarchyConfig(
            total_root_nodes=min(settings.trees, settings.features),
            branching_factor=settings.children,
            max_depth=settings.depth,
            mutually_exclusive_portion=settings.exclusive,
            compensate_probabilities=True,
        )
        if settings.trees
        else None,
        correlation=LowRankCorrelationConfig(
            rank=settings.factors,
            correlation_scale=(settings.correlation / settings.factors) ** 0.5,
        )
        if settings.correlation
        else None,
        std_firing_magnitudes=settings.deviation,
        bias=False,
        seed=settings.seed,
    )
    drawn = SyntheticModel(config)
    if settings.cosine:
        _cluster(drawn.feature_dict, tree_of(_trees(drawn)[0]), settings)
    return drawn


def _cluster(
    dictionary: "FeatureDictionary", tree: "torch.Tensor", settings: SyntheticSettings
) -> None:
    """Turn the directions of the features of a tree towards a common one."""
    import torch

    rng = torch.Generator().manual_seed(settings.seed)
    common = torch.randn(settings.features, settings.width, generator=rng)
    common /= common.norm(dim=1, keepdim=True)
    own = dictionary.feature_vectors.data
    mixed = settings.cosine**0.5 * common[tree] + (1 - settings.cosine) ** 0.5 * own
    dictionary.feature_vectors.data = mixed / mixed.norm(dim=1, keepdim=True)


def _trees(drawn: "SyntheticModel") -> "tuple[torch.Tensor, torch.Tensor]":
    """Return the parent of each feature (-1 for none), and whether its children are exclusive."""
    import torch

    parent = torch.full((drawn.cfg.num_features,), -1)
    exclusive = torch.zeros(drawn.cfg.num_features, dtype=torch.bool)
    nodes = list(drawn.hierarchy.roots) if drawn.hierarchy is not None else []
    while nodes:
        node = nodes.pop()
        assert node.feature_index is not None
        exclusive[node.feature_index] = node.mutually_exclusive_children
        for child in node.children:
            assert child.feature_index is not None
            parent[child.feature_index] = node.feature_index
            nodes.append(child)
    return parent, exclusive


def _tokenizer(settings: SyntheticSettings) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate([BOS, UNKNOWN, *_words(settings)])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer: Any = PreTrainedTokenizerFast
    return tokenizer(tokenizer_object=backend, bos_token=BOS, unk_token=UNKNOWN)


def _words(settings: SyntheticSettings) -> list[str]:
    return [f"w{i}" for i in range(settings.vocabulary)]


def _documents(settings: SyntheticSettings, *, name: str, tokens: int) -> Iterator[str]:
    """Yield documents of random words, each one context; the last one is shorter."""
    rng = np.random.default_rng([settings.seed, *name.encode()])
    words, length = np.array(_words(settings)), settings.context - 1
    for begin in range(0, tokens, length):
        yield " ".join(rng.choice(words, min(length, tokens - begin)))


def _truth(settings: SyntheticSettings, *, model: str) -> Any:
    """Return an SAE whose codes equal its input: the activations of the true features."""
    import torch
    from sae_lens import StandardSAE, StandardSAEConfig
    from sae_lens.saes.sae import SAEMetadata

    from ingest.model.synthetic_features import FEATURES_HOOK

    size = settings.features
    metadata = SAEMetadata(
        model_name=model,
        hook_name=FEATURES_HOOK,
        context_size=settings.context,
        prepend_bos=True,
        seed=settings.seed,
    )
    sae = StandardSAE(StandardSAEConfig(d_in=size, d_sae=size, metadata=metadata))
    with torch.no_grad():
        sae.W_enc.copy_(torch.eye(size))
        sae.W_dec.copy_(torch.eye(size))
        sae.b_enc.zero_()
        sae.b_dec.zero_()
    return sae
