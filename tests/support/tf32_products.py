"""Which products run while TF32 is allowed, and a setting of the process that allows it."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["tf32_allowed", "tf32_products"]

_PRODUCTS = {
    *("linear", "addmm", "addmm_", "matmul", "mm", "bmm", "baddbmm", "addmv", "mv", "einsum"),
    *("__matmul__", "__rmatmul__", "scaled_dot_product_attention"),
}

_ROOT = Path(__file__).parents[2]


@contextmanager
def tf32_allowed() -> Iterator[None]:
    """Allow TF32 in this process, and check at the end that it still is."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def tf32_products() -> Iterator[tuple[list[str], list[str]]]:
    """Yield two lists: the float32 products of a block, and those that ran with TF32 allowed.

    A product is a matrix product or a backward pass, named by function, file and line.
    """
    every: list[str] = []
    found: list[str] = []

    def record(name: str) -> None:
        every.append(name)
        if torch.backends.cuda.matmul.allow_tf32:
            frames = [s for s in traceback.extract_stack() if _is_ours(s.filename)]
            where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"
            found.append(f"{name} at {where}")

    class Mode(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            name = getattr(func, "__name__", "")
            if name in _PRODUCTS and any(map(_is_float32, args)):
                record(name)
            return func(*args, **(kwargs or {}))

    def recorded(owner: Any, name: str) -> Any:
        original: Callable[..., Any] = getattr(owner, name)

        def call(*args: Any, **named: Any) -> Any:
            record(name)
            return original(*args, **named)

        return mock.patch.object(owner, name, call)

    with (
        recorded(torch.autograd, "grad"),
        recorded(torch.autograd, "backward"),
        Mode(),
    ):
        yield every, found


def _is_float32(x: Any) -> bool:
    if isinstance(x, torch.Tensor):
        return x.dtype == torch.float32
    return isinstance(x, list | tuple) and any(map(_is_float32, x))


def _is_ours(file: str) -> bool:
    inside = file.startswith(str(_ROOT)) and ".venv" not in file
    return inside and Path(file).name != Path(__file__).name
