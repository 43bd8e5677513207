"""The steps of ``benchmarks.gpu``: what is compared or timed, and when a step passes."""

import gc
import multiprocessing
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
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
from benchmarks.full_ingest import SHAPES, Shape, random_model, random_sae, random_text
from benchmarks.gpu_inputs import ReservedBytes, index_out_of_range, training_sae
from benchmarks.gpu_projection import (
    CORPUS,
    FEATURES,
    FITS,
    GOAL,
    IDS,
    Line,
    ProbeTimes,
    measure_ingest,
    probe_ids,
)
from ingest import ProbeSettings, Settings, ingest
from ingest.codes.store import read_shard
from ingest.demo.build import demo_text
from ingest.model.language_model import LanguageModel, open_model
from ingest.precision import arithmetic, ieee_float32
from ingest.probe.solver.design import Design
from ingest.probe.solver.solve import solve
from ingest.sae.autoencoder import Autoencoder, open_sae
from ingest.text.corpus import Document
from ingest.text.tokenization import Batch, ContextSettings, tokenize
from ingest.train.trainer import new_trainer, take_steps

__all__ = ["FULL", "STEPS", "TOY", "Found", "Size", "Steps"]

#: What was measured if times of two sizes contradict each other.
UNSOUND = "more text was not slower: repeat without other work on the machine"

#: Bytes of a GPU that the driver of workers may reserve: cuBLAS retains 32 MiB or more on an H200.
#: The weights of the model take gigabytes.
DRIVER_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Size:
    """Sizes of the steps: ``rows`` and ``labels`` of probes, ``ids`` and ``id_labels`` at the embedding."""

    shape: Shape
    layers: int
    demo_tokens: int
    rows: int
    labels: int
    ids: int
    id_labels: int
    batch_tokens: int


