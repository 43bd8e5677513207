"""The settings of one ingest, frozen, and recorded in what it writes."""

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """How an ingest is done.

    Parameters
    ----------
    tokens
        Cut a new text after the document in which this many tokens are reached;
        all of it if None.
    context
        Tokens of a context, BOS included; as each SAE's metadata says if None.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
    dtype
        Number format of the model: ``"float32"``, ``"bfloat16"``, ``"float16"``, or
        ``"auto"``, which is float32 for what is loaded and leaves a model in memory
        as it is. SAEs always run in float32.
    keep_codes
        Keep the codes on disk, so that matches, probes and new measures need no
        model run.
    shard_blocks
        Blocks of a shard: the unit of a file and of a retry. Results do not depend on it.
    batch_tokens
        Padded tokens of one forward pass.
    memory
        Bytes that the states of the reductions may take.
    seed
        Seed of the sampled examples.
    k
        Most active features of a token that co-activation counts.
    min_count
        Tokens among whose most active features a pair must be, to be an edge.
    workers
        Processes that share the shards, on Ray; each holds the model and its SAEs.
        0 is none: this process computes them all, or, with ``ray``, as many as the
        cluster has CPUs (GPUs, for a model on cuda). Results do not depend on it, but
        for float32 rounding where workers run fewer threads; see ``ingest.forward.workers``.
    ray
        The Ray cluster that gives the workers: ``"auto"`` (the one this machine
        belongs to), ``"host:port"`` or ``"ray://host:port"``. One is started on this
        machine if None and ``workers`` is not 0.
    """

    tokens: int | None = None
    context: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    keep_codes: bool = True
    shard_blocks: int = 8
    batch_tokens: int = 4096
    memory: int = 4 * 2**30
    seed: int = 0
    k: int = 4
    min_count: int = 1
    workers: int = 0
    ray: str | None = None
