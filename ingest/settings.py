"""The settings of one ingest, frozen, and recorded in what it writes."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from atlas.settings import check_settings, documented, setting

__all__ = ["Dtype", "Settings"]

Dtype: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]


@documented
@dataclass(frozen=True)
class Settings:
    """How an ingest is done."""

    tokens: int | None = setting(
        None, "Number of tokens of a new text; the document that reaches it is the last, and one that "
        "exceeds it by more than a tenth is cut.", flag=None, least=1, metavar="N", shown="all",
    )  # fmt: skip
    context: int | None = setting(
        None, "Tokens of a context, BOS included.", least=2, metavar="N", shown="the SAE's"
    )
    device: str = setting("auto", "Device of the model: auto, cpu, cuda, cuda:1 or mps.")
    dtype: Dtype = setting(
        "auto", "Number format of the model; auto is float32 for a model that is loaded, and its own "
        "format for a model in memory. SAEs always run in float32.",
    )  # fmt: skip
    keep_codes: bool = setting(
        True,
        "Store the sparse activations, so that matches, probes and new measures need no model.",
    )
    shard_blocks: int = setting(
        8, "Blocks of a shard, the unit of a file and of a retry; results do not depend on it.",
        flag=None, least=1,
    )  # fmt: skip
    batch_tokens: int = setting(4096, "Padded tokens of one forward pass.", flag=None, least=1)
    memory: int = setting(
        4 * 2**30, "Bytes that the states of the reductions may take.", flag=None, least=1
    )
    seed: int = setting(0, "Seed of the sampled examples.", least=0)
    k: int = setting(4, "Most active features of a token that co-activation counts.", least=1)
    min_count: int = setting(
        1, "Tokens among whose most active features a pair must be, to be a co-activation edge.",
        least=1,
    )  # fmt: skip
    workers: int = setting(
        0, "Processes that share the shards, on Ray; each holds the model and its SAEs. Results do not "
        "depend on it, but for float32 rounding where workers run fewer threads.",
        least=0, metavar="N", shown="none; with --ray, all the cluster has",
    )  # fmt: skip
    ray: str | None = setting(
        None, "Ray cluster that provides the workers: auto, HOST:PORT or ray://HOST:PORT.",
        metavar="ADDRESS", shown="one on this machine, if --workers is used",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)
