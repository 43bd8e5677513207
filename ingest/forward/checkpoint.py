"""The checkpoint of an unfinished run of one SAE: the request, finished shards and their states.

::

    runs/<sae>-<hash>/
      request.json             the request, for `atlas ingest --resume`
      codes/shard-00000.arrow  codes of a finished shard
      shard-00000.npz          states of the reductions over activations
      reduced.npz              if codes are not stored: states of all shards so far

Every file appears only when complete. A shard is finished when both its files exist,
or when ``reduced.npz`` includes it. Each file can be checked: the states of a shard
hold the SHA-256 of its codes, ``.npz`` files a CRC of each array, and
``request.json`` its own SHA-256.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from atlas.disk.array_files import load_arrays, save_arrays
from atlas.disk.atomic_files import discard, sha256, write_json
from atlas.errors import BrokenPart
from ingest.reduce.protocol import State

__all__ = ["Checkpoint"]


class Checkpoint:
    """The folder of an unfinished run of one SAE."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def codes_folder(self) -> Path:
        """The folder of the codes until the run ends."""
        return self.folder / "codes"

    def start(self, request: Mapping[str, Any]) -> None:
        """Create the folder if it does not exist, and write the request."""
        self.codes_folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "request.json", {**request, "sha256": _digest(request)})

    def request(self) -> dict[str, Any]:
        """Return the request.

        Raises
        ------
        BrokenPart
            If its file cannot be read.
        """
        try:
            request = dict(json.loads((self.folder / "request.json").read_text("utf-8")))
            if request.pop("sha256", None) != _digest(request):
                raise ValueError("its checksum differs")
            return request
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise BrokenPart(
                f"The unfinished run {self.folder} cannot be read ({error}). Remove that folder and repeat "
                "the complete command."
            ) from error

    def shard(self, number: int) -> Path:
        """Return the path of the codes of a shard."""
        return self.codes_folder / f"shard-{number:05d}.arrow"

    def finished(self, number: int) -> bool:
        """Return whether a shard is finished."""
        return self.counted_in > number or (
            self.shard(number).exists() and self._states(number).exists()
        )

    def save_states(self, number: int, states: Mapping[str, State]) -> None:
        """Store the states of the reductions over activations; this finishes the shard."""
        codes = np.frombuffer(bytes.fromhex(sha256(self.shard(number))), np.uint8)
        _save(self._states(number), {**states, "": {"codes": codes}})

    def states(self, number: int) -> dict[str, State]:
        """Return the states of the reductions over activations."""
        states = _load(self._states(number))
        states.pop("", None)
        return states

    def drop_damaged(self) -> list[str]:
        """Remove damaged files, so that their shards are computed again.

        Returns
        -------
        list of str
            The names of the files.
        """
        damaged = []
        for states in sorted(self.folder.glob("shard-*.npz")):
            codes = self.codes_folder / f"{states.stem}.arrow"
            if codes.exists() and not self._is_intact(states, codes):
                damaged.append(states)
        if self._reduced.exists():
            try:
                _ = _load(self._reduced)[""]["shards"]
            except (BrokenPart, KeyError):
                damaged.append(self._reduced)
        for path in damaged:
            path.unlink()
        return [path.name for path in damaged]

    def _is_intact(self, states: Path, codes: Path) -> bool:
        try:
            return _load(states)[""]["codes"].tobytes().hex() == sha256(codes)
        except (BrokenPart, KeyError):
            return False

    def count_in(self, states: Mapping[str, State], *, number: int) -> None:
        """Store the states of all shards up to this one, and remove the files of this shard."""
        _save(self._reduced, {**states, "": {"shards": np.array(number + 1)}})
        self.shard(number).unlink(missing_ok=True)
        self._states(number).unlink(missing_ok=True)

    def reduced(self) -> dict[str, State]:
        """Return the states stored by ``count_in``; empty before its first call."""
        states = _load(self._reduced) if self._reduced.exists() else {}
        states.pop("", None)
        return states

    @property
    def counted_in(self) -> int:
        """The number of shards that ``count_in`` has included."""
        return int(_load(self._reduced, only="")[""]["shards"]) if self._reduced.exists() else 0

    def end(self) -> None:
        """Remove the folder."""
        discard(self.folder)

    @property
    def _reduced(self) -> Path:
        return self.folder / "reduced.npz"

    def _states(self, number: int) -> Path:
        return self.folder / f"shard-{number:05d}.npz"


def _save(path: Path, states: Mapping[str, State]) -> None:
    save_arrays(
        path,
        {f"{name}/{key}": array for name, state in states.items() for key, array in state.items()},
    )


def _load(path: Path, *, only: str | None = None) -> dict[str, State]:
    """Read the states of all reductions in a file, or those of one reduction alone."""
    states: dict[str, State] = {}
    arrays = load_arrays(path, where=lambda name: only in (None, name.partition("/")[0]))
    for name, array in arrays.items():
        reduction, _, key = name.partition("/")
        states.setdefault(reduction, {})[key] = array
    return states


def _digest(request: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
