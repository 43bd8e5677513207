"""Time of the first and of later calls of ``analysis.fire`` on an atlas.

    OMP_NUM_THREADS=1 python -m benchmarks.fire demo.atlas

The first call loads libraries. All calls open the models and SAEs again.
"""

import argparse
import time
from pathlib import Path

import analysis
from atlas import Atlas
from atlas.cli.output.tables import print_table

TEXT = "Once upon a time there was a little dragon. She said hello to her mom, and they played."


def main() -> None:
    """Measure and print seconds of processor time and by the clock."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("atlas", type=Path)
    parser.add_argument("--calls", type=int, default=6)
    args = parser.parse_args()
    rows = []
    with Atlas.open(args.atlas) as atlas:
        for call in range(args.calls):
            began = time.process_time(), time.perf_counter()
            found = analysis.fire(atlas, TEXT, analysis.FireSettings(device="cpu"))
            rows.append(
                {
                    "call": call + 1,
                    "saes": len(found.tokens),
                    "tokens": max(map(len, found.tokens.values())),
                    "processor_seconds": time.process_time() - began[0],
                    "seconds": time.perf_counter() - began[1],
                }
            )
    print_table(rows)


if __name__ == "__main__":
    main()
