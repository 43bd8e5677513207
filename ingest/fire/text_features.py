"""The strongest features of an atlas on each token of a text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atlas.amounts import counted
from atlas.api import Atlas
from atlas.cli.output.drawn_text import drawn_text
from atlas.errors import BadInput, RequestError, UnknownName
from atlas.safe_text import shown
from atlas.studies.floors import is_floor, stored_floors
from ingest.fire.screen import print_features, verdict_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from atlas.disk.folder import Sound
    from ingest.codes.store import Block
    from ingest.sae.autoencoder import Autoencoder
    from ingest.sae.record import SaeRecord

__all__ = ["FireSettings", "TextFeatures", "check_text", "fire", "floor_names"]

# Characters of the text that ``repr`` shows.
_SHOWN = 40
# Relative difference between activations of one token in two passes, whose batches differ.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class FireSettings:
    """Settings of ``fire``.

    Parameters
    ----------
    saes
        Names of the SAEs; all SAEs of the atlas but floors if empty. A floor has no learned directions,
        so its features mean nothing; an atlas of floors alone uses them.
    top
        Features per token and SAE.
    device
        Device of the model: ``auto``, ``cpu``, ``cuda``, …
    """

    saes: tuple[str, ...] = ()
    top: int = 3
    device: str = "auto"


@dataclass(frozen=True)
class TextFeatures:
    """The strongest features on each token of a text.

    Parameters
    ----------
    text
        The text.
    rows
        One row per token, SAE and feature: by model, in the order of the tokens of its
        tokenizer. ``model``, ``sae``, ``position`` (of the token, from 0), ``token``, ``feature``, ``activation``, ``quantile`` (share of the
        activations of this feature in the corpus that are at most as large), ``quantile_low`` (its lower bound: the share in
        lower bins of the histogram), ``active_tokens`` (tokens of the corpus on which the
        feature is active, from which the quantile is computed), ``top_token``.
    tokens
        Texts of all tokens, by SAE.
    active
        Number of activations above 0 on the text, by SAE: of which ``rows`` has the strongest.
    """

    text: str
    rows: Sequence[Mapping[str, Any]]
    tokens: Mapping[str, Sequence[str]]
    active: Mapping[str, int]

    @property
    def verdict(self) -> str:
        """What the strongest feature is, and how strong one is expected to be."""
        return verdict_of(self)

    def to_pandas(self) -> Any:
        """Return the rows as a data frame."""
        import pandas as pd

        return pd.DataFrame(list(self.rows))

    def to_html(self) -> str:
        """Return the features as one self-contained HTML page without scripts."""
        from ingest.fire.page import fire_page

        return fire_page(self)

    def __str__(self) -> str:
        return drawn_text(lambda: print_features(self, by_sae=len(self.tokens) == 1))

    def __repr__(self) -> str:
        saes = {row["sae"] for row in self.rows}
        more = "…" if len(self.text) > _SHOWN else ""
        return (
            f"<{len(self.rows):,} active features of {counted(len(saes), 'SAE')} on "
            f"{self.text[:_SHOWN] + more!r}>"
        )

    def _repr_html_(self) -> str:
        frame = self.to_pandas().map(lambda v: shown(v) if isinstance(v, str) else v)
        html: str = frame.to_html(escape=True, index=False, float_format="{:.3g}".format)
        return f"<p>{escape(shown(self.verdict))}</p>{html}"


def fire(
    atlas: str | Path | Atlas,
    text: str,
    settings: FireSettings | None = None,
    *,
    model: Any = None,
) -> TextFeatures:
    """Run the model and SAEs of an atlas on a text, and return the strongest features by token.

    The activations equal those that an ingest of this text would store. Features are ranked
    by quantile: the share of a feature's activations in the corpus that are at most as large,
    estimated from its stored histogram, linear within a bin. Equal quantiles are ranked by
    activation.

    Parameters
    ----------
    atlas
        The folder of an atlas, or an open atlas in a folder.
    text
        The text.
    settings
        SAEs, number of features, device.
    model
        The model, if it was in memory at ingest or has moved.

    Raises
    ------
    BadInput
        If the text has no tokens, or an SAE or the model was in memory at ingest.
    UnknownName
        If the atlas has no such SAE.
    RequestError
        If the atlas is on a server.

    Examples
    --------
    >>> settings = FireSettings(saes=("tiny-a-l1-s0",), top=1)
    >>> found = fire("demo.atlas", "Once upon a time", settings)
    >>> found.tokens["tiny-a-l1-s0"]
    ['Once', ' upon', ' a', ' time']
    >>> found.to_pandas()[["token", "feature", "activation", "quantile"]].shape[1]
    4
    """
    settings = settings or FireSettings()
    check_text(text)
    if not isinstance(atlas, Atlas):
        with Atlas.open(atlas) as opened:
            return fire(opened, text, settings, model=model)
    if atlas.folder is None:
        raise RequestError(
            f"{atlas.url} is a server, which stores no SAEs; open the folder of the atlas instead."
        )
    from ingest.sae.record import open_sae_record

    sound = atlas.folder.sound()
    records = [open_sae_record(sound, name) for name in settings.saes or _but_floors(sound)]
    rows: list[dict[str, Any]] = []
    tokens: dict[str, Sequence[str]] = {}
    active: dict[str, int] = {}
    for group in _by_run(records):
        own: list[dict[str, Any]] = []
        for sae, block, texts in _blocks(group, text, settings, model):
            if not len(block):
                raise BadInput(f"The text {text!r} has no tokens; pass a text with words.")
            tokens[sae.info.name] = texts
            active[sae.info.name] = len(block.values)
            found = _rows(atlas, sae, block, texts, settings.top)
            own += [{"model": group[0].model["name"], **row} for row in found]
        # Stable: SAEs and ranks remain in order.
        rows += sorted(own, key=lambda row: int(row["position"]))
    return TextFeatures(text, rows, tokens, active)


def check_text(text: str) -> None:
    """Raise an error if a text is empty, before anything is loaded."""
    if not text:
        raise BadInput("The text '' has no tokens; pass a text with words.")


def floor_names(sound: "Sound") -> list[str]:
    """Return the names of the floors of an atlas."""
    return [row["name"] for row in stored_floors(sound) if is_floor(row)]


def _but_floors(sound: "Sound") -> Sequence[str]:
    """Return the SAEs that are no floors, or all if there are only floors."""
    floors = floor_names(sound)
    return [name for name in sound.saes if name not in floors] or list(sound.saes)


def _by_run(records: "Sequence[SaeRecord]") -> "list[list[SaeRecord]]":
    """Group SAEs that one run of a model serves."""
    groups: dict[tuple[Any, ...], list[SaeRecord]] = {}
    for record in records:
        key = (record.model["name"], record.contexts, record.batch_tokens)
        groups.setdefault(key, []).append(record)
    return list(groups.values())


def _blocks(
    records: "Sequence[SaeRecord]", text: str, settings: FireSettings, model: Any
) -> "list[tuple[Autoencoder, Block, list[str]]]":
    """Return, for each SAE, its codes on the text and the texts of the tokens."""
    from atlas.progress import SILENT
    from ingest.forward.shards import Group, compute_shard, tokenized
    from ingest.precision import ieee_float32
    from ingest.sae.record import reopen_model, reopen_sae
    from ingest.text.corpus import Document
    from ingest.text.tokenization import token_texts

    saes = [reopen_sae(record.row) for record in records]
    hooks = sorted({hook for sae in saes for hook in sae.info.hooks})
    opened = reopen_model(records[0], model, hooks=hooks, device=settings.device)
    first = records[0]
    group = Group(
        opened,
        tuple(sae.to(opened.device) for sae in saes),
        first.contexts,
        first.batch_tokens,
    )
    with ieee_float32(), SILENT.stage("", total=1, unit="blocks") as stage:
        found = compute_shard(
            group, tokenized(group, [(0, [Document(0, text)])]), shard=0, stage=stage
        )
    blocks = [(sae, found[sae.info.name].blocks[0]) for sae in group.saes]
    ids = blocks[0][1].tokens.token_id.tolist()
    texts = token_texts(opened.tokenizer, ids)
    return [(sae, block, texts) for sae, block in blocks]


def _rows(
    atlas: Atlas, sae: "Autoencoder", block: "Block", texts: Sequence[str], top: int
) -> list[dict[str, Any]]:
    name = sae.info.name
    quantiles, lows = _quantiles(atlas, name, block.indices.astype(np.int64), block.values)
    features = atlas.features(name)
    labels = features["top_token"].to_pylist() if "top_token" in features.column_names else []
    active = (
        features["active_tokens"].to_pylist() if "active_tokens" in features.column_names else []
    )
    rows = []
    for position in range(len(block)):
        span = slice(int(block.indptr[position]), int(block.indptr[position + 1]))
        order = np.lexsort((-block.values[span], -quantiles[span]))[:top] + span.start
        rows += [
            {
                "sae": name,
                "position": position,
                "token": texts[position],
                "feature": f"{name}/{block.indices[i]}",
                "activation": float(block.values[i]),
                "quantile": None if np.isnan(quantiles[i]) else float(quantiles[i]),
                "quantile_low": None if np.isnan(lows[i]) else float(lows[i]),
                "active_tokens": active[block.indices[i]] if active else None,
                "top_token": labels[block.indices[i]] if labels else None,
            }
            for i in order
        ]
    return rows


def _quantiles(
    atlas: Atlas,
    sae: str,
    features: "NDArray[np.int64]",
    values: "NDArray[np.float32]",
) -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
    """Estimate the share of each feature's stored activations that are at most the value.

    Linear within a bin of the histogram; the highest bin ends at the largest activation. The second
    array has the share in lower bins, which holds also if all activations of the bin are equal. NaN
    for features without stored activations: dead in the corpus, or without statistics.
    """
    shares = np.full(len(values), np.nan)
    lows = shares.copy()
    try:
        table = atlas.table("histogram", sae=sae)
    except UnknownName:
        return shares, lows
    idx, lower, upper, count = (
        table[column].to_numpy() for column in ("idx", "lower", "upper", "count")
    )
    order = np.lexsort((lower, idx))
    idx, lower, upper, count = idx[order], lower[order], upper[order], count[order]
    largest = atlas.features(sae)["max_activation"].to_numpy(zero_copy_only=False)
    last = np.append(idx[1:] != idx[:-1], True)[: len(idx)]
    upper = np.where(last, np.fmin(upper, largest[idx]), upper)
    starts = np.searchsorted(idx, features, side="left")
    ends = np.searchsorted(idx, features, side="right")
    for i, (value, start, end) in enumerate(zip(values.tolist(), starts, ends, strict=True)):
        if end > start:
            below, above = lower[start:end], upper[start:end]
            inside = np.ones(end - start)
            wide = above > below
            inside[wide] = np.clip((value - below[wide]) / (above[wide] - below[wide]), 0, 1)
            inside[~wide] = value >= above[~wide]
            own = count[start:end]
            shares[i] = (inside * own).sum() / own.sum()
            lows[i] = own[value * (1 - _ROUNDING) > above].sum() / own.sum()
    return shares, lows
