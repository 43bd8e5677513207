"""What the steps of ``benchmarks.gpu`` use: SAEs to train, an error in a child, bytes on the GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import sae_lens
import torch

from atlas.progress import Silent, Stage
from ingest.error_translation import memory_errors

__all__ = ["ReservedBytes", "index_out_of_range", "training_sae"]


def training_sae(architecture: str, d_in: int, d_sae: int) -> torch.nn.Module:
    """Return an SAE of sae-lens to train."""
    kind, more = {
        "topk": ("TopK", {"k": 8}),
        "batchtopk": ("BatchTopK", {"k": 8}),
        "jumprelu": ("JumpReLU", {}),
        "gated": ("Gated", {}),
    }[architecture]
    config = getattr(sae_lens, f"{kind}TrainingSAEConfig")(
        d_in=d_in, d_sae=d_sae, normalize_activations="none", **more
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return getattr(sae_lens, f"{kind}TrainingSAE")(config)


def index_out_of_range(device: str) -> str:
    """Return the class of the error of an index that is out of range; run in a child process."""
    try:
        with memory_errors("a batch"):
            index = torch.tensor([5], device=device)
            torch.zeros(2, device=device)[index].cpu()
    except Exception as error:  # noqa: BLE001 - the class is the result
        return type(error).__name__
    return "no error"


class ReservedBytes(Silent):
    """A progress that records the bytes reserved on the GPU while blocks are computed."""

    def __init__(self) -> None:
        self.bytes: list[int] = []

    @contextmanager
    def stage(self, title: str, *, total: float | None = None, unit: str = "") -> Iterator[Stage]:
        """Begin a stage."""
        if unit == "blocks":
            self.advance()
        yield self if unit == "blocks" else _Ignored()

    def advance(self, by: float = 1) -> None:
        """Record the bytes."""
        self.bytes.append(torch.cuda.memory_reserved() if torch.cuda.is_available() else 0)


class _Ignored:
    def advance(self, by: float = 1) -> None:
        pass
