"""A pretend GPU: tensors that report ``cuda:0``, compute on the CPU, and raise where a GPU would.

The checks are made where Python calls torch: operands on two devices, ``.numpy()`` and
``numpy.asarray`` without ``.cpu()``, a random generator of the CPU, and an ``out=`` on another
device raise, as they do on CUDA. So do products of integers, and sums whose order differs between two runs. The class holds its numbers on the CPU and reports another
device, so that autograd runs without a driver. Kernels, streams and memory are those of the CPU.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree

__all__ = ["FREE_BYTES", "PretendTensor", "on_both_devices", "pretend_gpu", "upload"]

GPU = torch.device("cuda", 0)

#: Free memory that the pretend GPU reports.
FREE_BYTES = 2**30

_MIXED = (
    "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu"
)
_T = torch.Tensor

#: Tensors move between devices in these, or indices may be on the CPU.
_MOVES = {_T.to, _T.copy_, _T.type, _T.cuda, _T.cpu, _T.backward, torch.autograd.backward}
#: Functions of Module.to that compute nothing.
_QUESTIONS = {torch._C._nn._parse_to, torch._has_compatible_shallow_copy_type}
_INDEXING = {_T.__getitem__, _T.__setitem__, _T.index_put_}
#: Functions whose sums have another order in each run on CUDA, by atomic additions or by cuSPARSE; see
#: ``torch.use_deterministic_algorithms``. ``kthvalue`` is not among them: only its indices differ.
_UNORDERED = {
    "index_add", "index_add_", "index_reduce", "index_reduce_", "scatter_add", "scatter_add_",
    "scatter_reduce", "scatter_reduce_", "put_", "bincount", "histc", "sparse_mm", "_sparse_mm",
}  # fmt: skip
#: Products, which CUDA computes of floating-point numbers only.
_PRODUCTS = {"matmul", "mm", "bmm", "addmm", "addmm_", "addmv", "mv", "einsum", "__matmul__"}
_TO_NUMPY = {_T.numpy, _T.__array__, _T.__dlpack__, _T.__array_wrap__}


class PretendTensor(torch.Tensor):
    """A tensor that reports the device ``cuda:0``."""

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _call(func, args, dict(kwargs or {}))


class _Mode(TorchFunctionMode):
    """Handles factories, whose arguments are not tensors."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return _call(func, args, dict(kwargs or {}))


def upload(x: torch.Tensor) -> PretendTensor:
    """Return a copy of a tensor on the pretend GPU."""
    with torch._C.DisableTorchFunction():
        return x.clone().as_subclass(PretendTensor)


@contextmanager
def pretend_gpu() -> Iterator[None]:
    """Run a block on a machine with a pretend GPU."""
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    pretend = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "mem_get_info": lambda device=None: (FREE_BYTES, 2 * FREE_BYTES),
        "is_bf16_supported": lambda *_, **__: True,
        "get_device_name": lambda device=None: "pretend",
        # ``torch.random.fork_rng`` stores and restores the generator of each GPU.
        "get_rng_state": lambda device="cuda": torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda state, device="cuda": None,
    }
    with ExitStack() as stack:
        for name, value in pretend.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        # A query of the driver: is a CUDA graph being captured?
        health = "_accelerator_graph_capture_health_check"
        if hasattr(torch.optim.Optimizer, health):
            stack.enter_context(mock.patch.object(torch.optim.Optimizer, health))
        # So that Module.to replaces parameters, instead of their numbers only.
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrite)
        stack.enter_context(_Mode())
        yield


def _call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if func in _QUESTIONS or func is torch.device:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)
    leaves = _pytree.tree_leaves((args, kwargs))
    tensors = [t for t in leaves if isinstance(t, torch.Tensor)]
    on_gpu = any(map(_is_pretend, tensors))
    if on_gpu:
        if func in _TO_NUMPY:
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor "
                "to host memory first."
            )
        if (answer := _attribute(func, args)) is not None:
            return answer
        if func is _T.__deepcopy__:
            return _deepcopy(args[0], args[1])
        _check(func, args, tensors)
    target = _target(func, args, kwargs, on_gpu=on_gpu)
    _check_generator(leaves, target)
    args, kwargs = _pytree.tree_map(_on_cpu, (args, kwargs))
    if func is _T.cuda:
        func, args = _T.to, (args[0], "cpu")
    with torch._C.DisableTorchFunctionSubclass():
        out = func(*args, **kwargs)
        moved = bool(args) and out is args[0] and _is_pretend(out) != target
        if func in (_T.to, _T.cuda, _T.cpu) and (moved or _is_pretend(args[0]) != target):
            out = out.clone() if out is args[0] else out
        if isinstance(out, torch.Size):  # a tree would return it as a tuple
            return out
        return _pytree.tree_map(lambda leaf: _placed(leaf, target), out)


