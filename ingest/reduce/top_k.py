"""Top k: the best rows of each group (survivors), with the text around them.

Every row belongs to a group and has a 31- or 32-bit key; lower keys are better. Ties go to the
earlier position. Rows are unsorted, in arrays that grow with the number of survivors. A new
row takes the slot of a row that it replaces. Blocks, and states that are merged, come in
corpus order, so of equal keys the existing one wins.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.codes.store import Block
from ingest.reduce.arrays import Arrays, by_feature, changes, ranks

__all__ = ["Window", "admit", "empty", "join", "row_bytes", "sort"]

# Rows whose windows are gathered at once, to limit the memory in addition to the state.
_CHUNK = 1 << 14

_ANY = np.uint32(0xFFFFFFFF)


@dataclass(frozen=True)
class Window:
    """The number of tokens shown before and after the peak, within its context."""

    before: int
    after: int

    @property
    def width(self) -> int:
        """Number of tokens of a complete window."""
        return self.before + 1 + self.after


def row_bytes(window: Window) -> int:
    """Return the size of a survivor in bytes."""
    return sum(column.nbytes for column in _columns(1, window).values())


def empty(groups: int, window: Window) -> Arrays:
    """Return an empty state.

    Columns, of which the first ``used`` rows are valid: ``order`` (uint64, group << 32 | key),
    ``place`` (int64, as Block.location), ``start`` (int32, character in the document), ``peak``
    and ``length`` (int32, within the window), ``tokens`` (int32) and ``activations``
    (float32), both (rows, width), filled from the left. ``bar`` (uint32, groups) is the key
    that a new row must be below.
    """
    bar = np.full(groups, _ANY)
    return {"used": np.zeros(1, dtype=np.int64), "bar": bar, **_columns(0, window)}


def admit(
    state: Arrays,
    block: Block,
    *,
    entry: NDArray[np.int64],
    group: NDArray[np.int64],
    key: NDArray[np.uint32],
    n: int,
    window: Window,
) -> None:
    """Add the entries of a block that are among the best n of their group.

    Parameters
    ----------
    state
        The survivors so far, all from earlier positions.
    block
        The block.
    entry
        The entries that may survive, ascending; positions in ``block.indices``.
    group, key
        The group and the key of each.
    n
        Number of survivors of a group.
    window
        The text to store around them.
    """
    beats = np.flatnonzero(key < state["bar"][group])
    order = (group[beats].astype(np.uint64) << np.uint64(32)) | key[beats]
    best = _best(order, len(state["bar"]), n=n)
    if not len(best):
        return
    order, entry = order[best], entry[beats[best]]
    row = block.rows[entry]
    fresh, slots = _seat(state, order, block.location[row], n=n)
    gather = _Gather(block, window)
    for i in range(0, len(fresh), _CHUNK):
        chunk, slot = fresh[i : i + _CHUNK], slots[i : i + _CHUNK]
        gather(state, slot, row[chunk], block.indices[entry[chunk]].astype(np.int64))


def join(a: Arrays, b: Arrays, *, n: int) -> None:
    """Add b's survivors, all from later positions, to a."""
    used = int(b["used"][0])
    order = b["order"][:used]
    beats = np.flatnonzero(_key(order) < a["bar"][_group(order)])
    fresh, slots = _seat(a, order[beats], b["place"][beats], n=n)
    for name in ("start", "peak", "length", "tokens", "activations"):
        a[name][slots] = b[name][beats[fresh]]


def sort(state: Arrays) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32]]:
    """Return slot, group and key of all survivors, sorted by group and key."""
    used = int(state["used"][0])
    order = state["order"][:used]
    slot = _sorted(order, state["place"][:used])
    return slot, _group(order[slot]), _key(order[slot])


def _group(order: NDArray[np.uint64]) -> NDArray[np.int64]:
    return (order >> np.uint64(32)).astype(np.int64)


def _key(order: NDArray[np.uint64]) -> NDArray[np.uint32]:
    return order.astype(np.uint32)  # the low half


def _columns(rows: int, window: Window) -> Arrays:
    shape = (rows, window.width)
    return {
        "order": np.zeros(rows, dtype=np.uint64),
        "place": np.zeros(rows, dtype=np.int64),
        "start": np.zeros(rows, dtype=np.int32),
        "peak": np.zeros(rows, dtype=np.int32),
        "length": np.zeros(rows, dtype=np.int32),
        "tokens": np.zeros(shape, dtype=np.int32),
        "activations": np.zeros(shape, dtype=np.float32),
    }


