"""Train affine maps with Adam, as in the original study; an interrupted training can be resumed."""

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from analysis.transcoder.affine import FittedMap, Maps
from analysis.transcoder.settings import TranscoderSettings
from analysis.transcoder.solve import Line
from atlas.disk.atomic_files import atomic_file
from atlas.errors import BadActivations, BrokenPart
from atlas.progress import Progress, Stage

__all__ = ["Data", "TrainedLine", "adam", "train"]

#: Rows in a block when all rows are read.
CHUNK = 16_384


@dataclass(frozen=True, eq=False)
class Data:
    """Rows of a source and a target.

    Parameters
    ----------
    x, y
        float32, (rows, source) and (rows, target); usually mapped from disk.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]

    def take(self, rows: NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return selected rows as tensors."""
        return (
            torch.from_numpy(self.x[rows]).to(device),
            torch.from_numpy(self.y[rows]).to(device),
        )


@dataclass(frozen=True, eq=False)
class TrainedLine:
    """A trained map, its mean squared error on the stopping rows, its steps and learning rate.

    The map is that of the epoch with the smallest error on the stopping rows; steps are counted
    up to this epoch.
    """

    line: Line
    error: float
    steps: int
    rate: float


def train(
    data: Data,
    *,
    fit_rows: NDArray[np.int64],
    stop_rows: NDArray[np.int64],
    rate: float,
    settings: TranscoderSettings,
    device: torch.device,
    checkpoint: Path,
    stage: Stage,
) -> TrainedLine:
    """Train a linear layer with Adam on the mean squared error.

    After each epoch the complete state is written to ``checkpoint``, so an interruption does
    not change the result.

    Parameters
    ----------
    data
        All rows.
    fit_rows, stop_rows
        int64. Training rows, and rows for early stopping.
    rate
        The learning rate.
    settings
        Batch size, epochs, patience and seed.
    device
        Device of the training.
    checkpoint
        File of the checkpoint; the caller deletes it.
    stage
        Advanced at every epoch.

    Raises
    ------
    BadActivations
        If the error is not finite, because the learning rate is too high.
    BrokenPart
        If the checkpoint cannot be read.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        layer = nn.Linear(data.x.shape[1], data.y.shape[1]).to(device)
    optimizer = torch.optim.Adam(layer.parameters(), lr=rate)
    at = _State(layer, optimizer)
    if checkpoint.exists():
        at.load(checkpoint, device)
        stage.advance(at.epoch)
    while at.epoch < settings.epochs and at.idle < settings.patience:
        order = np.random.default_rng([settings.seed, at.epoch]).permutation(fit_rows)
        for begin in range(0, len(order), settings.batch):
            x, y = data.take(order[begin : begin + settings.batch], device)
            loss = nn.functional.mse_loss(layer(x), y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            at.steps += 1
        at.end_epoch(_error(layer, data, stop_rows, device))
        at.save(checkpoint)
        stage.advance()
    stage.advance(settings.epochs - at.epoch)
    weight, bias = (value.cpu().double() for value in at.best)
    line = Line(weight.T, weight.new_zeros(weight.shape[1]), bias)
    return TrainedLine(line, at.error, at.best_steps, rate)


@dataclass(eq=False)
class _State:
    """State of a training."""

    layer: nn.Linear
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    steps: int = 0
    idle: int = 0
    error: float = float("inf")
    best_steps: int = 0
    best: tuple[Tensor, Tensor] = (torch.zeros(0), torch.zeros(0))

    _NUMBERS = ("epoch", "steps", "idle", "error", "best_steps")

    def end_epoch(self, error: float) -> None:
        if not np.isfinite(error):
            raise BadActivations(
                f"The error of the map is not finite after {self.steps} steps of Adam. Pass lower `rates`."
            )
        self.epoch += 1
        self.idle += 1
        if error < self.error:
            self.error, self.idle, self.best_steps = error, 0, self.steps
            self.best = (self.layer.weight.detach().clone(), self.layer.bias.detach().clone())

    def save(self, path: Path) -> None:
        state = {
            "layer": self.layer.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            **{name: getattr(self, name) for name in self._NUMBERS},
        }
        with atomic_file(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path, device: torch.device) -> None:
        try:
            state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        except (OSError, RuntimeError, UnpicklingError, EOFError) as error:
            raise BrokenPart(
                f"The checkpoint of an interrupted training, {path}, cannot be read ({error}). To restart the "
                "training, remove that file."
            ) from error
        self.layer.load_state_dict(state["layer"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best = tuple(state["best"])
        for name in self._NUMBERS:
            setattr(self, name, state[name])


def _error(layer: nn.Linear, data: Data, rows: NDArray[np.int64], device: torch.device) -> float:
    """Return the mean squared error on selected rows."""
    total: float = 0.0
    with torch.no_grad():
        for begin in range(0, len(rows), CHUNK):
            x, y = data.take(rows[begin : begin + CHUNK], device)
            total += (layer(x) - y).square().mean(1).cpu().double().sum().item()
    return total / len(rows)


def adam(
    data: Data,
    slot: NDArray[np.int64],
    *,
    settings: TranscoderSettings,
    device: torch.device,
    wide: torch.device,
    checkpoints: Path,
    mean: Tensor,
    rank: int,
    title: str,
    progress: Progress,
) -> Maps:
    """Train maps without and with BOS; the first fold is for scores, the second for early stopping.

    Parameters
    ----------
    data
        All rows.
    slot
        int64, (rows,). Twice the fold of each row, plus 1 for BOS.
    settings
        Settings of the training.
    device
        Device of the training.
    wide
        Device of the scores, in float64.
    checkpoints
        Folder for checkpoints.
    mean
        (source,), float64. Reference point of the trained maps.
    rank
        Rank of the source on the training tokens.
    title, progress
        Title and progress.
    """
    fold, bos = slot // 2, slot % 2 == 1
    on = tuple(range(2, settings.folds))

    def best(among: NDArray[np.bool_], name: str) -> TrainedLine:
        fit_rows, stop_rows = (np.flatnonzero(among & part) for part in (fold >= 2, fold == 1))
        trials = []
        for rate in settings.rates:
            label = f"{title}, {name}, learning rate {rate:g}"
            with progress.stage(label, total=settings.epochs, unit="epochs") as stage:
                trials.append(
                    train(
                        data,
                        fit_rows=fit_rows,
                        stop_rows=stop_rows,
                        rate=rate,
                        settings=settings,
                        device=device,
                        checkpoint=checkpoints / f"{name}-{rate!r}.pt",
                        stage=stage,
                    )
                )
        return min(trials, key=lambda t: t.error)

    def fitted(trained: TrainedLine) -> tuple[FittedMap, FittedMap]:
        weight, x, y = (t.to(wide) for t in (trained.line.weight, trained.line.x, trained.line.y))
        line = Line(weight, x, y).about(mean.to(wide))
        return FittedMap(line, on, (0,)), FittedMap(line, on, on)

    text = best(~bos, "without-bos")
    held_out, full = fitted(text)
    if not bos.any():
        return Maps((held_out,), full, (), None, None, text.steps, rank, text.rate)
    bos_held_out, bos_full = fitted(best(np.ones_like(bos), "with-bos"))
    return Maps((held_out,), full, (bos_held_out,), bos_full, None, text.steps, rank, text.rate)
