"""SAEs of sae-lens before training: seeded weights, and the frozen parts of floors."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ingest.train.settings import Architecture
from ingest.train.specs import SaeSpec

if TYPE_CHECKING:
    from sae_lens import TrainingSAE

__all__ = ["SPARSITY", "centre", "freeze", "limit_activity", "new_sae", "seeded"]

#: Default coefficient of the sparsity loss.
SPARSITY: dict[Architecture, float] = {"jumprelu": 1.0, "standard": 4.0, "gated": 5.0}

#: Number of nested widths of a matryoshka SAE; each is half of the next.
LEVELS = 4

#: Tokens on which the threshold of an untrained encoder is chosen.
CALIBRATION = 8192


def new_sae(
    spec: SaeSpec, *, sparsity: float | None, steps: int, metadata: dict[str, Any]
) -> "TrainingSAE[Any]":
    """Return an SAE with the initial weights of sae-lens, on the CPU.

    Parameters
    ----------
    spec
        Architecture, sizes and seed.
    sparsity
        Coefficient of the sparsity loss; the default of the architecture if None.
    steps
        Training steps; the sparsity loss is warmed up over a fifth of them.
    metadata
        Metadata of the model and its contexts, for the configuration.
    """
    from sae_lens.saes.sae import SAEMetadata

    common = {
        "d_in": spec.d_in,
        "d_sae": spec.width,
        "apply_b_dec_to_input": True,
        "normalize_activations": "expected_average_only_in",
        "metadata": SAEMetadata(**metadata, hook_name=spec.site, seed=spec.seed),
    }
    weight = SPARSITY.get(spec.architecture, 0.0) if sparsity is None else sparsity
    kind, own = _class(spec, weight=weight, warm_up=steps // 5, steps=steps)
    return seeded(kind, spec.draw, common | own)


def seeded(kind: Any, seed: int, config: dict[str, Any]) -> Any:
    """Return an SAE of a training class of sae-lens; the generator of the process is not changed.

    Parameters
    ----------
    kind
        The class and its class of configurations.
    seed
        Seed of the weights.
    config
        Values of the configuration.
    """
    sae_class, config_class = kind
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return sae_class(config_class(**config))


def _class(spec: SaeSpec, *, weight: float, warm_up: int, steps: int) -> Any:
    """Return the classes of sae-lens for an architecture, and the values of its own settings."""
    import sae_lens

    # The decoder of a frozen encoder is trained: its norms must not select active features.
    rescale = {"rescale_acts_by_decoder_norm": spec.role != "frozen-encoder"}
    # The threshold at inference is a running mean; this rate lets it settle in short runs too.
    rate = {"topk_threshold_lr": min(0.5, max(0.01, 10 / max(1, steps)))}
    match spec.architecture:
        case "topk":
            return (sae_lens.TopKTrainingSAE, sae_lens.TopKTrainingSAEConfig), {
                "k": spec.k,
                **rescale,
            }
        case "batchtopk":
            return (sae_lens.BatchTopKTrainingSAE, sae_lens.BatchTopKTrainingSAEConfig), {
                "k": spec.k,
                **rescale,
                **rate,
            }
        case "matryoshka":
            kind = (
                sae_lens.MatryoshkaBatchTopKTrainingSAE,
                sae_lens.MatryoshkaBatchTopKTrainingSAEConfig,
            )
            nested = {spec.width >> level for level in range(LEVELS)} - {0}
            return kind, {"k": spec.k, "matryoshka_widths": sorted(nested), **rescale, **rate}
        case "jumprelu":
            return (sae_lens.JumpReLUTrainingSAE, sae_lens.JumpReLUTrainingSAEConfig), {
                "jumprelu_sparsity_loss_mode": "quadratic",
                "target_l0": float(spec.k),
                "l0_coefficient": weight,
                # Thresholds alone move by the learning rate at most, too slowly to reach the target.
                "jumprelu_ste_to_input": True,
                "l0_warm_up_steps": warm_up,
            }
        case "standard":
            return (sae_lens.StandardTrainingSAE, sae_lens.StandardTrainingSAEConfig), {
                "l1_coefficient": weight,
                "l1_warm_up_steps": warm_up,
            }
        case "gated":
            return (sae_lens.GatedTrainingSAE, sae_lens.GatedTrainingSAEConfig), {
                "l1_coefficient": weight,
                "l1_warm_up_steps": warm_up,
            }


@torch.no_grad()
def centre(sae: "TrainingSAE[Any]", mean: Tensor) -> None:
    """Set the decoder bias to the mean of the scaled inputs, shape (d_in,)."""
    sae.b_dec.data = mean.to(sae.b_dec)


def freeze(sae: "TrainingSAE[Any]", spec: SaeSpec) -> None:
    """Exclude from training what a floor does not train.

    A frozen decoder is frozen in its directions; its bias and the encoder are trained. With
    a frozen encoder only the decoder's directions are trained, since the decoder's bias is
    subtracted from the input of the encoder.

    References
    ----------
    .. [1] "Sanity Checks for Sparse Autoencoders: Do SAEs Beat Random Baselines?", 2026,
       arXiv:2602.14111.
    """
    for name, parameter in sae.named_parameters():
        if spec.role == "frozen-decoder":
            parameter.requires_grad_(name != "W_dec")
        elif spec.role == "frozen-encoder":
            parameter.requires_grad_(name == "W_dec")


@torch.no_grad()
def limit_activity(sae: "TrainingSAE[Any]", spec: SaeSpec, x: Tensor) -> None:
    """Give a random encoder k active features per token, on average over some inputs.

    A single threshold for all features does it. TopK needs none.

    Parameters
    ----------
    sae
        The SAE, untrained.
    spec
        Its architecture and k.
    x
        Scaled inputs, shape (tokens, d_in).
    """
    if spec.architecture == "topk":
        return
    before = sae.encode_with_hidden_pre(x[:CALIBRATION])[1]
    active = spec.k * len(before)
    flat = before.flatten()
    rest = flat.numel() - active
    threshold = max(0.0, float(flat.kthvalue(rest)[0])) if rest > 0 else 0.0
    own: Any = sae
    match spec.architecture:
        case "batchtopk" | "matryoshka":
            own.topk_threshold.fill_(threshold)
        case "jumprelu":
            own.threshold.fill_(threshold)
        case "standard":
            own.b_enc.fill_(-threshold)
        case "gated":
            own.b_gate.fill_(-threshold)
