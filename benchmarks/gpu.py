"""What the GPU path returns and costs, in one command of at most ten minutes on a large card.

Each step has a pass criterion and a time. A step that fails does not end the run. Correctness is
compared with the CPU of the same machine or with float64; speed with the bare run of the model
and the encoder. Weights are random, of the real shape. The last lines are a table for
docs/benchmarks.md.

    python -m benchmarks.gpu                        # at Gemma-2-2B's shape, on cuda
    python -m benchmarks.gpu --device cpu --toy     # the same steps in a minute, to test the script
    python -m benchmarks.gpu --only demo,probes --json out.json
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import sae_lens
import torch
from sae_lens.saes.sae import SAEMetadata

from analysis.transcoder.settings import TranscoderSettings
from analysis.transcoder.study import map_sites
from atlas.disk.folder import Folder
from atlas.errors import OutOfSpace
from benchmarks.full_ingest import (
    SHAPES,
    Shape,
    complete_ingest,
    random_model,
    random_sae,
    random_text,
)
from ingest import ProbeSettings, Settings, ingest
from ingest.codes.store import read_shard
from ingest.demo.build import demo_text
from ingest.error_translation import memory_errors
from ingest.model.language_model import LanguageModel
from ingest.precision import arithmetic, ieee_float32
from ingest.probe.solver.design import Design
from ingest.probe.solver.solve import solve
from ingest.sae.autoencoder import Autoencoder, open_sae
from ingest.text.corpus import Document
from ingest.text.tokenization import Batch, ContextSettings, tokenize
from ingest.train.trainer import new_trainer, take_steps

#: Seconds after which no further step is started.
BUDGET = 600.0

#: Tokens of the corpus to which times are projected, and its distinct token ids.
CORPUS = 2_551_843


@dataclass(frozen=True)
class Size:
    """Sizes of the steps."""

    shape: Shape
    layers: int
    demo_tokens: int
    rows: int
    labels: int
    batch_tokens: int


FULL = Size(replace(SHAPES["gemma-2-2b"], tokens=131_072), 21, 50_000, 200_000, 512, 16_384)
TOY = Size(
    Shape(
        {
            "model_type": "llama",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "num_hidden_layers": 2,
        },
        "blocks.1.hook_resid_post",
        64,
        6,
        4_000,
        64,
    ),
    2,
    3_000,
    1_500,
    8,
    512,
)


@dataclass(frozen=True)
class Found:
    """The result of a step: whether it passed, its criterion, and what was measured."""

    step: str
    passed: bool | None
    criterion: str
    measured: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Steps:
    """The steps, in order.

    Parameters
    ----------
    device
        The device that is tested.
    size
        Sizes of the steps.
    folder
        A folder for atlases.
    models
        Models that steps share, by number format.
    """

    device: str
    size: Size
    folder: Path
    models: dict[str, LanguageModel] = field(default_factory=dict)

    def versions(self) -> Found:
        """Report versions and flags; float32 products must be IEEE whatever the environment sets."""
        with ieee_float32():
            inside = torch.get_float32_matmul_precision()
        names = ("torch", "transformers", "sae-lens", "numpy")
        facts = {name: version(name) for name in names} | arithmetic(torch.device(self.device))
        facts["outside"] = torch.get_float32_matmul_precision()
        text = ", ".join(f"{k} {v}" for k, v in facts.items())
        return Found("versions", inside == "highest", "float32 products IEEE inside", text)

    def demo(self) -> Found:
        """Compare the codes and the FVU of the demo with those of the CPU, and two runs."""
        found = [
            self._demo(name, device)
            for name, device in (("cpu", "cpu"), ("a", self.device), ("b", self.device))
        ]
        (cpu, cpu_fvu), (first, fvu), (second, _) = found
        differ = len(cpu.keys() ^ first.keys()) / max(1, len(cpu))
        values = max((abs(v - first[k]) for k, v in cpu.items() if k in first), default=0.0)
        equal = first == second
        passed = differ <= 1e-5 and abs(fvu - cpu_fvu) <= 1e-6 and equal
        return Found(
            "demo",
            passed,
            "codes ≤ 1e-5, FVU ≤ 1e-6, two runs equal",
            f"{differ:.1e} of {len(cpu):,} codes, values {values:.1e}, FVU {abs(fvu - cpu_fvu):.1e}, "
            f"runs {'equal' if equal else 'differ'}",
        )

    def _demo(self, name: str, device: str) -> tuple[dict[tuple[int, int, int], float], float]:
        """Return the codes of a demo SAE by block, token and feature, and its FVU."""
        path, sae = self.folder / f"demo-{name}.atlas", "tiny-a-l1-s0"
        settings = Settings(device=device, tokens=self.size.demo_tokens)
        ingest(path, saes=[sae], text=demo_text(), settings=settings, match=None).close()
        folder = Folder.open(path)
        codes = {}
        for shard in sorted(folder.codes(sae).glob("*.arrow")):
            for block in read_shard(shard):
                keys = zip(block.rows.tolist(), block.indices.tolist(), strict=True)
                values = block.values.tolist()
                codes.update({(block.number, *key): v for key, v in zip(keys, values, strict=True)})
        return codes, folder.sound().parts[f"fidelity/{sae}"].table("SAE")["fvu"][0].as_py()

    def probes(self) -> Found:
        """Fit logistic probes in float32, compare some with float64 on the CPU, and project the time."""
        rows, labels, width = self.size.rows, self.size.labels, self._width
        rng = np.random.default_rng(0)
        x = rng.standard_normal((rows, width), dtype=np.float32)
        x *= np.exp(rng.uniform(-2, 0, width)).astype(np.float32)
        planted = rng.standard_normal((width, labels), dtype=np.float32) / width**0.5
        y = (x @ planted + rng.standard_normal((rows, labels), dtype=np.float32) > 1.5).astype(
            np.float32
        )
        design = Design(x, device=self.device)
        weight, target = torch.ones(rows, 1) / rows, torch.from_numpy(y) / rows
        began = time.perf_counter()
        tolerance = ProbeSettings().gradient_tolerance(1e-3)
        found = solve(design, weight, target, penalty=1e-3, tolerance=tolerance)
        converged = float(found.converged.double().mean())  # waits for the device
        seconds = time.perf_counter() - began
        some = min(4, labels)
        exact = solve(
            Design(x, dtype=torch.float64),
            torch.ones(rows, 1, dtype=torch.float64) / rows,
            torch.from_numpy(y[:, :some]).double() / rows,
            penalty=1e-3,
            tolerance=1e-8,
        )
        error = float((found.coef[:some].cpu().double() - exact.coef).abs().max())
        projected = seconds * (CORPUS / rows) * (16_384 / labels)
        return Found(
            "probes",
            converged >= 0.999 and error <= 0.005,
            "converged ≥ .999, coefficients ≤ .005",
            f"converged {converged:.4f}, coefficients {error:.1e}, {seconds:.1f} s for {rows:,} × {width:,}, "
            f"{labels} labels; projected, linear in both: {projected / 60:.0f} min for 16,384 labels and "
            f"{CORPUS:,} rows of a site (at the embedding, rows are distinct ids)",
        )

    @property
    def _width(self) -> int:
        return int(self.size.shape.config["hidden_size"])

    def maps(self) -> Found:
        """Compare the R² of a map on the demo with that of the CPU."""
        path, target = self.folder / "demo-cpu.atlas", "blocks.1.hook_resid_post"
        if not path.exists():
            self._demo("cpu", "cpu")
        settings = TranscoderSettings(penalties=(1e-3,), draws=0)
        found = [
            map_sites(path, targets=[target], settings=settings, device=device, replace=True)[0][
                "r2"
            ]
            for device in ("cpu", self.device)
        ]
        differ = abs(found[0] - found[1])
        return Found(
            "maps", differ <= 1e-6, "R² ≤ 1e-6", f"R² {found[1]:.6f}, differs by {differ:.1e}"
        )

    def training(self) -> Found:
        """Take training steps of each architecture; the losses must be finite."""
        losses, began = [], time.perf_counter()
        batch = min(4096, self.size.rows)
        x = torch.randn(batch, self._width, device=self.device)
        architectures = ("topk", "jumprelu", "gated", "batchtopk")
        for architecture in architectures:
            sae = training_sae(architecture, self._width, self.size.shape.d_sae)
            trainer = new_trainer(sae.to(self.device), steps=3, batch=batch, learning_rate=3e-4)
            take_steps(trainer, [x] * 3, after=lambda step: losses.append(float(step.mse)))
        finite = bool(np.isfinite(losses).all())
        each = (time.perf_counter() - began) / len(losses)
        return Found(
            "training",
            finite and len(losses) == 3 * len(architectures),
            "all losses finite",
            f"{len(losses)} steps of {batch:,} tokens, {1e3 * each:.0f} ms each with the warm-up",
        )

    def memory(self) -> Found:
        """Encode a batch that cannot fit, and a small one while the error is handled."""
        sae = self._sae()
        x = torch.randn(4, sae.info.d_in, device=self.device)
        huge = x[:1].expand(2**44 // sae.info.d_in, -1)
        reported = works = False
        try:
            sae.encode(huge)
        except OutOfSpace as error:
            reported = "Memory does not suffice" in str(error)
            works = bool(sae.encode(x).isfinite().all())
        return Found(
            "memory",
            reported and works,
            "reported as memory, next batch works",
            f"reported {reported}, next {works}",
        )

    def device_assert(self) -> Found:
        """Index out of range in a child process; it must not be reported as memory."""
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            kind = pool.apply(index_out_of_range, (self.device,))
        expected = kind not in ("OutOfSpace", "no error")
        return Found("device assert", expected, "not reported as memory", kind)

    def ray(self) -> Found:
        """Ingest on one Ray worker; the codes must equal those of this process."""
        if find_spec("ray") is None:
            return Found("ray", None, "codes equal, driver holds < 64 MiB", "Ray is not installed")
        texts = random_text(replace(self.size.shape, tokens=min(self.size.shape.tokens, 8_192)))
        found = []
        for name, workers in (("serial", 0), ("worker", 1)):
            model = self._model("float32")
            path = self.folder / f"{name}.atlas"
            settings = Settings(workers=workers, batch_tokens=self.size.batch_tokens)
            sae = self._sae()
            ingest(path, saes=[sae], text=texts, model=model, settings=settings).close()
            shards = sorted(Folder.open(path).codes(sae.info.name).glob("*.arrow"))
            found.append([shard.read_bytes() for shard in shards])
        equal = found[0] == found[1]
        return Found("ray", equal, "codes equal", f"codes {'equal' if equal else 'differ'}")

    def ingest_float32(self) -> Found:
        """Time a complete ingest in float32."""
        return self._ingest("float32")

    def ingest_bfloat16(self) -> Found:
        """Time a complete ingest with the model in bfloat16."""
        return self._ingest("bfloat16")

    def _ingest(self, dtype: str) -> Found:
        model = self._model(dtype)
        texts = random_text(self._shape)
        sae = random_sae(self._shape, model, self._batches(model, texts))
        complete_ingest(
            model, sae, texts[:8], self.size.batch_tokens
        )  # loads kernels, compiles loops
        seconds, bare, _, l0 = complete_ingest(model, sae, texts, self.size.batch_tokens)
        tokens = self._shape.tokens
        ratio, each = seconds[0] / bare[0], seconds[0] / tokens
        return Found(
            f"ingest {dtype}",
            ratio <= 1.15 if self.size is FULL else None,
            "ingest ÷ bare ≤ 1.15",
            f"{ratio:.2f}, {1 / each:,.0f} tokens/s (bare {tokens / bare[0]:,.0f}), L0 {l0:.0f}; projected: "
            f"{each * CORPUS / 60:.1f} min for {CORPUS:,} tokens",
        )

    def profile(self) -> Found:
        """Profile three batches through the model and the SAE."""
        from torch.profiler import ProfilerActivity, profile

        model = self._model("bfloat16")
        texts = random_text(self._shape)
        batches = self._batches(model, texts)[:3]
        sae = self._sae()
        kinds = [ProfilerActivity.CPU]
        if self.device.startswith("cuda"):
            kinds.append(ProfilerActivity.CUDA)
        for _ in range(2):  # the first pass loads kernels
            with profile(activities=kinds) as recorded:
                for batch in batches:
                    ids, mask, keep = map(
                        torch.from_numpy, (batch.input_ids, batch.attention_mask, batch.keep)
                    )
                    read = model.run(ids, mask, hooks=[self._shape.hook])
                    sae.codes_and_reconstruction(sae.reads(read, keep, ids))
        field = "self_device_time_total" if len(kinds) > 1 else "self_cpu_time_total"
        rows = sorted(recorded.key_averages(), key=lambda e: -getattr(e, field, 0.0))[:6]
        text = ", ".join(f"{e.key} {getattr(e, field, 0.0) / 1e3:.1f} ms" for e in rows)
        return Found("profile", None, "none: where the time goes", text)

    @property
    def _shape(self) -> Shape:
        """The shape with the number of layers of the benchmark."""
        layers = self.size.layers
        return replace(
            self.size.shape,
            config=self.size.shape.config | {"num_hidden_layers": layers},
            hook=f"blocks.{layers - 1}.hook_resid_post",
        )

    def _model(self, dtype: str) -> LanguageModel:
        """Return the model of the shape; drawing its weights takes longer than most steps."""
        if dtype not in self.models:
            self.models[dtype] = random_model(self._shape, dtype, device=self.device)
        return self.models[dtype]

    def _sae(self) -> Autoencoder:
        """Return a JumpReLU SAE with random weights, at the site of the shape."""
        metadata = SAEMetadata(
            model_name="random",
            hook_name=self._shape.hook,
            context_size=self._shape.context,
            prepend_bos=True,
        )
        config = sae_lens.JumpReLUSAEConfig(
            d_in=self._width, d_sae=self.size.shape.d_sae, metadata=metadata
        )
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            sae = sae_lens.JumpReLUSAE(config)
            sae.threshold.fill_(2.0)
        return open_sae(sae.eval(), name="random", device=self.device)

    def _batches(self, model: LanguageModel, texts: list[str]) -> list[Batch]:
        contexts = ContextSettings(context_size=self._shape.context, prepend_bos=True)
        documents = [Document(i, text) for i, text in enumerate(texts)]
        return list(
            tokenize(
                documents, model.tokenizer, settings=contexts, batch_tokens=self.size.batch_tokens
            ).batches
        )


#: The steps by name, in the order of a run.
STEPS: dict[str, Callable[[Steps], Found]] = {
    "versions": Steps.versions,
    "demo": Steps.demo,
    "probes": Steps.probes,
    "maps": Steps.maps,
    "training": Steps.training,
    "memory": Steps.memory,
    "assert": Steps.device_assert,
    "ingest-bfloat16": Steps.ingest_bfloat16,
    "ingest-float32": Steps.ingest_float32,
    "profile": Steps.profile,
    "ray": Steps.ray,
}


def training_sae(architecture: str, d_in: int, d_sae: int) -> torch.nn.Module:
    """Return an SAE of sae-lens to train."""
    kind, more = {
        "topk": ("TopK", {"k": 8}),
        "batchtopk": ("BatchTopK", {"k": 8}),
        "jumprelu": ("JumpReLU", {}),
        "gated": ("Gated", {}),
    }[architecture]
    config = getattr(sae_lens, f"{kind}TrainingSAEConfig")(
        d_in=d_in, d_sae=d_sae, normalize_activations="none", **more
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return getattr(sae_lens, f"{kind}TrainingSAE")(config)


def index_out_of_range(device: str) -> str:
    """Return the class of the error of an index that is out of range; run in a child process."""
    try:
        with memory_errors("a batch"):
            index = torch.tensor([5], device=device)
            torch.zeros(2, device=device)[index].cpu()
    except Exception as error:  # noqa: BLE001 - the class is the result
        return type(error).__name__
    return "no error"


def run(device: str, size: Size, names: list[str]) -> list[Found]:
    """Run steps; an error in one is its result, and none is started after ``BUDGET`` seconds."""
    found, began = [], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        steps = Steps(device, size, Path(folder))
        for name in names:
            start = time.perf_counter()
            if start - began > BUDGET:
                one = Found(name, None, "", "not run: the time is over")
            else:
                try:
                    one = STEPS[name](steps)
                except Exception as error:  # noqa: BLE001 - the next steps still run
                    reason = (str(error) or "no message").splitlines()[0]
                    one = Found(name, False, "no error", f"{type(error).__name__}: {reason}")
            one = replace(one, step=name, seconds=time.perf_counter() - start)
            print(line(one), flush=True)
            found.append(one)
            if device.startswith("cuda"):
                torch.cuda.empty_cache()
    return found


def line(one: Found) -> str:
    """Return a row of the table."""
    verdict = {True: "pass", False: "**fail**", None: "–"}[one.passed]
    return f"| {one.step} | {verdict} | {one.criterion} | {one.measured} | {one.seconds:.0f} s |"


def main() -> int:
    """Run the steps and print their table; return 1 if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="Tiny sizes, to test the script.")
    parser.add_argument("--only", help="Steps, separated by commas.")
    parser.add_argument("--skip", default="", help="Steps to omit, separated by commas.")
    parser.add_argument("--json", type=Path, help="Also write the results to this file.")
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("torch finds no GPU. Use --device cpu --toy to test the script.")
    names = args.only.split(",") if args.only else list(STEPS)
    names = [name for name in names if name not in args.skip.split(",")]
    if unknown := set(names) - STEPS.keys():
        parser.error(f"No step {', '.join(sorted(unknown))}; the steps are {', '.join(STEPS)}.")
    print("| step | result | criterion | measured | time |\n|---|---|---|---|---|")
    found = run(args.device, TOY if args.toy else FULL, names)
    if args.json:
        args.json.write_text(json.dumps([asdict(one) for one in found], indent=1))
    return int(any(one.passed is False for one in found))


if __name__ == "__main__":
    raise SystemExit(main())