def _placed(leaf: Any, gpu: bool) -> Any:
    """Return a result as a tensor of its device."""
    if not isinstance(leaf, torch.Tensor) or _is_pretend(leaf) == gpu:
        return leaf
    if leaf.layout == torch.strided:
        return leaf.as_subclass(PretendTensor if gpu else torch.Tensor)
    leaf._pretend = gpu  # a sparse tensor has no subclass
    return leaf


def _is_pretend(x: Any) -> bool:
    return isinstance(x, PretendTensor) or getattr(x, "_pretend", False)


def _attribute(func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Return the attributes that differ from those of a tensor on the CPU."""
    if func == _T.device.__get__:
        return GPU
    if func == _T.is_cuda.__get__:
        return True
    if func == _T.is_cpu.__get__:
        return False
    if func == _T.get_device:
        return 0
    return None


def _deepcopy(x: torch.Tensor, memo: dict[int, Any]) -> torch.Tensor:
    with torch._C.DisableTorchFunction():
        copy = x.detach().clone().as_subclass(PretendTensor).requires_grad_(x.requires_grad)
    if getattr(x, "_is_param", False):
        copy._is_param = True  # type: ignore[attr-defined]
    memo[id(x)] = copy
    return copy


def _check(func: Callable[..., Any], args: tuple[Any, ...], tensors: list[torch.Tensor]) -> None:
    """Raise if operands are on two devices; numbers without dimensions and indices may be on the CPU."""
    name = getattr(func, "__name__", "")
    if func in _MOVES or name == "__set__":
        return
    if name in _UNORDERED or any(t.layout != torch.strided for t in tensors if name in _PRODUCTS):
        raise RuntimeError(f"{name} on CUDA may have another result in each run")
    if name in _PRODUCTS and not all(t.dtype.is_floating_point for t in tensors):
        raise RuntimeError(f'"{name}_cuda" not implemented for {tensors[0].dtype}')
    if func in _INDEXING:
        # Indices on the CPU are copied, and so is a value that is assigned to a slice.
        indices = [i for i in _pytree.tree_leaves(args[1]) if isinstance(i, torch.Tensor)]
        on_gpu = _is_pretend(args[0])
        if not on_gpu and any(_is_pretend(i) for i in indices):
            raise RuntimeError("indices should be either on cpu or on the same device (cpu)")
        values = [t for t in _pytree.tree_leaves(args[2:]) if isinstance(t, torch.Tensor)]
        others = [t for t in values if t.numel() > 1 and _is_pretend(t) != on_gpu]
        if indices and others:
            raise RuntimeError(f"{_MIXED}! (in {getattr(func, '__name__', func)})")
        return
    if any(not _is_pretend(t) and t.dim() > 0 for t in tensors):
        raise RuntimeError(f"{_MIXED}! (in {getattr(func, '__name__', func)})")


def _target(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], *, on_gpu: bool
) -> bool:
    """Return whether the result is on the GPU."""
    if func is _T.cpu:
        return False
    if func is _T.cuda:
        return True
    if func in (_T.copy_, _T.__setitem__):
        return _is_pretend(args[0])
    if kwargs.get("device") is not None:
        return _is_gpu(kwargs["device"])
    if func is _T.to:
        for value in args[1:]:
            if isinstance(value, torch.Tensor):
                return _is_pretend(value)
            if isinstance(value, str | torch.device | int) and not isinstance(value, bool):
                return _is_gpu(value)
        return _is_pretend(args[0])
    if func in (torch.as_tensor, torch.asarray, torch.tensor):
        return _is_pretend(args[0])
    return on_gpu


def _is_gpu(device: Any) -> bool:
    return isinstance(device, int) or torch.device(device).type == "cuda"


def _check_generator(leaves: list[Any], gpu: bool) -> None:
    if gpu and any(isinstance(x, torch.Generator) and x.device.type == "cpu" for x in leaves):
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")


def _on_cpu(value: Any) -> Any:
    """Return an argument for the call on the CPU."""
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("cpu")
    if isinstance(value, str) and (value == "cuda" or value.startswith("cuda:")):
        return "cpu"
    return value


def on_both_devices(work: Callable[[str], Any]) -> tuple[Any, Any]:
    """Return the result of work on the CPU, and on the pretend GPU."""
    torch.manual_seed(1)
    expected = work("cpu")
    torch.manual_seed(1)
    with pretend_gpu():
        return expected, work("cuda")
