"""One look at the text: moments of the source and every target by fold, and sums by token id."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from atlas.progress import Progress
from ingest.probe.vectors import EMBEDDING, by_id
from ingest.transcoder.moments import Moments, Stream, joined
from ingest.transcoder.reading import Counts, Text
from ingest.transcoder.tokens import Tokens, TokenSums

__all__ = ["Measured", "bytes_needed", "measure", "wide_device"]


def wide_device(device: torch.device) -> torch.device:
    """Return where float64 is computed: there, or the processor where that is not known."""
    return torch.device("cpu") if device.type == "mps" else device


def bytes_needed(source: int, targets: Sequence[int], *, folds: int, at_embedding: bool) -> int:
    """Return the bytes that moments of every fold take, BOS apart; sums by token id come on top."""
    own = 0 if at_embedding else source
    return 2 * folds * Stream.bytes_needed(own, targets) + at_embedding * 8 * folds * source**2


class Measured:
    """What maps between a source and its targets are fitted to and scored on.

    At the embedding the source is a function of the token id, so its moments follow from
    the sums by id, exactly; elsewhere they were streamed.

    Parameters
    ----------
    source
        The source's name.
    counts
        Tokens by slot and id.
    tokens
        Sums of the targets by slot and id.
    streams
        Moments by slot; of the source they hold nothing where it is a function of the id.
    vectors
        At the embedding the source's vectors by token id, (ids, source); None elsewhere.
    """

    def __init__(
        self,
        source: str,
        *,
        counts: Counts,
        tokens: TokenSums,
        streams: Sequence[Stream],
        vectors: Tensor | None,
    ) -> None:
        self.source, self.counts, self.tokens = source, counts, tokens
        self._streams, self._vectors = streams, vectors
        self._sources: dict[int, Tensor] = {}
        self._last: tuple[str, dict[int, Moments]] = ("", {})

    @property
    def folds(self) -> int:
        """Number of folds."""
        return self.counts.slots // 2

    @property
    def has_bos(self) -> bool:
        """Whether contexts begin with BOS."""
        return bool(self.counts.by_slot[1::2].any())

    def text(self, target: str, fold: int) -> Moments:
        """Return the moments of a fold, BOS left out."""
        return self._moments(target, 2 * fold)

    def bos(self, target: str, fold: int) -> Moments:
        """Return the moments of the BOS tokens of a fold."""
        return self._moments(target, 2 * fold + 1)

    def both(self, target: str, fold: int) -> Moments:
        """Return the moments of a fold, BOS among its tokens."""
        return joined([self.text(target, fold), self.bos(target, fold)])

    def side(self, target: str, folds: Sequence[int]) -> Tokens:
        """Return the tokens of some folds by id, BOS left out."""
        return self.tokens.of(target, *(2 * f for f in folds))

    def _moments(self, target: str, slot: int) -> Moments:
        if self._last[0] != target:  # those of one target are kept
            self._last = (target, {})
        if slot not in self._last[1]:
            self._last[1][slot] = self._made(target, slot)
        return self._last[1][slot]

    def _made(self, target: str, slot: int) -> Moments:
        spread = self._streams[slot].moments(target)
        if self._vectors is None:
            return spread
        side = self.tokens.of(target, slot)
        at = np.searchsorted(self.tokens.ids, side.ids)
        return _collapsed(side, self._vectors[torch.from_numpy(at)], spread, self._sources, slot)


def _collapsed(
    side: Tokens, x: Tensor, spread: Moments, known: dict[int, Tensor], slot: int
) -> Moments:
    """Return the moments of a source that is a function of the token id.

    Parameters
    ----------
    side
        The tokens.
    x
        (ids, source). The source's vector of each id.
    spread
        Moments of the target over the same tokens; of the source they hold nothing.
    known
        The source's products of slots that were asked for before; this one's are added.
    slot
        Which it is.
    """
    x, count, sums = (t.to(spread.y.device, torch.float64) for t in (x, side.count, side.sums))
    mean = count @ x / spread.n if spread.n else x.new_zeros(x.shape[1])
    z = x - mean
    if slot not in known:
        known[slot] = z.T @ (z * count[:, None])
    xy = z.T @ (sums - count[:, None] * spread.y)
    return replace(spread, x=mean, xx=known[slot], xy=xy)


def measure(
    text: Text,
    source: str,
    targets: Sequence[str],
    *,
    counts: Counts,
    scratch: Path | None,
    progress: Progress,
) -> Measured:
    """Run the model over the text once and sum up what is seen.

    Parameters
    ----------
    text
        The text.
    source, targets
        Places, by TransformerLens name.
    counts
        Its tokens.
    scratch
        A folder for the sums by token id; None: they are kept in memory.
    progress
        Told how far it is.
    """
    model = text.model
    widths: Mapping[str, int] = {hook: model.place(hook).width for hook in targets}
    at_embedding = source == EMBEDDING
    device = wide_device(model.device)
    own = 0 if at_embedding else model.place(source).width
    streams = [Stream(own, widths, device=device) for _ in range(counts.slots)]
    tokens = TokenSums(counts.keys, counts.count, slots=counts.slots, widths=widths, into=scratch)
    hooks = list(dict.fromkeys([*([] if at_embedding else [source]), *targets]))
    title = f"{model.name}: moments of {len(targets)} site(s)"
    total = int(counts.count.sum())
    for rows in text.rows(hooks, title=title, total=total, progress=progress):
        seen = {hook: rows.read[hook] for hook in targets}
        tokens.add(rows.ids, rows.slot, seen)
        for slot, where in rows.by_slot():
            at = where.to(model.device)
            ys = {hook: y[at].to(device) for hook, y in seen.items()}
            x = rows.read[source][at].to(device) if own else torch.zeros(len(at), 0, device=device)
            streams[slot].add(x, ys)
    vectors = torch.from_numpy(by_id(model, tokens.ids)) if at_embedding else None
    return Measured(source, counts=counts, tokens=tokens, streams=streams, vectors=vectors)
