"""Train the SAEs of a study with the trainer of sae-lens; only their inputs differ."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.residual.activations import Activations, subtract_prediction
from analysis.residual.fit import Fitted, RandomComponents, variance
from analysis.residual.settings import ResidualSettings
from atlas.errors import BadActivations, BadInput
from atlas.progress import Stage
from ingest.error_translation import memory_errors
from ingest.precision import ieee_float32
from ingest.sae.activation_transforms import Subtraction
from ingest.train.saes import seeded
from ingest.train.trainer import Step, new_trainer, take_steps

if TYPE_CHECKING:
    from sae_lens import TopKTrainingSAE

__all__ = [
    "NO_RESIDUAL",
    "Arm",
    "Facts",
    "Read",
    "Trained",
    "all_arms",
    "batches",
    "read_inputs",
    "train",
]

#: Share of the target's variance below which a residual counts as zero.
NO_RESIDUAL = 1e-6

#: Number of last steps whose mean loss is ``final_loss``.
LAST = 20


@dataclass(frozen=True, eq=False)
class Arm:
    """One SAE to train.

    Parameters
    ----------
    name
        ``"baseline"``, ``"residual"``, ``"components"`` or ``"token-means"``.
    seed
        Seed of the weights and of the order of tokens.
    draw
        Number of the draw of components; None in other arms.
    less
        Subtraction from the target before the SAE reads it.
    """

    name: str
    seed: int
    draw: int | None = None
    less: Subtraction | None = None

    @property
    def label(self) -> str:
        """End of the SAE's name: ``components2-s0``."""
        return f"{self.name}{'' if self.draw is None else self.draw}-s{self.seed}"


def all_arms(
    settings: ResidualSettings, fitted: Fitted | None = None, drawn: Sequence[RandomComponents] = ()
) -> list[Arm]:
    """Return all SAEs of a study; without subtractions if they are not fitted yet."""
    arms: list[tuple[str, int | None, Subtraction | None]] = [
        ("baseline", None, None),
        ("residual", None, fitted.map if fitted else None),
        ("token-means", None, fitted.token_means if fitted else None),
    ]
    arms += [
        ("components", draw, drawn[draw].less if drawn else None) for draw in range(settings.draws)
    ]
    return [
        Arm(name, seed, draw, less) for seed in range(settings.seeds) for name, draw, less in arms
    ]


@dataclass(frozen=True)
class Facts:
    """Training record of an SAE.

    Parameters
    ----------
    d_sae, steps, train_tokens
        Number of features, of steps, and of tokens in all steps.
    final_loss
        Squared error of the last steps / variance of the input.
    input_variance
        Mean variance over the dimensions of the input, on the training documents.
    removed_share
        Share of the target's variance that the subtraction removes, on the training documents.
    train_documents
        Number of training documents.
    shrunk
        Weight of the prior in each token mean, in tokens; None if it could not be chosen, and in
        other arms.
    """

    d_sae: int
    steps: int
    train_tokens: int
    final_loss: float
    input_variance: float
    removed_share: float
    train_documents: int
    shrunk: float | None = None


@dataclass(frozen=True, eq=False)
class Read:
    """Moments of an SAE's input over all training tokens.

    Parameters
    ----------
    mean, variance
        (d_in,). Mean and variance of each dimension.
    removed_share
        Share of the target's variance that the subtraction removes.
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    removed_share: float


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained SAE of sae-lens, and its training record."""

    sae: "TopKTrainingSAE"
    facts: Facts


def read_inputs(
    arms: Iterable[Arm], activations: Activations, settings: ResidualSettings
) -> dict[str, Read]:
    """Return the moments of the input of each SAE, by label, in one pass for all seeds.

    Parameters
    ----------
    arms
        The SAEs.
    activations
        The training documents.
    settings
        Source and target.

    Raises
    ------
    BadInput
        If the input of an SAE has no variance.
    """
    total = float(variance(activations, lambda rows: rows.target)[1].sum())
    seen: dict[tuple[str, int | None], Read] = {}
    reads = {}
    for arm in arms:
        key = arm.name, arm.draw
        if key not in seen:
            seen[key] = _input_moments(arm, activations, settings, total)
        reads[arm.label] = seen[key]
    return reads


def _input_moments(
    arm: Arm, activations: Activations, settings: ResidualSettings, total: float
) -> Read:
    mean, spread = variance(
        activations, lambda rows: subtract_prediction(arm.less, rows, source=settings.source)
    )
    _check_residual(arm, float(spread.sum()), total, settings)
    return Read(mean, spread, 1 - float(spread.sum()) / total)


