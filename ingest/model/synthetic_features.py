"""A model whose activations are sums of known features, drawn by ``sae_lens.synthetic``.

It has the form of a language model with one block, so every command reads it like one:

===================================  =========================================================
``blocks.0.mlp.hook_post``           activations of the true features, one dimension each
``blocks.0.hook_mlp_out`` and        their sum: each activation times the feature's direction,
``blocks.0.hook_resid_post``         plus a bias
===================================  =========================================================

The text only selects random numbers: the features of a context are drawn from a seed that
hashes its token ids. Equal contexts have equal activations, and a token alone predicts nothing.
Features are independent between the tokens of a context.
"""

import hashlib
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from atlas.errors import BadInput

__all__ = [
    "FEATURES_HOOK",
    "MODEL_TYPE",
    "SUM_HOOK",
    "FeatureSums",
    "SyntheticFeatures",
    "SyntheticFeaturesConfig",
    "register",
]

MODEL_TYPE = "synthetic_features"
FEATURES_HOOK = "blocks.0.mlp.hook_post"
SUM_HOOK = "blocks.0.hook_mlp_out"

DEEPEST = 64
"""Largest depth of a tree of features."""


class SyntheticFeaturesConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """Sizes of a synthetic model.

    Parameters
    ----------
    hidden_size
        Width of the activations.
    num_features
        Number of true features.
    correlation_rank
        Number of common factors of the features' correlation; 0 for independent features.
    vocab_size, max_position_embeddings
        Number of token ids, and most tokens of a context.
    num_hidden_layers
        Always 1.
    generator_seed
        Seed that is hashed with the token ids of each context.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        hidden_size: int = 64,
        num_features: int = 256,
        correlation_rank: int = 0,
        vocab_size: int = 1024,
        max_position_embeddings: int = 64,
        num_hidden_layers: int = 1,
        generator_seed: int = 0,
        **more: Any,
    ) -> None:
        self.hidden_size = hidden_size
        self.num_features = num_features
        self.correlation_rank = correlation_rank
        self.vocab_size = vocab_size
        self.max_position_embeddings = max_position_embeddings
        self.num_hidden_layers = num_hidden_layers
        self.generator_seed = generator_seed
        super().__init__(**more)


class FeatureSums(nn.Module):
    """The directions of the features and the parameters of their generator.

    ``parent`` is the index of the feature without which a feature is never active, -1 if there
    is none. At most one child of a feature in ``exclusive`` is active at a time.
    """

    def __init__(self, config: SyntheticFeaturesConfig) -> None:
        super().__init__()
        features = config.num_features
        self.down_proj = nn.Linear(features, config.hidden_size)
        self.rate = nn.Parameter(torch.zeros(features))
        self.mean = nn.Parameter(torch.ones(features))
        self.deviation = nn.Parameter(torch.zeros(features))
        self.factor = nn.Parameter(torch.zeros(features, config.correlation_rank))
        self.parent: torch.Tensor
        self.exclusive: torch.Tensor
        self.register_buffer("parent", torch.full((features,), -1))
        self.register_buffer("exclusive", torch.zeros(features, dtype=torch.bool))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the sums of the features' directions: (…, features) to (…, width)."""
        total: torch.Tensor = self.down_proj(features)
        return total


