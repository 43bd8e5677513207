"""Studies that compute with torch: their device, the precision of products, and errors of memory."""

import copy
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Self

from atlas.errors import BadInput
from atlas.studies.study import Study
from ingest.device_memory import release_cache
from ingest.error_translation import SMALLER, memory_errors
from ingest.precision import arithmetic, ieee_float32

if TYPE_CHECKING:
    import torch

__all__ = ["TorchStudy"]


class TorchStudy(Study):
    """Base class of studies that compute with torch.

    Their forecast and their tasks run with IEEE float32 products, in this process and in
    workers, and their parts record the precision that torch reports. An error of memory that
    no step has translated becomes ``OutOfSpace``.
    """

    smaller: ClassVar[str] = SMALLER
    """What to do if memory does not suffice, as a clause."""

    device: str = "cpu"
    """Name of the device; a study that runs a model replaces it."""

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute float32 products in IEEE float32, and translate errors of memory.

        Raises
        ------
        OutOfSpace
            If memory does not suffice.
        """
        needed = f"`atlas {self.command or self.kind}`"
        with memory_errors(needed, todo=self.smaller), ieee_float32():
            yield

    def arithmetic(self) -> Mapping[str, str]:
        """Return the precision of products, and the GPU if the study uses one."""
        return arithmetic(self.torch_device())

    def release(self) -> None:
        """Return the memory that torch has cached; a study that stores opened models drops them first."""
        gc.collect()  # models have cycles of references
        release_cache()

    def needs_gpu(self, *, available: bool) -> bool:
        """Return whether the device is a GPU; ``auto`` uses one where it is available."""
        if self._placed is not None:
            return self._placed.type == "cuda"
        return available if self.device == "auto" else self.device.startswith("cuda")

    def on_assigned_gpu(self) -> Self:
        """Return the study for a worker that sees only the GPU that Ray assigned to it.

        Whatever its number on the machine, torch calls it the first GPU there.

        Raises
        ------
        BadInput
            If a model or an SAE in memory is on another GPU than the first.
        """
        for one in (getattr(self, "model", None), *getattr(self, "opened", ())):
            at = getattr(one, "device", None)
            if getattr(at, "type", None) == "cuda" and getattr(at, "index", None):
                raise BadInput(
                    f"A {type(one).__name__} in memory is on {at}, and a worker of Ray sees its GPU as cuda:0. "
                    "Pass its name, or move it to 'cpu' or 'cuda:0'."
                )
        if not self.device.startswith("cuda:"):
            return self
        other = copy.copy(self)
        object.__setattr__(other, "device", "cuda")  # studies are frozen
        return other

    def torch_device(self) -> "torch.device":
        """Return the device of the computation: that of a model in memory, or the named one."""
        from ingest.model.loading import choose_device

        return self._placed or choose_device(self.device)

    @property
    def _placed(self) -> "torch.device | None":
        """The device of a model in memory, which ``auto`` does not move."""
        model = getattr(self, "model", None)
        found: torch.device | None = getattr(model, "device", None)
        return found if self.device == "auto" else None
