"""The forecast of an ingest compared with the time that it takes, by kind of work.

One SAE is dense: it has random weights and a ReLU, so that about half of its features are
active. The others are sparse (TopK). Both are measured in processor time, so that other
work on the machine does not matter; use one thread, because the model's threads wait for
each other.

    OMP_NUM_THREADS=1 python -m benchmarks.forecast
    OMP_NUM_THREADS=1 python -m benchmarks.forecast --model FOLDER --hook blocks.2.hook_resid_post --text FILE
"""

import argparse
import json
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest import mock

import sae_lens
import torch
from sae_lens.saes.sae import SAEMetadata

from ingest import Settings, ingest
from ingest.forward.estimate import estimate
from ingest.forward.forecast import Forecast
from ingest.model.language_model import LanguageModel, open_model


def saes(model: LanguageModel, hook: str, d_sae: int, sparse: int) -> dict[str, Any]:
    """Return one dense SAE and some sparse ones, with random weights."""
    metadata = SAEMetadata(model_name="model", hook_name=hook, context_size=128, prepend_bos=True)
    sizes: dict[str, Any] = {"d_in": model.site(hook).width, "d_sae": d_sae, "metadata": metadata}
    torch.manual_seed(0)
    found: dict[str, Any] = {
        "dense": sae_lens.StandardSAE(sae_lens.StandardSAEConfig(**sizes)),
        **{
            f"sparse{i}": sae_lens.TopKSAE(sae_lens.TopKSAEConfig(**sizes, k=16 << i))
            for i in range(sparse)
        },
    }
    return found


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Ingest and return forecast and actual seconds of each kind of work."""
    model = open_model(args.model, hooks=[args.hook], device="cpu")
    found: dict[str, Any] = {}
    clock = time.process_time

    def estimated(*arguments: Any, **named: Any) -> Forecast:
        began = clock()
        forecast = estimate(*arguments, clock=clock, **named)
        found["seconds of the estimate"] = clock() - began
        return forecast

    paced = Forecast.pace

    def pace(self: Forecast, **named: Any) -> Any:
        found["pace"] = paced(self, **{**named, "clock": clock})
        return found["pace"]

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch("ingest.forward.run.estimate", estimated),
        mock.patch.object(Forecast, "pace", pace),
    ):
        atlas = ingest(
            Path(folder) / "a.atlas",
            saes=[
                f"{name}={_saved(sae, Path(folder) / name)}"
                for name, sae in saes(model, args.hook, args.d_sae, args.sparse).items()
            ],
            text=args.text,
            model=model,
            match=None,
            settings=Settings(tokens=args.tokens, keep_codes=not args.drop_codes),
        )
        rows = {r["name"]: r["l0"] for r in atlas.table("SAE").to_pylist()}
    measured = found.pop("pace")
    kinds = {
        kind: {"forecast": seconds, "actual": measured._spent[kind]}
        for kind, seconds in measured._forecast.items()
    }
    total = {at: sum(k[at] for k in kinds.values()) for at in ("forecast", "actual")}
    return found | {"l0": rows, "kinds": kinds, "total": total}


def _saved(sae: Any, folder: Path) -> Path:
    sae.save_model(folder)
    return folder


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny-a")
    parser.add_argument("--hook", default="blocks.1.hook_resid_post")
    parser.add_argument("--text", default=str(files("ingest.demo") / "text.jsonl"))
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--d-sae", type=int, default=768)
    parser.add_argument("--sparse", type=int, default=2)
    parser.add_argument("--drop-codes", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measure(args)
    if args.json:
        print(json.dumps(found))
        return
    print("L0:", ", ".join(f"{name} {l0:.0f}" for name, l0 in found["l0"].items()))
    for kind, each in {**found["kinds"], "total": found["total"]}.items():
        ratio = each["forecast"] / each["actual"] if each["actual"] else float("nan")
        print(
            f"{kind}: {each['forecast']:.1f} s forecast, {each['actual']:.1f} s, ratio {ratio:.2f}"
        )


if __name__ == "__main__":
    main()
