"""Metadata of an SAE: its name, its source, and the site it reads."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from atlas.errors import BadInput, Mismatch
from atlas.studies.floors import Role
from ingest.model.sites import why_unreadable

if TYPE_CHECKING:
    from ingest.sae.loading import LoadedSae

__all__ = ["Output", "SaeInfo", "describe", "neuronpedia_url", "slug"]


@dataclass(frozen=True)
class Output:
    """The site whose activations a transcoder predicts, and their width.

    Parameters
    ----------
    hook
        TransformerLens name of the site.
    width
        Number of dimensions.
    """

    hook: str
    width: int


@dataclass(frozen=True)
class SaeInfo:
    """Metadata of an SAE.

    Parameters
    ----------
    name
        Its name in the atlas, a slug.
    source
        ``release:sae_id``, the folder, the name of a demo SAE, or ``"memory"``.
    release, sae_id
        Its entry in sae-lens' registry, if it came from there.
    architecture
        As sae-lens names it.
    d_in, d_sae
        Width of the activations it reads, and its number of features.
    seed
        Its training seed, if its metadata contains it.
    neuronpedia_id
        Its name at Neuronpedia, if any: ``"gemma-2-2b/20-gemmascope-res-16k"``.
    model
        Its model, as its metadata names it.
    hook
        TransformerLens name of the site it reads.
    context_size
        Tokens of a context it was trained on, BOS included, if its metadata contains it.
    prepend_bos
        Whether each context begins with BOS; true if its metadata does not contain it,
        as in sae-lens.
    dtype
        Number format it runs in.
    weights
        SHA-256 (hex) of its parameters in float32, of the settings that encoding
        depends on, and of its subtraction.
    model_kwargs
        Options with which TransformerLens loaded the model in training, such as
        ``center_writing_weights``.
    dataset
        Data set it was trained on, if its metadata contains it.
    less
        Description of the subtraction applied to the activations before it reads them, if any.
    needs
        Other sites of the model that the subtraction reads, and the widths expected there.
    role
        How its weights were obtained, if its ``training.json`` states it; see ``atlas.studies.floors``.
    floor_of
        Name of the trained SAE of which it is a floor, if any.
    k
        Active features per token of a TopK SAE, or the target of its training if its
        ``training.json`` states it.
    output
        The site that a transcoder predicts; None for an SAE, which reconstructs what it reads.
    """

    name: str
    source: str
    release: str | None
    sae_id: str | None
    architecture: str
    d_in: int
    d_sae: int
    seed: int | None
    neuronpedia_id: str | None
    model: str | None
    hook: str
    context_size: int | None
    prepend_bos: bool
    dtype: str
    weights: str
    model_kwargs: Mapping[str, Any]
    dataset: str | None = None
    less: str | None = None
    needs: Mapping[str, int] = field(default_factory=dict)
    role: Role | None = None
    floor_of: str | None = None
    k: int | None = None
    output: Output | None = None

    @property
    def hooks(self) -> list[str]:
        """All sites of the model that are read to encode, its own first."""
        return [self.hook, *(hook for hook in self.needs if hook != self.hook)]

    @property
    def ingested_hooks(self) -> list[str]:
        """The sites that an ingest reads: those of ``hooks``, and the output of a transcoder."""
        output = [self.output.hook] if self.output else []
        return list(dict.fromkeys([*self.hooks, *output]))

    @property
    def d_out(self) -> int:
        """Width of its reconstruction."""
        return self.output.width if self.output else self.d_in


def neuronpedia_url(sae: SaeInfo, idx: int) -> str | None:
    """Return the URL of a feature's page at Neuronpedia, or None if the SAE has no page there."""
    if sae.neuronpedia_id is None:
        return None
    return f"https://www.neuronpedia.org/{sae.neuronpedia_id}/{idx}"


def slug(text: str) -> str:
    """Convert a text to lower case, and each run of characters a slug cannot contain to one ``-``.

    >>> slug("gpt2-small-res-jb:blocks.8.hook_resid_pre")
    'gpt2-small-res-jb-blocks.8.hook_resid_pre'
    """
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")


