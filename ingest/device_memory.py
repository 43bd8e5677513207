"""Free memory of a GPU, as torch can use it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["free_bytes", "release_cache"]


def free_bytes(device: "torch.device") -> int:
    """Return the bytes of a GPU that torch can still use in this process.

    The driver counts the memory that torch has cached as used. Torch uses it again for new
    tensors, or returns it to the driver when an allocation fails.

    Parameters
    ----------
    device
        A device of type ``cuda``.
    """
    import torch

    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + cached)


def release_cache() -> None:
    """Return the memory that torch has cached to the driver, so that other processes can use it."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
