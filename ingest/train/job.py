"""One SAE in training: its start, its steps on a buffer, its checkpoint, and its folder at the end."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from atlas.disk.atomic_files import atomic_file, atomic_folder, write_json
from atlas.errors import BadActivations, BadInput
from ingest.folder_checks import read_json_object
from ingest.precision import arithmetic
from ingest.train.buffer import batches
from ingest.train.record import NOTE, Last, training_record
from ingest.train.saes import CALIBRATION, centre, freeze, limit_activity, new_sae
from ingest.train.settings import TrainSettings
from ingest.train.specs import SaeSpec
from ingest.train.trainer import Step, new_trainer, restore, state_of, take_steps

if TYPE_CHECKING:
    from sae_lens import SAETrainer

__all__ = ["UNFINISHED", "Job", "Plan"]

#: Folder of the checkpoints within the folder of the SAEs.
UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class Plan:
    """What the SAEs of a run have in common.

    Parameters
    ----------
    out
        The folder of the SAEs.
    settings
        The settings.
    steps
        Steps of each SAE, except untrained ones.
    metadata
        Metadata of the model and its contexts for the configuration of each SAE.
    sources
        Names and sources of model and text.
    device
        Device of the training.
    """

    out: Path
    settings: TrainSettings
    steps: int
    metadata: dict[str, Any]
    sources: dict[str, Any]
    device: torch.device


class Job:
    """One SAE in training.

    Parameters
    ----------
    spec
        The SAE.
    plan
        What all SAEs of the run have in common.
    origin
        Everything that its training depends on.
    """

    def __init__(self, spec: SaeSpec, plan: Plan, origin: dict[str, Any]) -> None:
        self.spec, self.plan, self.origin = spec, plan, origin
        self.steps = 0 if spec.role == "untrained" else plan.steps
        self.last: Last | None = None
        self._trainer: SAETrainer[Any, Any] | None = None

    @property
    def folder(self) -> Path:
        """Folder of the finished SAE."""
        return self.plan.out / self.spec.name

    @property
    def checkpoint(self) -> Path:
        """File of its state."""
        return self.plan.out / UNFINISHED / f"{self.spec.name}.pt"

    @property
    def done(self) -> int:
        """Number of finished steps."""
        return 0 if self._trainer is None else int(self._trainer.n_training_steps)

    @property
    def begun(self) -> bool:
        """Whether it has its initial weights."""
        return self._trainer is not None

    def resume(self) -> bool:
        """Continue from the checkpoint; return False if there is none of this origin.

        Raises
        ------
        BadInput
            If the checkpoint is damaged.
        """
        if not self.checkpoint.exists():
            return False
        try:
            stored = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            if stored["origin"] != self.origin:
                return False
            trainer = self._new_trainer()
            restore(trainer, stored["state"])
        except (
            OSError,
            RuntimeError,
            EOFError,
            KeyError,
            ValueError,
            pickle.UnpicklingError,
        ) as error:
            raise BadInput(
                f"The checkpoint {self.checkpoint} cannot be read ({str(error).splitlines()[0]}). Remove it, and run "
                "the same command again: that SAE is trained from the start."
            ) from error
        self._trainer = trainer
        return True

    def begin(self, x: Tensor) -> None:
        """Set the initial weights, with scale and mean of the first buffer, (tokens, d_in)."""
        trainer = self._new_trainer()
        sae, d_in = trainer.sae, x.shape[1]
        scale = d_in**0.5 / max(float(x.norm(dim=1).mean(dtype=torch.float64)), 1e-12)
        trainer.activation_scaler.scaling_factor = scale
        centre(sae, x.mean(0, dtype=torch.float64) * scale)
        if (
            self.spec.role in ("untrained", "frozen-encoder")
            or self.spec.architecture == "jumprelu"
        ):
            few = x[:: max(1, len(x) // CALIBRATION)]
            limit_activity(sae, self.spec, few * scale)
        self._trainer = trainer

    def take(self, x: Tensor, number: int, after: Callable[[], None]) -> None:
        """Train on a buffer.

        Parameters
        ----------
        x
            The buffer at the site of the SAE, (tokens, d_in).
        number
            Number of the buffer.
        after
            Called after each step.

        Raises
        ------
        BadActivations
            If the loss or a weight became NaN or Inf.
        """
        trainer, batch = self._started(), self.plan.settings.batch
        total, steps, l0 = torch.zeros((), device=x.device), 0, 0.0

        def stepped(step: Step) -> None:
            nonlocal total, steps, l0
            total, steps = total + step.mse, steps + 1
            if steps * batch >= len(x):
                l0 = float((step.codes > 0).sum() / len(step.codes))
            after()

        first = self.done
        order = batches(x, batch=batch, seed=self.spec.seed, number=number)
        take_steps(trainer, order, after=stepped)
        finite = all(bool(p.isfinite().all()) for p in trainer.sae.parameters())
        if not (finite and bool(total.isfinite())):
            raise BadActivations(
                f"The training of {self.spec.name} reached NaN or Inf between steps {first:,} and {self.done:,} of "
                f"{self.steps:,}. Pass a lower `learning_rate` (now {self.plan.settings.learning_rate:g})."
            )
        scale = trainer.activation_scaler.scaling_factor or 1.0
        spread = float(x.var(0, correction=0).sum(dtype=torch.float64)) * scale**2
        dead = float(trainer.dead_neurons.float().mean())
        self.last = Last(float(total) / steps / max(spread, 1e-300), l0, dead)

    def save(self) -> None:
        """Write the checkpoint.

        Raises
        ------
        OutOfSpace
            If the disk is full; the previous checkpoint is not changed.
        """
        self.checkpoint.parent.mkdir(exist_ok=True)
        with atomic_file(self.checkpoint) as file, file.open("wb") as stream:
            torch.save({"origin": self.origin, "state": state_of(self._started())}, stream)

    def finish(self) -> None:
        """Write the folder of the SAE, and remove its checkpoint."""
        trainer = self._started()
        scale = trainer.activation_scaler.scaling_factor
        if scale is not None:
            trainer.sae.fold_activation_norm_scaling_factor(scale)
        trainer.set_final_sae_metadata()
        with atomic_folder(self.folder) as unfinished:
            _, config = trainer.sae.save_inference_model(unfinished)
            write_json(config, read_json_object(config))  # sorted, since its order is random
            record = training_record(
                self.spec,
                self.origin,
                self.plan.sources,
                steps=self.steps,
                last=self.last,
                arithmetic=arithmetic(self.plan.device),
            )
            write_json(unfinished / NOTE, record)
        self.checkpoint.unlink(missing_ok=True)
        self._trainer = None

    def _started(self) -> "SAETrainer[Any, Any]":
        assert self._trainer is not None
        return self._trainer

    def _new_trainer(self) -> "SAETrainer[Any, Any]":
        settings = self.plan.settings
        sae = new_sae(
            self.spec,
            sparsity=settings.sparsity,
            steps=self.plan.steps,
            metadata=self.plan.metadata,
        ).to(self.plan.device)
        freeze(sae, self.spec)
        return new_trainer(
            sae, steps=self.plan.steps, batch=settings.batch, learning_rate=settings.learning_rate
        )
