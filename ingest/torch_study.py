"""Studies that compute with torch: their device, the precision of products, and errors of memory."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from atlas.studies.study import Study
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

    device: str = "auto"
    """Name of the device; a study with a field ``device`` replaces it."""

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

    def torch_device(self) -> "torch.device":
        """Return the device of the computation: that of a model in memory, or the named one."""
        from ingest.model.loading import choose_device

        placed: torch.device | None = getattr(getattr(self, "model", None), "device", None)
        return (
            placed if placed is not None and self.device == "auto" else choose_device(self.device)
        )