def _sorted(order: NDArray[np.uint64], place: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indices that sort by order, then place, like np.lexsort but faster.

    Only ties are sorted twice.
    """
    by = np.argsort(order)
    ties = ~changes(order[by])
    ties[:-1] |= ties[1:]
    tied = by[ties]
    by[ties] = tied[np.lexsort((place[tied], order[tied]))]
    return by


def _best(order: NDArray[np.uint64], groups: int, *, n: int) -> NDArray[np.int64]:
    """Return the indices of the best n of each group, with all ties.

    Sorting without positions is many times faster, and excludes most entries of a shard's
    first block.
    """
    ascending = np.sort(order)
    last = ascending[ranks(_group(ascending)) == n - 1]
    worst = np.full(groups, _ANY)
    worst[_group(last)] = _key(last)
    return np.flatnonzero(_key(order) <= worst[_group(order)])


def _seat(
    state: Arrays, order: NDArray[np.uint64], place: NDArray[np.int64], *, n: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Select the new rows that survive; return their indices and their slots."""
    used = int(state["used"][0])
    touched = np.zeros(len(state["bar"]), dtype=np.bool_)
    touched[_group(order)] = True
    old = np.flatnonzero(touched[_group(state["order"][:used])])
    candidates = np.concatenate([state["order"][old], order])
    by = _sorted(candidates, np.concatenate([state["place"][old], place]))
    group = _group(candidates[by])
    rank = ranks(group)
    last = by[rank == n - 1]
    state["bar"][_group(candidates[last])] = _key(candidates[last])
    stays, leaves = by[rank < n], by[rank >= n]
    fresh = stays[stays >= len(old)] - len(old)
    # Every removed row was replaced by a new one, so there are at most as many free slots.
    free = old[leaves[leaves < len(old)]]
    grown = len(fresh) - len(free)
    _grow(state, used + grown)
    state["used"] = np.array([used + grown])
    slots = np.concatenate([free, np.arange(used, used + grown)])
    state["order"][slots], state["place"][slots] = order[fresh], place[fresh]
    return fresh, slots


def _grow(state: Arrays, rows: int) -> None:
    room = len(state["order"])
    if rows <= room:
        return
    wide = max(rows, room + room // 4)
    for name in ("order", "place", "start", "peak", "length", "tokens", "activations"):
        old = state[name]
        state[name] = np.zeros((wide, *old.shape[1:]), dtype=old.dtype)
        state[name][:room] = old


class _Gather:
    """Copies the windows around some tokens of a block into a state."""

    def __init__(self, block: Block, window: Window) -> None:
        self.block, self.window = block, window
        # Sorted by feature, so that a feature's activations on a window are contiguous.
        self.columns = by_feature(block)
        widths = np.diff(self.columns.indptr)
        self.sorted = np.repeat(np.arange(block.d_sae) * len(block), widths) + self.columns.indices
        begins = np.flatnonzero(np.diff(block.context, prepend=-1))
        self.begin = begins[block.context]
        self.end = np.append(begins[1:], len(block))[block.context]

    def __call__(
        self,
        state: Arrays,
        slot: NDArray[np.int64],
        row: NDArray[np.int64],
        feature: NDArray[np.int64],
    ) -> None:
        """Fill the windows of these slots, whose peaks are these rows and features."""
        low = np.maximum(self.begin[row], row - self.window.before)
        high = np.minimum(self.end[row], row + self.window.after + 1)
        tokens = self.block.tokens
        state["start"][slot] = tokens.start[row]
        state["peak"][slot] = row - low
        state["length"][slot] = high - low
        at = low[:, None] + np.arange(self.window.width)
        shown = tokens.token_id[np.minimum(at, len(tokens) - 1)]
        state["tokens"][slot] = np.where(at < high[:, None], shown, 0)
        first = np.searchsorted(self.sorted, feature * len(tokens) + low)
        count = np.searchsorted(self.sorted, feature * len(tokens) + high) - first
        which = np.repeat(np.arange(len(row)), count)
        active = np.arange(len(which)) - np.repeat(np.cumsum(count) - count - first, count)
        windows = np.zeros(at.shape, dtype=np.float32)
        windows[which, self.columns.indices[active] - low[which]] = self.columns.data[active]
        state["activations"][slot] = windows
