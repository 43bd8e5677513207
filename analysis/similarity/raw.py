"""Activations of two models without SAEs: their dimensions are paired as features are."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from analysis.similarity.pairs import distinct
from analysis.similarity.settings import RawSite
from atlas.disk.folder import Sound
from atlas.errors import BadInput
from atlas.progress import Progress
from ingest.forward.site_vectors import by_token
from ingest.sae.record import SaeRecord, open_sae_record, reopen_model
from ingest.text.corpus import Corpus

if TYPE_CHECKING:
    from ingest.model.language_model import LanguageModel

__all__ = ["pair_dimensions", "raw_activations", "raw_hook", "raw_sites"]

Floats: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int64]

_BLOCK = re.compile(r"blocks\.(\d+)\.")
_HOOKS = {
    "stream": "blocks.{}.hook_resid_post",
    "mlp": "blocks.{}.hook_mlp_out",
    "neurons": "blocks.{}.mlp.hook_post",
}


def raw_hook(hook: str, raw: RawSite) -> str:
    """Return the site that is compared for an SAE at a site.

    Parameters
    ----------
    hook
        The site of the SAE.
    raw
        The kind of site.

    Raises
    ------
    BadInput
        If the SAE reads no block.

    Examples
    --------
    >>> raw_hook("blocks.1.hook_resid_post", "neurons")
    'blocks.1.mlp.hook_post'
    """
    if raw == "site":
        return hook
    block = _BLOCK.match(hook)
    if block is None:
        raise BadInput(
            f"An SAE at {hook} reads no block, so `raw={raw!r}` has no site there; use `raw='site'`."
        )
    return _HOOKS[raw].format(block[1])


def raw_activations(
    sound: Sound,
    saes: Sequence[str],
    corpus: Corpus,
    *,
    raw: RawSite,
    tokens: tuple[Ints, Ints],
    into: Path,
    models: "Sequence[LanguageModel]" = (),
    progress: Progress,
) -> tuple[Floats, Floats]:
    """Run the models of two SAEs on the text, and return their activations at some tokens.

    Parameters
    ----------
    sound
        Sound parts of the atlas.
    saes
        Names of both SAEs.
    corpus
        The text.
    raw
        The kind of site.
    tokens
        int64. Row of each selected token among the tokens of either SAE; see
        ``ingest.match.align.last_tokens``.
    into
        A scratch folder.
    models
        Models that are already open; others are opened from their stored source.
    progress
        Reports progress.

    Returns
    -------
    float32, (tokens, width of the site) of either model.

    Raises
    ------
    Mismatch
        If a model is not the one of the ingest.
    """
    found = [
        _activations(
            record,
            hook,
            corpus,
            tokens=tokens[i],
            into=into / str(i),
            model=next((one for one in models if one.name == record.model["name"]), None),
            progress=progress,
        )
        for i, (record, hook) in enumerate(raw_sites(sound, saes, raw))
    ]
    return found[0], found[1]


def raw_sites(sound: Sound, saes: Sequence[str], raw: RawSite) -> list[tuple[SaeRecord, str]]:
    """Return the record of each SAE, and the site of its model that is compared.

    Parameters
    ----------
    sound
        Sound parts of the atlas.
    saes
        Names of both SAEs.
    raw
        The kind of site.

    Raises
    ------
    BadInput
        If an SAE reads no block.
    """
    records = [open_sae_record(sound, name) for name in saes]
    return [(record, raw_hook(str(record.row["hook"]), raw)) for record in records]


def _activations(
    record: SaeRecord,
    hook: str,
    corpus: Corpus,
    *,
    tokens: Ints,
    into: Path,
    model: "LanguageModel | None",
    progress: Progress,
) -> Floats:
    into.mkdir(parents=True, exist_ok=True)
    model = reopen_model(record, model, hooks=[hook])
    read = by_token(
        model,
        [corpus],
        contexts=record.contexts,
        batch_tokens=record.batch_tokens,
        hooks=[hook],
        lengths=[int(tokens.max(initial=-1)) + 1],
        into=into,
        progress=progress,
    )
    found: Floats = read[hook][tokens]
    return found


def pair_dimensions(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Pair dimensions one to one, so that the sum of their correlations is highest.

    Parameters
    ----------
    x, y
        float32, (tokens, width).

    Returns
    -------
    float32, (tokens, pairs) of either side, centred. Constant and duplicate dimensions, and
    pairs with a correlation of 0 or less, are excluded.
    """
    sides = []
    for one in (x, y):
        centred = np.asarray(one, dtype=np.float32) - one.mean(axis=0, dtype=np.float64)
        centred = centred.astype(np.float32)
        varies = np.ptp(one, axis=0) > 0
        varies[varies] = distinct(np.ascontiguousarray(centred[:, varies].T))
        sides.append(centred[:, varies])
    scaled = [one / np.linalg.norm(one, axis=0) for one in sides]
    correlation = (scaled[0].T @ scaled[1]).astype(np.float64)
    a, b = linear_sum_assignment(correlation, maximize=True)
    positive = correlation[a, b] > 0
    return sides[0][:, a[positive]], sides[1][:, b[positive]]