def train(
    arm: Arm,
    activations: Activations,
    settings: ResidualSettings,
    *,
    read: Read,
    metadata: dict[str, Any],
    stage: Stage,
    device: torch.device | str = "cpu",
) -> Trained:
    """Train one SAE.

    In all arms, the input is centred on its mean and divided by its root mean square during
    training, so that the learning rate has the same effect. Both are folded into the weights
    at the end.

    Parameters
    ----------
    arm
        Input and seed of the SAE.
    activations
        The training documents.
    settings
        Sizes, steps and rates.
    read
        Moments of the input, from ``read_inputs``.
    metadata
        Metadata of the model and its contexts for the configuration of the SAE.
    stage
        Advanced at each step.
    device
        Device of the training.

    Raises
    ------
    BadActivations
        If the loss becomes NaN.
    """
    mean, scale = read.mean, float(np.sqrt(read.variance.mean()))
    steps, batch = settings.steps(len(activations)), min(settings.batch, len(activations))
    todo = "use a smaller batch, fewer features or another device"
    with (
        memory_errors(f"training {arm.label} on {batch} tokens at a time", todo=todo),
        ieee_float32(),
    ):
        sae = _new(arm, settings, len(mean), metadata, device)
        losses = _fit(
            sae,
            _inputs(arm, activations, settings, mean=mean, scale=scale),
            settings,
            batch=batch,
            steps=steps,
            stage=stage,
        )
        _fold(sae, mean, scale)
    facts = Facts(
        d_sae=sae.cfg.d_sae,
        steps=steps,
        train_tokens=steps * batch,
        final_loss=float(np.mean(losses)) / len(mean),
        input_variance=float(read.variance.mean()),
        removed_share=read.removed_share,
        train_documents=len(np.unique(activations.documents)),
    )
    if not np.isfinite(facts.final_loss):
        raise BadActivations(
            f"The training of {arm.label} ended in NaN or Inf. Choose a lower learning rate."
        )
    return Trained(sae, facts)


def batches(tokens: int, batch: int, *, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield full batches of token numbers without end, in a new order in each epoch.

    The order depends on the seed only, so all arms of a seed share it.
    """
    epoch = 0
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(tokens)
        for i in range(0, tokens - batch + 1, batch):
            yield np.sort(order[i : i + batch])  # sorted: less seeking on disk
        epoch += 1


def _inputs(
    arm: Arm,
    activations: Activations,
    settings: ResidualSettings,
    *,
    mean: NDArray[np.float64],
    scale: float,
) -> Iterator[Tensor]:
    """Yield batches of the SAE's input, centred and scaled, without end."""
    middle = torch.from_numpy(mean).float()
    size = min(settings.batch, len(activations))
    for which in batches(len(activations), size, seed=arm.seed):
        x = subtract_prediction(arm.less, activations.rows(which), source=settings.source)
        yield (x - middle) / scale


def _check_residual(arm: Arm, rest: float, total: float, settings: ResidualSettings) -> None:
    if not total > 0:
        raise BadInput(
            f"{settings.target} is the same on all training tokens, so there is nothing to train an SAE on. Choose another target."
        )
    if rest <= NO_RESIDUAL * total:
        taken = "token means" if arm.name == "token-means" else "the map"
        raise BadInput(
            f"The R² of {taken} from {settings.source} is 1 on {settings.target}, so the residual for the SAE "
            f"{arm.label} is zero. Choose a target further from the source."
            if arm.name != "components"
            else f"The components of {arm.label} have all variance of {settings.target}, so the residual is zero."
        )


def _new(
    arm: Arm,
    settings: ResidualSettings,
    d_in: int,
    metadata: dict[str, Any],
    device: torch.device | str,
) -> "TopKTrainingSAE":
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.saes.sae import SAEMetadata

    config = {
        "d_in": d_in,
        "d_sae": settings.features(d_in),
        "k": settings.k,
        "normalize_activations": "none",
        "apply_b_dec_to_input": True,
        "metadata": SAEMetadata(**metadata, hook_name=settings.target, seed=arm.seed),
    }
    sae: TopKTrainingSAE = seeded((TopKTrainingSAE, TopKTrainingSAEConfig), arm.seed, config)
    return sae.to(device)  # created on the CPU, for the same weights on all devices


def _fit(
    sae: "TopKTrainingSAE",
    inputs: Iterator[Tensor],
    settings: ResidualSettings,
    *,
    batch: int,
    steps: int,
    stage: Stage,
) -> list[float]:
    """Run the trainer step by step, and return the squared errors of the last steps."""
    trainer = new_trainer(sae, steps=steps, batch=batch, learning_rate=settings.learning_rate)
    losses: deque[float] = deque(maxlen=LAST)

    def after(step: Step) -> None:
        losses.append(float(step.mse))
        stage.advance()

    take_steps(trainer, islice(inputs, steps), after=after)
    trainer.set_final_sae_metadata()
    return list(losses)


@torch.no_grad()
def _fold(sae: "TopKTrainingSAE", mean: NDArray[np.float64], scale: float) -> None:
    """Fold mean and scale of the input into the weights of an SAE."""
    middle = torch.from_numpy(mean).to(sae.b_dec)
    sae.W_enc.data /= scale
    sae.W_dec.data *= scale
    sae.b_dec.data *= scale
    sae.b_dec.data += middle