FULL = Size(
    replace(SHAPES["gemma-2-2b"], tokens=524_288), 21, 50_000, 200_000, 512, IDS, 2_048, 16_384
)
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
    600,
    16,
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
    lines
        Times of ingests, by number format of the model.
    id_probes
        Times of probes at the embedding.
    """

    device: str
    size: Size
    folder: Path
    models: dict[str, LanguageModel] = field(default_factory=dict)
    lines: dict[str, Line] = field(default_factory=dict)
    id_probes: list[ProbeTimes] = field(default_factory=list)

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
        (cpu, cpu_fvu), (first, fvu), (second, again) = found
        differ = len(cpu.keys() ^ first.keys()) / max(1, len(cpu))
        values = max((abs(v - first[k]) for k, v in cpu.items() if k in first), default=0.0)
        equal = first == second and fvu == again
        passed = differ <= 1e-5 and abs(fvu - cpu_fvu) <= 1e-6 and equal
        return Found(
            "demo",
            passed,
            "codes ≤ 1e-5, FVU ≤ 1e-6, two runs equal",
            f"{differ:.1e} of {len(cpu):,} codes, values {values:.1e}, FVU {abs(fvu - cpu_fvu):.1e}, "
            f"runs {'equal' if equal else 'differ'}, their FVU by {abs(fvu - again):.1e}",
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
        """Fit logistic probes in float32, and compare some with float64 on the CPU."""
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
        return Found(
            "probes",
            converged >= 0.999 and error <= 0.005,
            "converged ≥ .999, coefficients ≤ .005",
            f"converged {converged:.4f}, coefficients {error:.1e}, {seconds:.1f} s for {rows:,} × {width:,}, "
            f"{labels} labels",
        )

    def embedding(self) -> Found:
        """Fit probes of token ids, as at the embedding; their time is part of the total."""
        found, size = self._id_probes(), self.size
        return Found(
            "embedding",
            found.converged >= 0.999,
            "converged ≥ .999",
            f"converged {found.converged:.4f}, {found.seconds:.1f} s for {size.ids:,} ids × {self._width:,}, "
            f"{size.id_labels:,} labels; projected: {found.projected:.0f} s for {FEATURES:,} labels, "
            f"{FITS} fits each (splits and controls)",
        )

    def _id_probes(self) -> ProbeTimes:
        if not self.id_probes:
            size = self.size
            self.id_probes.append(
                probe_ids(
                    rows=size.ids, width=self._width, labels=size.id_labels, device=self.device
                )
            )
        return self.id_probes[0]

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
        """Encode a batch that cannot fit, and one that fits only if the failed attempt is released."""
        sae = self._sae(self._shape)
        huge, next_batch = self._batch_sizes()
        x = torch.randn(1, sae.info.d_in, device=self.device)
        reported = works = False
        try:
            sae.encode(x.expand(huge, -1))
        except OutOfSpace as error:
            reported = "Memory does not suffice" in str(error)
            works = bool(sae.encode(x.expand(next_batch, -1))[-1].isfinite().all())
        return Found(
            "memory",
            reported and works,
            "reported as memory, next batch works",
            f"{huge:,} tokens reported {reported}, then {next_batch:,} work {works}",
        )

    def _batch_sizes(self) -> tuple[int, int]:
        """Return tokens of a batch that does not fit and of one that does.

        An encoder holds several arrays of codes at once. On a GPU, an array of the first batch
        takes 0.4 of the free memory, so that it fails with some of them in memory. One of the
        second takes a fourth of that. A CPU would begin to swap; there the first array fails.
        """
        if not self.device.startswith("cuda"):
            return 2**44 // self._width, 4
        torch.cuda.empty_cache()
        free = torch.cuda.mem_get_info(torch.device(self.device))[0]
        tokens = int(0.4 * free) // (4 * self.size.shape.d_sae)
        return tokens, tokens // 4

    def device_assert(self) -> Found:
        """Index out of range in a child process; it must not be reported as memory."""
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            kind = pool.apply(index_out_of_range, (self.device,))
        expected = kind not in ("OutOfSpace", "no error")
        return Found("device assert", expected, "not reported as memory", kind)

    def ray(self) -> Found:
        """Ingest on one Ray worker: equal codes, and the driver releases the GPU meanwhile."""
        criterion = f"codes equal, driver holds < {DRIVER_BYTES >> 20} MiB"
        if find_spec("ray") is None:
            return Found("ray", None, criterion, "Ray is not installed")
        self.models.clear()  # the driver moves only the model that it ingests
        gc.collect()  # SAEs and models may be in cycles
        shape = self._shape_of(layers=2)
        model, sae = random_model(shape, "float32", device=self.device), self._sae(shape)
        texts = random_text(replace(self.size.shape, tokens=min(self.size.shape.tokens, 8_192)))
        found, progress = [], ReservedBytes()
        for name, workers in (("serial", 0), ("worker", 1)):
            path = self.folder / f"{name}.atlas"
            settings = Settings(workers=workers, batch_tokens=self.size.batch_tokens)
            progress.bytes.clear()
            ingest(
                path, saes=[sae], text=texts, model=model, settings=settings, progress=progress
            ).close()
            shards = sorted(Folder.open(path).codes(sae.info.name).glob("*.arrow"))
            found.append([shard.read_bytes() for shard in shards])
        equal, held = found[0] == found[1] != [], max(progress.bytes)
        return Found(
            "ray",
            equal and held < DRIVER_BYTES,
            criterion,
            f"codes {'equal' if equal else 'differ'}, driver holds {held / 2**20:.0f} MiB",
        )

    def ingest_float32(self) -> Found:
        """Time a complete ingest in float32."""
        return self._ingest("float32")

    def ingest_bfloat16(self) -> Found:
        """Time a complete ingest with the model in bfloat16."""
        return self._ingest("bfloat16")

    def _ingest(self, dtype: str) -> Found:
        found, criterion = self._line(dtype), "ingest ÷ bare ≤ 1.15 for each further token"
        if not found.sound:
            return Found(f"ingest {dtype}", self._judged(False), criterion, UNSOUND)
        return Found(
            f"ingest {dtype}",
            self._judged(found.ratio <= 1.15),
            criterion,
            f"{found.ratio:.2f}, {1 / found.each:,.0f} tokens/s (bare {1 / found.bare:,.0f}) and "
            f"{found.fixed:.1f} s fixed, L0 {found.l0:.0f}; projected: {found.seconds(CORPUS):.0f} s for "
            f"{CORPUS:,} tokens",
        )

    def _line(self, dtype: str) -> Line:
        """Return the times of an ingest; ingests of two sizes separate fixed costs."""
        if dtype not in self.lines:
            model = self._model(dtype)
            sae = random_sae(self._shape, model, self._batches(model, random_text(self._shape)))
            batch = self.size.batch_tokens
            self.lines[dtype] = measure_ingest(self._shape, model, sae, batch_tokens=batch)
        return self.lines[dtype]

    def total(self) -> Found:
        """Add the projected ingest and the projected probes at the embedding."""
        criterion, probes = f"ingest + probes < {GOAL:.0f} s", self._id_probes().projected
        lines = {dtype: self._line(dtype) for dtype in ("bfloat16", "float32")}
        if not all(each.sound for each in lines.values()):
            return Found("total", self._judged(False), criterion, UNSOUND)
        seconds = {dtype: each.seconds(CORPUS) + probes for dtype, each in lines.items()}
        each = ", ".join(f"{dtype} {value:.0f} s" for dtype, value in seconds.items())
        return Found(
            "total",
            self._judged(max(seconds.values()) < GOAL),
            criterion,
            f"projected: {each}, of which probes {probes:.0f} s; {CORPUS:,} tokens, {FEATURES:,} features, {FITS} "
            "fits each",
        )

    def _judged(self, passed: bool) -> bool | None:
        """Return a result that depends on time: None at toy sizes."""
        return passed if self.size is FULL else None

    def profile(self) -> Found:
        """Profile three batches through the model and the SAE."""
        from torch.profiler import ProfilerActivity, profile

        model = self._model("bfloat16")
        texts = random_text(self._shape)
        batches = self._batches(model, texts)[:3]
        sae = self._sae(self._shape)
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
        return self._shape_of(layers=self.size.layers)

    def _shape_of(self, *, layers: int) -> Shape:
        """Return the shape of a model of the first layers; the SAE reads the last of them."""
        return replace(
            self.size.shape,
            config=self.size.shape.config | {"num_hidden_layers": layers},
            hook=f"blocks.{layers - 1}.hook_resid_post",
        )

    def _model(self, dtype: str) -> LanguageModel:
        """Return the model of the shape; drawing its weights takes longer than most steps."""
        if "float32" not in self.models:
            self.models["float32"] = random_model(self._shape, "float32", device=self.device)
        if dtype not in self.models:
            single = self.models["float32"]
            self.models[dtype] = open_model(
                deepcopy(single.base), name="random", tokenizer=single.tokenizer, dtype=dtype
            )
        return self.models[dtype]

    def _sae(self, shape: Shape) -> Autoencoder:
        """Return a JumpReLU SAE with random weights, at the site of a shape."""
        metadata = SAEMetadata(
            model_name="random",
            hook_name=shape.hook,
            context_size=shape.context,
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
    "embedding": Steps.embedding,
    "maps": Steps.maps,
    "training": Steps.training,
    "memory": Steps.memory,
    "assert": Steps.device_assert,
    "ingest-bfloat16": Steps.ingest_bfloat16,
    "ingest-float32": Steps.ingest_float32,
    "total": Steps.total,
    "profile": Steps.profile,
    "ray": Steps.ray,
}
