"""How often the interval of a residual study covers 0 where there is no difference.

The studies are tiny and their activations synthetic; fit, training, encoding, probes and
difference are those of the program (``tests/support/tiny_study.py``). Ids are permuted among tokens,
so no input of an arm can be predicted from the embedding, and no two arms differ. In the form
``embedding``, the map is from the embedding and finds nothing to remove. In the form
``elsewhere``, it is from another site and removes a real share. The form ``predictable`` is no
null: ids are not permuted, and the residual is harder to predict.

    OMP_NUM_THREADS=1 python -m benchmarks.truth7 --runs 200
    OMP_NUM_THREADS=1 python -m benchmarks.truth7 --runs 20 --form predictable
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest

FORMS: dict[str, dict[str, bool]] = {
    "embedding": {"permuted": True, "elsewhere": False},
    "elsewhere": {"permuted": True, "elsewhere": True},
    "predictable": {"permuted": False, "elsewhere": False},
}
ARMS = ("residual", "components", "token-means")


def one(seed: int, form: str, seeds: int) -> Any:
    """Return what a tiny study found."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
    from tiny_study import tiny_run

    with tempfile.TemporaryDirectory() as folder:
        return tiny_run(seed, Path(folder), seeds=seeds, arms=ARMS, **FORMS[form])


def share(of: list[bool]) -> str:
    """Tell a share with its exact binomial interval."""
    found = binomtest(sum(of), len(of))
    low, high = found.proportion_ci(0.95)
    return f"{sum(of)} of {len(of)} = {found.statistic:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Run the studies of the forms that are named, and tell how often intervals cover 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument(
        "--form", choices=FORMS, action="append", help="both forms of the null if none is named"
    )
    parser.add_argument("--seeds", type=int, default=4, help="training seeds of a study")
    parser.add_argument("--first", type=int, default=0, help="seed of the first study")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for form in args.form or ["embedding", "elsewhere"]:
        began = time.process_time()
        runs = [one(args.first + i, form, args.seeds) for i in range(args.runs)]
        spent = (time.process_time() - began) / args.runs
        taken = [run.taken for run in runs]
        ends = f"from {min(taken):.3f} to {max(taken):.3f}"
        print(f"{form}: variance taken {np.mean(taken):.3f} ({ends}), {spent:.1f} s each")
        for other in ARMS[1:]:
            found = [run.differences[other] for run in runs]
            means = np.array([d.mean for d in found])
            error = means.std(ddof=1) / np.sqrt(len(means))
            print(f"  residual - {other}: mean {means.mean():+.4f} ± {error:.4f} (standard error)")
            print(f"    interval covers 0: {share([d.low <= 0 <= d.high for d in found])}")
            print(
                f"    below 0 / above 0: {sum(d.high < 0 for d in found)} / {sum(d.low > 0 for d in found)}"
            )
            width = np.mean([d.high - d.low for d in found]) / 2
            print(
                f"    half width {width:.4f}; spread of the means {means.std(ddof=1):.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