def describe(
    loaded: "LoadedSae", *, name: str | None, hook: str | None, model: str | None
) -> SaeInfo:
    """Return the metadata of a loaded SAE; the parameters and errors are those of ``open_sae``."""
    config, metadata = loaded.sae.cfg, loaded.sae.cfg.metadata
    weights, less, training = _weights(loaded), loaded.less, loaded.training
    atlas_name = name or slug(loaded.name) or f"{config.architecture()}-{weights[:8]}"
    if atlas_name != slug(atlas_name):
        raise BadInput(
            f"The name {atlas_name!r} is not a valid name of an SAE: use lower-case letters, digits, '.', "
            f"'_' and '-', such as {slug(atlas_name) or 'my-sae'!r}."
        )
    hook = hook or _read_site(metadata, atlas_name)
    if not hook:
        raise BadInput(
            f"The metadata of the SAE {atlas_name!r} does not name the site it reads. Add hook_name (such "
            "as 'blocks.5.hook_resid_post') under metadata in its cfg.json, or pass hook=."
        )
    return SaeInfo(
        name=atlas_name,
        source=loaded.source,
        release=loaded.release,
        sae_id=loaded.sae_id,
        architecture=config.architecture(),
        d_in=int(config.d_in),
        d_sae=int(config.d_sae),
        seed=training.seed if metadata.seed is None and training else metadata.seed,
        neuronpedia_id=metadata.neuronpedia_id,
        model=model or metadata.model_name,
        hook=hook,
        context_size=metadata.context_size,
        prepend_bos=metadata.prepend_bos is not False,
        dtype="float32",
        weights=weights,
        model_kwargs=dict(metadata.model_from_pretrained_kwargs or {}),
        dataset=metadata.dataset_path,
        less=less.description if less else None,
        needs=dict(less.needs) if less else {},
        role=training.role if training else None,
        floor_of=slug(training.floor_of) if training and training.floor_of else None,
        k=getattr(config, "k", None) or (training.k if training else None),
        output=_output(loaded.sae, atlas_name),
    )


def _read_site(metadata: Any, name: str) -> str | None:
    """Return the site that an SAE reads.

    sae-lens calls the input of the MLP of Gemma 3 ``hook_mlp_in``, which in TransformerLens is the
    stream before the norm. The name in transformers, which is stored next to it, is unique.
    """
    hook: str | None = metadata.hook_name
    before, _, last = str(hook or "").rpartition(".")
    normed = str(metadata.hf_hook_name or "").endswith("pre_feedforward_layernorm.output")
    if last == "hook_mlp_in" and normed:
        return f"{before}.mlp.hook_in"
    if reason := why_unreadable(str(hook or "")):
        raise Mismatch(f"The SAE {name!r} cannot be used as it is: {reason}.")
    return hook


def _output(sae: Any, name: str) -> Output | None:
    """Return the output of a transcoder; None for an SAE.

    Raises
    ------
    BadInput
        If the metadata of a transcoder do not name its output site.
    """
    if not hasattr(sae.cfg, "d_out"):
        return None
    hook = sae.cfg.metadata.hook_name_out
    if not hook:
        raise BadInput(
            f"The metadata of the transcoder {name!r} do not name the site it predicts. Add hook_name_out "
            "(such as 'blocks.5.hook_mlp_out') under metadata in its cfg.json."
        )
    return Output(str(hook), int(sae.cfg.d_out))


def _weights(loaded: "LoadedSae") -> str:
    sae = loaded.sae
    settings = sae.cfg.to_dict()
    for excluded in ("device", "dtype", "metadata"):
        settings.pop(excluded)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, values in sorted(sae.state_dict().items()):
        digest.update(f"{name} {tuple(values.shape)}".encode())
        digest.update(values.float().cpu().contiguous().numpy())
    if loaded.less is not None:
        digest.update(loaded.less.digest().encode())
    return digest.hexdigest()
