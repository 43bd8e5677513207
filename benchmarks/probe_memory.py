"""What probing takes in addition to the codes, at the width of a large SAE.

Random codes of 16,384 features on Zipf-like tokens are written as an ingest writes them;
then a block or two of features is probed from vectors of 30,000 token ids. Memory does
not grow with the number of blocks, so a part of the features and few steps of the solver
tell it.

    python -m benchmarks.probe_memory
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from atlas.progress import SILENT
from ingest.codes.store import Block, Tokens, write_shard
from ingest.probe.probe_data import ProbeData
from ingest.probe.schedule import probe_all
from ingest.probe.settings import ProbeSettings
from ingest.probe.site_design import SiteDesign
from ingest.probe.solver.design import Design

DOCUMENT = 1000
BLOCK = 16_000


def write_codes(
    folder: Path, rng: np.random.Generator, *, tokens: int, d_sae: int, l0: int, ids: int
) -> list[Path]:
    """Write random codes: each token has as many features active, drawn with a Zipf-like rate."""
    rate = np.cumsum(1 / np.arange(1, ids + 1) ** 0.8)
    for number, first in enumerate(range(0, tokens, BLOCK)):
        n = min(BLOCK, tokens - first)
        position = np.arange(first, first + n)
        index = (position % DOCUMENT).astype(np.int32)
        words = Tokens(
            token_id=np.searchsorted(rate / rate[-1], rng.random(n)).astype(np.int32),
            document=position // DOCUMENT,
            index=index,
            position=index % 128 + 1,
            start=index,
            end=index + 1,
        )
        features = np.sort(rng.integers(0, d_sae, (n, l0)), axis=1)
        fresh = np.ones((n, l0), dtype=bool)
        fresh[:, 1:] = features[:, 1:] != features[:, :-1]
        indptr = np.concatenate([[0], np.cumsum(fresh.sum(1))]).astype(np.int64)
        indices = features[fresh].astype(np.uint32)
        values = rng.lognormal(size=len(indices)).astype(np.float32)
        block = Block(number, words, indptr, indices, values, d_sae)
        path = folder / f"shard-{number:05d}.arrow"
        write_shard(path, [block], sae="random", d_sae=d_sae, first=number)
    return sorted(folder.glob("*.arrow"))


def peak() -> float:
    """Return the most memory this process has held, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=500_000)
    parser.add_argument("--d-sae", type=int, default=16_384)
    parser.add_argument("--l0", type=int, default=70)
    parser.add_argument("--ids", type=int, default=30_000)
    parser.add_argument("--d-model", type=int, default=2304)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--memory", type=float, default=2.0, help="GiB, as of `atlas probe`.")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        shards = write_codes(
            Path(folder), rng, tokens=args.tokens, d_sae=args.d_sae, l0=args.l0, ids=args.ids
        )
        size = sum(path.stat().st_size for path in shards) / 2**30
        before = peak()
        data = ProbeData([shards], d_sae=args.d_sae)
        x = rng.standard_normal((len(data.ids), args.d_model), dtype=np.float32)
        site = SiteDesign(
            "hook_embed",
            Design(x, scale=1.01),
            data.type,
            np.arange(len(data.ids)),
            at_embedding=True,
        )
        del x
        began = time.perf_counter()
        settings = ProbeSettings(features=args.features, controls=1, iterations=3)
        probe_all(
            data,
            [site],
            sae="random",
            model="m",
            settings=settings,
            validated_on=None,
            memory=int(args.memory * 2**30),
            progress=SILENT,
        )
        seconds = time.perf_counter() - began
    print(f"{'codes on disk, GiB':34} {size:.2f}")
    print(f"{'peak before, imports included, GiB':34} {before:.2f}")
    print(f"{'peak, GiB':34} {peak():.2f}")
    print(f"{'seconds, for 2 splits':34} {seconds:.0f}")


if __name__ == "__main__":
    main()
