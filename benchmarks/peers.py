"""An ingest compared with other tools on the same model, SAE and text: complete processes, interleaved.

The tools are a plain loop of torch, the cache of EleutherAI's delphi and SAEDashboard. What they
write differs: see ``benchmarks/peer_tools.py``. The ingest also stores positions, statistics,
examples, FVU, token counts and co-activation edges. The SAE is a TopK SAE of random directions.

delphi and SAEDashboard are no dependencies. They need an environment of their own, whose Python
is passed with ``--python``; docs/benchmarks.md has the commands that make it. Tools that are not
installed there are named and skipped.

    python -m benchmarks.peers --model FOLDER --text FILE
    python -m benchmarks.peers --model FOLDER --text FILE --python ENV/bin/python --tools atlas delphi
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from atlas.cli.output.tables import print_table

TOOLS = ("atlas", "plain", "delphi", "dashboard")
CONTEXT, LAYER, K = 256, 3, 32
MISSING = 3

PEERS = Path(__file__).with_name("peer_tools.py")


def prepare(args: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Write the SAE, the text of the ingest and its tokens for the others; return the paths."""
    import sae_lens
    import torch
    from sae_lens.saes.sae import SAEMetadata

    from ingest.model.language_model import open_model
    from ingest.text.readers import read

    hook = f"blocks.{LAYER}.hook_resid_post"
    model = open_model(args.model, hooks=[hook], device="cpu")
    metadata = SAEMetadata(
        model_name=args.model, hook_name=hook, context_size=CONTEXT, prepend_bos=False
    )
    width = model.site(hook).width
    torch.manual_seed(0)
    config = sae_lens.TopKSAEConfig(d_in=width, d_sae=args.d_sae, k=K, metadata=metadata)
    sae = sae_lens.TopKSAE(config)
    with torch.no_grad():
        sae.W_dec.copy_(torch.nn.functional.normalize(torch.randn(args.d_sae, width), dim=1))
        sae.W_enc.copy_(sae.W_dec.T)
    sae.save_model(folder / "sae")
    # Documents of one context each, so that no tool pads or cuts.
    ids: list[int] = []
    for text in read(args.text).documents:
        ids += model.tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) >= args.tokens:
            break
    contexts = np.array(ids[: len(ids) // CONTEXT * CONTEXT]).reshape(-1, CONTEXT)
    np.save(folder / "tokens.npy", contexts)
    texts = [{"text": model.tokenizer.decode(row)} for row in contexts]
    (folder / "text.jsonl").write_text("\n".join(map(json.dumps, texts)), "utf-8")
    return {name: str(folder / name) for name in ("sae", "tokens.npy", "text.jsonl")}


def command(tool: str, args: argparse.Namespace, paths: dict[str, str], out: Path) -> list[str]:
    """Return the command line of a tool."""
    if tool == "atlas":
        words = ["ingest", "--sae", f"random={paths['sae']}", "--model", args.model]
        words += ["--text", paths["text.jsonl"], "--atlas", str(out / "a.atlas"), "--device", "cpu"]
        return [sys.executable, "-c", "from atlas.cli.main import main; main()", *words, "--quiet"]
    inputs = [args.model, paths["sae"], paths["tokens.npy"], str(LAYER), str(out)]
    return [args.python if tool != "plain" else sys.executable, str(PEERS), tool, *inputs]


def timed(words: list[str]) -> tuple[dict[str, float], int, str]:
    """Run a process; return its seconds, processor seconds and memory, its exit code and last line."""
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - began
        output.seek(0)
        lines = output.read().strip().splitlines()
    seconds = {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "GiB": used.ru_maxrss / 2**20}
    return seconds, process.returncode, lines[-1] if lines else ""


def summary(runs: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """Return the medians of each tool, and their ratios to the ingest."""
    medians = {
        tool: {key: float(np.median([run[key] for run in each])) for key in each[0]}
        for tool, each in runs.items()
        if each
    }
    base = medians.get("atlas")
    rows = []
    for tool, of in medians.items():
        row: dict[str, Any] = {"tool": tool, "runs": len(runs[tool])}
        row |= {key: round(value, 2) for key, value in of.items()}
        if base:
            row |= {f"{key} / atlas": round(of[key] / base[key], 2) for key in ("wall", "cpu")}
        rows.append(row)
    return rows


def main() -> None:
    """Run the tools in turn, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", required=True, help="Folder of a Llama model of transformers.")
    parser.add_argument("--text", required=True, help="A file of documents.")
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--d-sae", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=["atlas", "plain", "delphi"])
    parser.add_argument("--python", default=sys.executable, help="Python with the peers.")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.model = str(Path(args.model).resolve())
    runs: dict[str, list[dict[str, float]]] = {tool: [] for tool in args.tools}
    with tempfile.TemporaryDirectory() as folder:
        paths = prepare(args, Path(folder))
        for _ in range(args.repeats):
            for tool in list(runs):
                with tempfile.TemporaryDirectory(dir=folder) as out:
                    seconds, code, last = timed(command(tool, args, paths, Path(out)))
                if code == MISSING:
                    print(f"{tool} is skipped: {last}. Install it for {args.python}.")
                    del runs[tool]
                elif code:
                    raise SystemExit(f"{tool} failed: {last}")
                else:
                    runs[tool].append(seconds)
    rows = summary(runs)
    if args.json:
        print(json.dumps(rows))
    else:
        print_table(rows)


if __name__ == "__main__":
    main()