class _Block(nn.Module):
    def __init__(self, config: SyntheticFeaturesConfig) -> None:
        super().__init__()
        self.mlp = FeatureSums(config)

    def forward(self, stream: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Add the features' directions to the stream."""
        out: torch.Tensor = stream + self.mlp(features)
        return out


class SyntheticFeatures(PreTrainedModel):
    """The model; see the module."""

    config_class = SyntheticFeaturesConfig

    def __init__(self, config: SyntheticFeaturesConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([_Block(config)])
        self._generator: Any = None
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        """Embeddings are 0: the stream before the block carries nothing."""
        if isinstance(module, nn.Embedding):
            module.weight.data.zero_()

    @property
    def sums(self) -> FeatureSums:
        """The directions of the features and the parameters of their generator."""
        block: Any = self.layers[0]
        sums: FeatureSums = block.mlp
        return sums

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding, which is 0."""
        return self.embed_tokens

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        use_cache: bool | None = None,
    ) -> torch.Tensor:
        """Return the stream after the block: (contexts, positions, width)."""
        stream: torch.Tensor = self.embed_tokens(input_ids)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        features = self.draw(input_ids, mask).to(stream.dtype).to(stream.device)
        for block in self.layers:
            stream = block(stream, features)
        return stream

    def draw(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the activations of the true features, 0 at padding.

        Parameters
        ----------
        input_ids, attention_mask
            Integers of shape (contexts, positions); the mask is 0 at padding, at the right.

        Returns
        -------
        torch.Tensor
            (contexts, positions, features), float32, on the CPU.
        """
        if self._generator is None:
            self._generator = _generator(self.sums)
        config: Any = self.config
        ids, lengths = input_ids.cpu().numpy().astype("<i8"), attention_mask.sum(1).tolist()
        drawn = torch.zeros(*input_ids.shape, config.num_features)
        with torch.random.fork_rng(devices=[]):
            for row, length in enumerate(map(int, lengths)):
                content = config.generator_seed.to_bytes(8, "little", signed=True)
                content += ids[row, :length].tobytes()
                digest = hashlib.blake2b(content, digest_size=7).digest()
                torch.default_generator.manual_seed(int.from_bytes(digest, "little"))
                # Always as many rows as the longest context, so that padding changes nothing.
                sample = self._generator.sample(config.max_position_embeddings)
                drawn[row, :length] = sample[:length]
        return drawn


def _generator(parameters: FeatureSums) -> Any:
    """Return the generator of sae-lens; raise BadInput if the parameters are not valid."""
    from sae_lens.synthetic import ActivationGenerator, hierarchy_modifier

    rate, mean, deviation, factor = (
        p.detach().float().cpu()
        for p in (parameters.rate, parameters.mean, parameters.deviation, parameters.factor)
    )
    rest = 1 - factor.square().sum(1)
    roots = _roots(parameters.parent.tolist(), parameters.exclusive.tolist())
    sound = (
        all(torch.isfinite(p).all() for p in parameters.parameters())
        and bool(((rate >= 0) & (rate <= 1)).all())
        and bool((rest > 0).all())
        and roots is not None
    )
    if not sound:
        raise BadInput(
            "The generator of this synthetic model is not valid: expected finite parameters, rates from 0 to "
            "1, factors of a squared sum below 1, and parents before their children. Make the model again "
            "with `atlas synthetic`."
        )
    return ActivationGenerator(
        len(rate),
        firing_probabilities=rate,
        mean_firing_magnitudes=mean,
        std_firing_magnitudes=deviation,
        modify_activations=hierarchy_modifier(roots) if any(r.children for r in roots) else None,
        correlation_matrix=(factor, rest) if factor.shape[1] else None,
    )


def _roots(parent: list[int], exclusive: list[bool]) -> Any:
    """Return the roots of the trees of sae-lens; None if the parents are no trees."""
    from sae_lens.synthetic import HierarchyNode

    nodes = [HierarchyNode(feature_index=i, children=[]) for i in range(len(parent))]
    depth = [0] * len(parent)
    for child, own in enumerate(parent):
        if not -1 <= own < child:
            return None
        if own >= 0:
            depth[child] = depth[own] + 1
            nodes[own].children = [*nodes[own].children, nodes[child]]
    if max(depth) > DEEPEST:
        return None
    for node, one_at_a_time in zip(nodes, exclusive, strict=True):
        node.mutually_exclusive_children = one_at_a_time and len(node.children) > 1
    return [node for node, own in zip(nodes, parent, strict=True) if own < 0]


def register() -> None:
    """Make this architecture known to transformers; repeated calls do nothing."""
    AutoConfig.register(MODEL_TYPE, SyntheticFeaturesConfig, exist_ok=True)
    AutoModel.register(SyntheticFeaturesConfig, SyntheticFeatures, exist_ok=True)
