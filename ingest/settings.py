"""Settings of an ingest, recorded in the parts that it writes."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from atlas.studies.floors import Role
from atlas.studies.settings import check_settings, documented, setting

__all__ = ["Dtype", "Settings"]

Dtype: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]


@documented
@dataclass(frozen=True)
class Settings:
    """Settings of an ingest."""

    tokens: int | None = setting(
        None,
        "Number of tokens of a new text. The document that reaches it is the last; it is cut if "
        "it exceeds the number by more than a tenth.",
        flag=None,
        least=1,
        metavar="N",
        shown="all",
    )
    context: int | None = setting(
        None, "Tokens of a context, BOS included.", least=2, metavar="N", shown="the SAE's"
    )
    device: str = setting("auto", "Device of the model: auto, cpu, cuda, cuda:1 or mps.")
    dtype: Dtype = setting(
        "auto",
        "Number format of the model; auto is float32 for a model that is loaded, and its own "
        "format for a model in memory. SAEs always run in float32.",
    )
    keep_codes: bool = setting(
        True,
        "Store the sparse activations, so that matches, probes and new measures need no model.",
    )
    shard_blocks: int = setting(
        8,
        "Blocks of a shard, the unit of a file and of a retry; results do not depend on it.",
        flag=None,
        least=1,
    )
    batch_tokens: int = setting(4096, "Padded tokens of one forward pass.", flag=None, least=1)
    memory: int = setting(
        4 * 2**30, "Bytes of memory for the states of the reductions.", flag=None, least=1
    )
    seed: int = setting(0, "Seed of the sampled examples.", least=0)
    k: int = setting(4, "Most active features of a token that co-activation counts.", least=1)
    min_count: int = setting(
        1,
        "Number of tokens that must have both features among their most active ones, for a "
        "co-activation edge.",
        least=1,
    )
    role: Role | None = setting(
        None,
        "Role of the SAEs: trained, or a floor whose decoder, encoder or both were never trained.",
        shown="the one in their training.json",
    )
    floor_of: str | None = setting(
        None,
        "Name of the trained SAE of which the SAEs are floors.",
        metavar="SAE",
        shown="the one in their training.json",
    )
    workers: int = setting(
        0,
        "Number of Ray processes that share the shards; each loads the model and its SAEs. Results "
        "do not depend on it, except for float32 rounding if workers run fewer threads.",
        least=0,
        metavar="N",
        shown="none; with --ray, all the cluster has",
    )
    ray: str | None = setting(
        None,
        "Ray cluster that provides the workers: auto, HOST:PORT or ray://HOST:PORT.",
        metavar="ADDRESS",
        shown="one on this machine, if --workers is used",
    )

    def __post_init__(self) -> None:
        check_settings(self)
