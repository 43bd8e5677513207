"""The trainer of sae-lens, run step by step, with its state as tensors to store and restore."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ingest.error_translation import memory_errors
from ingest.precision import ieee_float32

if TYPE_CHECKING:
    from sae_lens import SAETrainer, TrainingSAE

__all__ = ["Step", "new_trainer", "restore", "state_of", "take_steps"]

#: What to do if memory does not suffice for a training step.
_TODO = "use a smaller `batch`, narrower or fewer SAEs, or another device"


@dataclass(frozen=True)
class Step:
    """A finished training step.

    Parameters
    ----------
    mse
        Squared error per token, in the units of the scaled input.
    codes
        Activations of the features, (tokens, d_sae).
    """

    mse: Tensor
    codes: Tensor


def new_trainer(
    sae: "TrainingSAE[Any]", *, steps: int, batch: int, learning_rate: float
) -> "SAETrainer[Any, Any]":
    """Return a trainer of sae-lens for an SAE, on the device of the SAE.

    The learning rate rises over the first tenth of the steps, 100 at most, and falls to 0 over
    the last half.

    Parameters
    ----------
    sae
        The SAE.
    steps, batch
        Training steps, and tokens of a step.
    learning_rate
        Highest learning rate of Adam.
    """
    from sae_lens import LoggingConfig, SAETrainer
    from sae_lens.config import SAETrainerConfig

    config = SAETrainerConfig(
        total_training_samples=steps * batch,
        train_batch_size_samples=batch,
        device=str(sae.device),
        lr=learning_rate,
        lr_end=learning_rate / 20,
        lr_warm_up_steps=min(100, steps // 10),
        lr_decay_steps=steps // 2,
        dead_feature_window=max(1, min(200, steps // 4)),
        logger=LoggingConfig(log_to_wandb=False),
    )
    return SAETrainer(cfg=config, sae=sae, data_provider=iter(()))


def take_steps(
    trainer: "SAETrainer[Any, Any]",
    batches: Iterable[Tensor],
    *,
    after: Callable[[Step], None],
) -> None:
    """Take a training step on each batch, as ``fit`` of sae-lens does without its progress bar.

    Parameters
    ----------
    trainer
        The trainer.
    batches
        Inputs, each (tokens of a step, d_in).
    after
        Called after each step.

    Raises
    ------
    OutOfSpace
        If a step does not fit into memory.
    """
    for x in batches:
        trainer.maybe_reset_sparsity()
        needed = f"training {trainer.sae.cfg.d_sae:,} features on {len(x):,} tokens at a time"
        with memory_errors(needed, todo=_TODO), ieee_float32():
            done = trainer.step(x)
        trainer.n_training_steps += 1
        after(Step(done.losses["mse_loss"].detach(), done.feature_acts.detach()))


#: The counters of a trainer of sae-lens.
_COUNTERS = (
    "n_training_samples",
    "n_training_steps",
    "act_freq_scores",
    "n_forward_passes_since_fired",
    "n_frac_active_samples",
)


def state_of(trainer: "SAETrainer[Any, Any]") -> dict[str, Any]:
    """Return everything that the next steps depend on, as tensors, numbers and texts."""
    return {
        "sae": trainer.sae.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "lr_scheduler": trainer.lr_scheduler.state_dict(),
        "coefficients": {k: v.state_dict() for k, v in trainer.coefficient_schedulers.items()},
        "counters": {name: getattr(trainer, name) for name in _COUNTERS},
        "scale": trainer.activation_scaler.scaling_factor,
    }


def restore(trainer: "SAETrainer[Any, Any]", state: dict[str, Any]) -> None:
    """Set a new trainer to a state from ``state_of``."""
    trainer.sae.load_state_dict(state["sae"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.lr_scheduler.load_state_dict(state["lr_scheduler"])
    for name, scheduler in trainer.coefficient_schedulers.items():
        scheduler.load_state_dict(state["coefficients"][name])
    for name in _COUNTERS:
        now, stored = getattr(trainer, name), state["counters"][name]
        setattr(trainer, name, stored.to(now.device) if isinstance(now, Tensor) else stored)
    trainer.activation_scaler.scaling_factor = state["scale"]
