"""One pass over the text: moments of the source and all targets by fold, and sums by token id."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.transcoder.activation_stream import SlotCounts, TextStream
from analysis.transcoder.moments import Moments, Stream, joined
from analysis.transcoder.token_means import BLOCK, TokenBlock, TokenSums
from atlas.amounts import counted
from atlas.progress import Progress
from ingest.forward.site_vectors import EMBEDDING, by_id

__all__ = ["MapMoments", "bytes_needed", "measure", "wide_device"]


def wide_device(device: torch.device) -> torch.device:
    """Return the device for float64: the same device, or the CPU if it has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def bytes_needed(source: int, targets: Sequence[int], *, folds: int, at_embedding: bool) -> int:
    """Return the bytes for the moments of all folds, with and without BOS, without sums by token id.

    At the embedding, the products of the source, and those with one target at a time, are
    computed from the sums and vectors of a block of ids.
    """
    one = max(targets)
    block = 8 * BLOCK * 6 * (source + one)
    if not at_embedding:
        return 2 * folds * Stream.bytes_needed(source, targets) + block
    products = 8 * 2 * folds * source * (source + one)
    return 2 * folds * Stream.bytes_needed(0, targets) + products + block


class MapMoments:
    """Moments and sums that maps between a source and its targets are fitted to and scored on.

    At the embedding, the source is a function of the token id, so its moments follow exactly
    from the sums by id. At other sites they are accumulated from the activations.

    Parameters
    ----------
    source
        Name of the source.
    counts
        Tokens by slot and id.
    tokens
        Sums of the targets by slot and id.
    streams
        Moments by slot; without the source if it is a function of the id.
    vectors
        At the embedding, a function from token ids to the source's vectors, (ids, source); None
        at other sites.
    """

    def __init__(
        self,
        source: str,
        *,
        counts: SlotCounts,
        tokens: TokenSums,
        streams: Sequence[Stream],
        vectors: Callable[[NDArray[np.int64]], Tensor] | None,
    ) -> None:
        self.source, self.counts, self.tokens = source, counts, tokens
        self._streams, self._vectors = streams, vectors
        self._sources: dict[int, tuple[Tensor, Tensor]] = {}
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
        """Return the moments of a fold without BOS."""
        return self._moments(target, 2 * fold)

    def bos(self, target: str, fold: int) -> Moments:
        """Return the moments of the BOS tokens of a fold."""
        return self._moments(target, 2 * fold + 1)

    def both(self, target: str, fold: int) -> Moments:
        """Return the moments of a fold with BOS."""
        return joined([self.text(target, fold), self.bos(target, fold)])

    def target(self, target: str, fold: int) -> Moments:
        """Return the moments of a target alone over a fold without BOS."""
        return self._streams[2 * fold].target(target)

    def sides(self, target: str, *folds: Sequence[int]) -> Iterator[tuple[TokenBlock, ...]]:
        """Yield the tokens of sets of folds by id without BOS, a block of ids at a time.

        Parameters
        ----------
        target
            The target.
        folds
            The folds of each set.
        """
        return self.tokens.blocks(target, *([2 * f for f in each] for each in folds))

    def _moments(self, target: str, slot: int) -> Moments:
        if self._last[0] != target:  # cache the moments of one target
            self._last = (target, {})
        if slot not in self._last[1]:
            self._last[1][slot] = self._computed(target, slot)
        return self._last[1][slot]

    def _computed(self, target: str, slot: int) -> Moments:
        spread = self._streams[slot].moments(target)
        if self._vectors is None:
            return spread
        return self._collapsed(target, slot, spread)

    def _collapsed(self, target: str, slot: int, spread: Moments) -> Moments:
        """Return the moments of a source that is a function of the token id.

        Parameters
        ----------
        target
            The target.
        slot
            Slot of the tokens.
        spread
            Moments of the target over these tokens, without the source.
        """
        if slot not in self._sources:
            self._sources[slot] = self._source(slot, spread.y)
        mean, xx = self._sources[slot]
        xy = spread.y.new_zeros(len(mean), len(spread.y))
        for (side,) in self.tokens.blocks(target, [slot]):
            z, count, sums = (t.to(xy) for t in (self._vectors_of(side.ids), side.count, side.sums))
            xy.addmm_((z - mean).T, sums - count[:, None] * spread.y)
        return replace(spread, x=mean, xx=xx, xy=xy)

    def _source(self, slot: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and products of the source over the tokens of a slot, for all targets."""
        ids, count = self.counts.of(slot)
        width = self._vectors_of(self.tokens.ids[:1]).shape[1]
        mean, xx = like.new_zeros(width), like.new_zeros(width, width)
        blocks = [slice(i, i + BLOCK) for i in range(0, len(ids), BLOCK)]
        for few in blocks:
            weights = torch.from_numpy(count[few]).to(like)
            mean += weights @ self._vectors_of(ids[few]).to(like) / count.sum()
        for few in blocks:
            weights = torch.from_numpy(count[few]).to(like)
            z = self._vectors_of(ids[few]).to(like) - mean
            xx.addmm_(z.T, z * weights[:, None])
        return mean, xx

    def _vectors_of(self, ids: NDArray[np.int64]) -> Tensor:
        assert self._vectors is not None
        return self._vectors(ids)


def measure(
    text: TextStream,
    source: str,
    targets: Sequence[str],
    *,
    counts: SlotCounts,
    scratch: Path | None,
    progress: Progress,
) -> MapMoments:
    """Run the model over the text once, and accumulate moments and sums by token id.

    Parameters
    ----------
    text
        The text.
    source, targets
        Sites, by TransformerLens name.
    counts
        Counts of the tokens of the text.
    scratch
        Folder for the sums by token id; None stores them in memory.
    progress
        Receives the progress.
    """
    model = text.model
    widths: Mapping[str, int] = {hook: model.site(hook).width for hook in targets}
    at_embedding = source == EMBEDDING
    device = wide_device(model.device)
    own = 0 if at_embedding else model.site(source).width
    streams = [Stream(own, widths, device=device) for _ in range(counts.slots)]
    tokens = TokenSums(counts.keys, counts.count, slots=counts.slots, widths=widths, into=scratch)
    hooks = list(dict.fromkeys([*([] if at_embedding else [source]), *targets]))
    title = f"{model.name}: moments of {counted(len(targets), 'site')}"
    total = int(counts.count.sum())
    for rows in text.rows(hooks, title=title, total=total, progress=progress):
        seen = {hook: rows.read[hook] for hook in targets}
        tokens.add(rows.ids, rows.slot, seen)
        for slot, where in rows.by_slot():
            at = where.to(model.device)
            ys = {hook: y[at].to(device) for hook, y in seen.items()}
            x = rows.read[source][at].to(device) if own else torch.zeros(len(at), 0, device=device)
            streams[slot].add(x, ys)
    return MapMoments(
        source,
        counts=counts,
        tokens=tokens,
        streams=streams,
        vectors=(lambda ids: torch.from_numpy(by_id(model, ids))) if at_embedding else None,
    )
