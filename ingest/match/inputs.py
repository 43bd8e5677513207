"""Inputs of a match: an SAE with its stored codes, and the properties that filters use."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from atlas.disk.folder import Folder, Sound
from atlas.disk.parts import Part
from atlas.studies.study import check_inputs
from ingest.codes.store import stored_shards

__all__ = ["TOP_TOKENS", "Side", "open_side"]

#: Number of most frequent tokens of a feature that filters use, as in the published pipeline.
TOP_TOKENS = 5


@dataclass(frozen=True)
class Side:
    """One SAE of a match.

    Parameters
    ----------
    name
        Its name in the atlas.
    sae, tokens
        Its parts of kind ``sae`` and ``tokens``.
    shards
        Its codes.
    row
        Its row of the table SAE.
    tokenizer
        Key of its model's tokenizer.
    """

    name: str
    sae: Part
    tokens: Part
    shards: list[Path]
    row: Mapping[str, Any]
    tokenizer: str

    @property
    def d_sae(self) -> int:
        """Its number of features."""
        return int(self.row["d_sae"])

    @property
    def bytes(self) -> int:
        """Size of its codes on disk."""
        return sum(path.stat().st_size for path in self.shards)

    @cached_property
    def wordless(self) -> NDArray[np.bool_]:
        """Which features have a frequent token without letters and digits; (d_sae,)."""
        share = self.tokens.table("Feature")["wordless_share"].to_numpy()
        wordless: NDArray[np.bool_] = np.nan_to_num(share) > 0
        return wordless

    @cached_property
    def top_texts(self) -> list[frozenset[str]]:
        """The texts of each feature's most frequent tokens, without surrounding spaces."""
        fires = self.tokens.table("FIRES_ON")
        fires = fires.filter(pc.less(fires["rank"], TOP_TOKENS))
        token = self.tokens.table("Token")
        at = pc.index_in(fires["target"], value_set=token["id"].combine_chunks())
        texts = [text.strip() for text in token["text"].take(at).to_pylist()]
        features = [int(id.rpartition("/")[2]) for id in fires["source"].to_pylist()]
        top: list[set[str]] = [set() for _ in range(self.d_sae)]
        for feature, text in zip(features, texts, strict=True):
            top[feature].add(text)
        return [frozenset(one - {""}) for one in top]


def open_side(folder: Folder, sound: Sound, name: str) -> Side:
    """Open the codes and the parts of an SAE for matching.

    Raises
    ------
    UnknownName
        If the atlas has no such SAE.
    Missing
        If its codes are not stored, or its tokens are not counted.
    BrokenPart
        If its codes have changed since they were written.
    """
    what = f"A match of {name}"
    shards = stored_shards(folder, sound, name, what=what)
    check_inputs([f"tokens/{name}"], sound, what=what)
    sae = sound.parts[f"sae/{name}"]
    (row,) = sae.table("SAE").to_pylist()
    (model,) = sae.table("Model").to_pylist()
    return Side(name, sae, sound.parts[f"tokens/{name}"], shards, row, model["tokenizer"])
