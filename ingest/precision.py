"""Precision of float32 products: IEEE float32 everywhere, whatever the environment sets.

Studies compute inside ``ieee_float32``, which their runner enters (``ingest.torch_study``).
``ingest`` and ``train_saes`` enter it themselves.

TF32 rounds the factors of a float32 product to 10 bits. It changes the codes of an SAE, and
solvers no longer converge. It can be switched on by a script, or by the environment variable
``TORCH_ALLOW_TF32_CUBLAS_OVERRIDE``, which containers of NVIDIA set. On a CPU the same setting
of torch allows bfloat16.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["arithmetic", "float32_products", "ieee_float32"]

#: Names of the older settings of torch in its newer interface.
_NAMES = {"highest": "ieee", "high": "tf32", "medium": "bf16"}


@contextmanager
def ieee_float32() -> Iterator[None]:
    """Compute float32 products in IEEE float32; the setting of torch is restored at the end.

    Can be used as a decorator.

    Examples
    --------
    >>> with ieee_float32():
    ...     pass
    """
    import torch

    matmul = torch.backends.cuda.matmul
    convolution = torch.backends.cudnn.allow_tf32
    legacy: str | None
    try:
        legacy = torch.get_float32_matmul_precision()
    except RuntimeError:  # set by the newer interface of torch only
        legacy, newer = None, matmul.fp32_precision
    # Sets the flags of both interfaces of torch.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolution
        if legacy is not None:
            torch.set_float32_matmul_precision(legacy)
        else:
            matmul.fp32_precision = newer


def float32_products() -> str:
    """Return the precision of float32 products that torch uses at this moment.

    Returns
    -------
    str
        ``"ieee"``, ``"tf32"`` or ``"bf16"``.

    Examples
    --------
    >>> with ieee_float32():
    ...     float32_products()
    'ieee'
    """
    import torch

    try:
        return _NAMES[torch.get_float32_matmul_precision()]
    except RuntimeError:  # set by the newer interface of torch only
        return str(torch.backends.cuda.matmul.fp32_precision)


def arithmetic(device: "torch.device") -> dict[str, str]:
    """Return how numbers are computed on a device, as recorded in a manifest outside its hash.

    Call it where the numbers are computed, because the precision is read from torch.

    Returns
    -------
    dict
        ``float32 products``; on a GPU also ``gpu`` and ``cuda``.
    """
    found = {"float32 products": float32_products()}
    if device.type == "cuda":
        import torch

        found["gpu"] = torch.cuda.get_device_name(device)
        found["cuda"] = str(torch.version.cuda)
    return found
