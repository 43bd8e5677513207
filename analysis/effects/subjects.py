"""The SAEs and the model of an effects study, opened and checked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.effects.ablation.sample import Contexts, sample_contexts
from analysis.effects.ablation.source import Source, source_of
from analysis.effects.settings import EffectSettings
from atlas.disk.folder import Folder, Sound
from atlas.errors import BadInput, Mismatch
from atlas.studies.study import check_saes
from ingest.model.sites import depth
from ingest.model.upper_blocks import UpperBlocks
from ingest.sae.autoencoder import Autoencoder
from ingest.sae.complete_model import open_with_model
from ingest.sae.record import SaeRecord, open_sae_record

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Opened", "later_saes", "open_subjects"]


@dataclass(frozen=True, eq=False)
class Opened:
    """The model, the SAEs and the sample of one SAE.

    Parameters
    ----------
    sae
        The SAE whose features are ablated.
    targets
        SAEs at later sites.
    upper
        The model from the site of ``sae`` on.
    contexts, source
        The sample.
    """

    sae: Autoencoder
    targets: tuple[Autoencoder, ...]
    upper: UpperBlocks
    contexts: Contexts
    source: Source


def later_saes(sound: Sound, name: str, on: Sequence[str] | None) -> list[str]:
    """Return the SAEs whose features can be affected by those of an SAE.

    Parameters
    ----------
    sound
        Sound parts of the atlas.
    name
        The SAE.
    on
        Names of SAEs at later sites; if None, all of the atlas that were trained.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    Mismatch
        If an SAE reads another model, the same site or an earlier one, or a difference of sites.
    """
    source = open_sae_record(sound, name)
    if on is not None:
        for other in check_saes(sound, on):
            if reason := _no_target(source, open_sae_record(sound, other)):
                raise Mismatch(f"The features of {name} cannot affect those of {other}: {reason}.")
        return list(dict.fromkeys(on))
    records = [open_sae_record(sound, other) for other in sound.saes]
    # A model with random weights has targets too: the SAEs that were trained on it.
    trained = [r for r in records if r.row["role"] in (None, "trained")]
    return [r.name for r in trained if _no_target(source, r) is None]


def _no_target(source: SaeRecord, target: SaeRecord) -> str | None:
    """Return why an SAE is not downstream of another, as a clause; None if it is."""
    if source.model["name"] != target.model["name"]:
        return f"it reads {target.model['name']}, and {source.name} reads {source.model['name']}"
    layers = int(source.model["layers"])
    own, other = (
        depth(str(r.row["hook"]), model=str(r.model["name"]), layers=layers)
        for r in (source, target)
    )
    if other <= own:
        return (
            f"it reads {target.row['hook']}, which is not after {source.row['hook']}; name SAEs at later sites "
            "with `on`"
        )
    if target.row["less"]:
        return f"it reads its site less {target.row['less']}"
    return None


def open_subjects(
    folder: Folder,
    sound: Sound,
    names: Sequence[str],
    *,
    settings: EffectSettings,
    model: "str | PreTrainedModel | None" = None,
    tokenizer: Any = None,
    opened: Sequence[Autoencoder] = (),
    device: str = "auto",
    only: NDArray[np.int64] | None = None,
) -> Opened:
    """Open an SAE, those at later sites, their model and the sample.

    Parameters
    ----------
    folder, sound
        The atlas, and its sound parts.
    names
        The SAE, then those at later sites.
    settings
        Size and seed of the sample.
    model, tokenizer
        The model, by name, folder or in memory; that of the ingest if None.
    opened
        SAEs that are already open.
    device
        Device of the model.
    only
        Features that are measured, at most; all if None.

    Raises
    ------
    BadInput, Missing, Mismatch
        If the model or an SAE is not available, or differs from that of the ingest; if the text
        has no context, or no feature is active at enough tokens.
    """
    found = open_with_model(
        folder,
        sound,
        names[0],
        others=names[1:],
        opened=opened,
        model=model,
        tokenizer=tokenizer,
        device=device,
    )
    own = found.text.contexts
    contexts = sample_contexts(
        found.text.corpus,
        found.text.tokenizer,
        settings=replace(own, context_size=min(settings.context_size, own.context_size)),
        contexts=settings.contexts,
        seed=settings.seed,
    )
    if not len(contexts):
        raise BadInput(f"The text of {folder.path} has no context with a token that SAEs read.")
    sae = found.sae
    upper = UpperBlocks(found.complete, sae.info.hook)
    _, _, read = upper.below(contexts.ids, contexts.mask, hooks=sae.info.hooks)
    x = sae.reads(read, contexts.read, contexts.ids)
    source = source_of(sae, x, contexts, settings=settings, only=only)
    return Opened(sae, found.others, upper, contexts, source)
