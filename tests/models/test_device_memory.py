"""Memory of a pretend GPU: what torch has cached is free, and errors of memory are translated."""

import numpy as np
import pytest
import torch
from pretend_device import pretend_gpu
from random_saes import random_sae

from ingest.device_memory import free_bytes
from ingest.probe.solver.design import Design
from ingest.sae.autoencoder import open_sae

GIB = 2**30


def memory(monkeypatch: pytest.MonkeyPatch, *, free: int, reserved: int, allocated: int) -> None:
    """Set the memory that the driver and the allocator of torch report."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (free, 141 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device=None: reserved)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device=None: allocated)


def test_memory_that_torch_has_cached_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretend_gpu():
        memory(monkeypatch, free=2**20, reserved=41 * GIB, allocated=GIB)
        assert free_bytes(torch.device("cuda")) == 2**20 + 40 * GIB
        # The driver's number alone would allow 0.8 MiB, and no stored array.
        design = Design(np.ones((2**18, 4), np.float32), device="cuda", per_chunk=10)
        assert design.is_stored
        assert design.free_bytes(2**50) == int(0.8 * (2**20 + 40 * GIB)) - 160
        assert open_sae(random_sae("topk"), device="cuda")._chunk_bytes() == 4 * GIB


def test_memory_in_use_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretend_gpu():
        memory(monkeypatch, free=2**20, reserved=41 * GIB, allocated=41 * GIB)
        assert free_bytes(torch.device("cuda")) == 2**20
        assert not Design(np.ones((2**18, 4), np.float32), device="cuda").is_stored
