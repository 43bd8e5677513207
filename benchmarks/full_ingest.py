"""The cost of an ingest, compared with the bare run of the model and the encoder.

The bare run is the forward passes and the encoding of the ingest itself, timed within it. The
remaining time is what the ingest adds. Codes are stored and every reduction is on. Opening the
model is excluded on both sides. Weights are random, from the configuration of the real
architecture. Thresholds give the SAE the requested L0 and frequencies that differ a
hundredfold. Its features are independent and its words are in random order, so nearly all
pairs become edges: many more than for a trained SAE on real text, which ``--model``, ``--sae``
and ``--text`` measure.

    python -m benchmarks.full_ingest --shape gemma-2-2b
    python -m benchmarks.full_ingest --shape gemma-2-2b --layers 21 --dtype bfloat16 --device cuda
    python -m benchmarks.full_ingest --shape stories3m
    python -m benchmarks.full_ingest --model FOLDER --sae FOLDER --text FILE --tokens 100000
"""

import argparse
import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import sae_lens
import torch
import transformers
from sae_lens.saes.sae import SAEMetadata
from tokenizers import Tokenizer, models, pre_tokenizers

from atlas.disk.folder import Folder
from benchmarks.within import clocks, timed
from ingest import Settings, ingest
from ingest.forward.shard_runner import ShardRunner
from ingest.model.language_model import LanguageModel, open_model
from ingest.sae.autoencoder import Autoencoder, open_sae
from ingest.text.corpus import Document
from ingest.text.readers import read as open_texts
from ingest.text.tokenization import Batch, ContextSettings, tokenize

WORDS = 4000

#: Batches that thresholds are set on, at most.
SAMPLED = 16


@dataclass(frozen=True)
class Shape:
    """Shape of a model and its SAE, and how much text is enough to time it."""

    config: dict[str, Any]
    hook: str
    d_sae: int
    l0: float
    tokens: int
    context: int


SHAPES = {
    "gemma-2-2b": Shape(
        {
            "model_type": "gemma2",
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "head_dim": 256,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "num_hidden_layers": 2,
        },
        "blocks.1.hook_resid_post",
        16_384,
        70,
        32_768,
        1024,
    ),
    "stories3m": Shape(
        {
            "model_type": "llama",
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_attention_heads": 6,
            "num_key_value_heads": 6,
            "num_hidden_layers": 6,
        },
        "blocks.5.hook_resid_post",
        4_096,
        32,
        200_000,
        512,
    ),
}


def random_model(shape: Shape, dtype: str, *, device: str = "auto") -> LanguageModel:
    """Return a random-weight model of the shape with a tokenizer of words."""
    vocabulary = {"<s>": 0, **{f"w{i}": i + 1 for i in range(WORDS)}}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<s>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>")
    config = transformers.AutoConfig.for_model(
        **shape.config, vocab_size=WORDS + 1, max_position_embeddings=shape.context
    )
    torch.manual_seed(0)
    made = transformers.AutoModel.from_config(config).eval()
    return open_model(
        made, name="random", tokenizer=tokenizer, hooks=[shape.hook], device=device, dtype=dtype
    )


def random_text(shape: Shape) -> list[str]:
    """Return documents of Zipf-like words, a context long each."""
    draw = random.Random(0)
    weights = [1 / (i + 10) for i in range(WORDS)]
    names = [f"w{i}" for i in range(WORDS)]
    each = shape.context - 1
    return [" ".join(draw.choices(names, weights, k=each)) for _ in range(shape.tokens // each)]


def random_sae(shape: Shape, model: LanguageModel, batches: list[Batch]) -> Autoencoder:
    """Return a JumpReLU SAE whose thresholds give about the L0.

    A random model gives the tokens of a context much in common, so the sample has tokens of many.
    """
    d_in = model.site(shape.hook).width
    metadata = SAEMetadata(
        model_name="random", hook_name=shape.hook, context_size=shape.context, prepend_bos=True
    )
    sae = sae_lens.JumpReLUSAE(
        sae_lens.JumpReLUSAEConfig(d_in=d_in, d_sae=shape.d_sae, metadata=metadata)
    )
    generator = torch.Generator().manual_seed(0)
    some = batches[:: -(-len(batches) // SAMPLED)]
    x = torch.cat([read(model, batch, shape.hook).cpu() for batch in some])
    x = x[torch.randperm(len(x), generator=generator)[:8192]]
    rate = torch.exp(1.2 * torch.randn(shape.d_sae, generator=generator))
    rate = (rate * shape.l0 / rate.sum()).clamp(max=0.9)
    with torch.no_grad():
        before = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
        ranked = before.sort(dim=0, descending=True).values
        at = (rate * len(x)).long().clamp(max=len(x) - 1)
        sae.threshold.copy_(ranked[at, torch.arange(shape.d_sae)].clamp(min=1e-3))
    return open_sae(sae.eval(), name="random").to(model.device)


def inputs(args: argparse.Namespace) -> tuple[LanguageModel, Autoencoder, list[str]]:
    """Return the model, the SAE and the first documents of the text that were named."""
    sae = open_sae(args.sae)
    model = open_model(args.model, hooks=[sae.info.hook], dtype=args.dtype, device=args.device)
    texts, tokens = [], 0
    for text in open_texts(args.text).documents:
        texts.append(text)
        tokens += len(model.tokenizer(text, add_special_tokens=False)["input_ids"])
        if tokens >= (args.tokens or 100_000):
            break
    return model, sae, texts


def read(model: LanguageModel, batch: Batch, hook: str) -> torch.Tensor:
    """Run a batch and return the activations of the tokens that are counted."""
    ids, mask = torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask)
    keep = torch.from_numpy(batch.keep).to(model.device)
    return model.run(ids, mask, hooks=[hook])[hook][keep].float()


def complete_ingest(
    model: LanguageModel, sae: Autoencoder, texts: list[str], batch_tokens: int
) -> tuple[np.ndarray, np.ndarray, int, float]:
    """Time an ingest and the bare part of it, in seconds by both clocks; count edges, and return the L0."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.atlas"
        began = clocks()
        with bare_seconds(model, sae) as bare:
            ingest(
                path,
                saes=[sae],
                text=texts,
                model=model,
                settings=Settings(batch_tokens=batch_tokens, dtype="auto"),
            )
        seconds = clocks() - began
        parts = Folder.open(path).sound()
        (edges,), (statistics,) = parts.of("coactivation"), parts.of("statistics")
        l0 = statistics.table("SAE")["l0"][0].as_py()
        return seconds, bare, edges.manifest.tables["CO_ACTIVATES"].rows, l0


@contextmanager
def bare_seconds(model: LanguageModel, sae: Autoencoder) -> Iterator[np.ndarray]:
    """Add up the seconds of the model and the encoder, by both clocks, while shards are computed.

    The samples of the forecast and of the comparison of number formats run before, and are a
    cost of the ingest.
    """
    total, run = np.zeros(2), ShardRunner.run

    def timed_run(work: ShardRunner, *args: Any, **named: Any) -> None:
        with timed((model, "run"), (sae.sae, "encode"), device=model.device.type) as took:
            run(work, *args, **named)
        total[:] += took

    with mock.patch.object(ShardRunner, "run", timed_run):
        yield total


def main() -> None:
    """Measure one shape and print the ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="stories3m")
    parser.add_argument("--layers", type=int, help="Instead of the shape's own number.")
    parser.add_argument("--model", help="A real one: its name or folder, with --sae and --text.")
    parser.add_argument("--sae", help="A trained SAE that reads it.")
    parser.add_argument("--text", help="A file of documents.")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, help="Instead of the shape's own number.")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if len({bool(x) for x in (args.model, args.sae, args.text)}) > 1:
        parser.error("--model, --sae and --text go together.")
    shape = SHAPES[args.shape]
    if args.tokens:
        shape = replace(shape, tokens=args.tokens)
    if args.layers:
        shape = replace(
            shape,
            config=shape.config | {"num_hidden_layers": args.layers},
            hook=f"blocks.{args.layers - 1}.hook_resid_post",
        )
    if args.model:
        model, sae, texts = inputs(args)
        context = sae.info.context_size or shape.context
    else:
        model, sae, texts = (
            random_model(shape, args.dtype, device=args.device),
            None,
            random_text(shape),
        )
        context = shape.context
    contexts = ContextSettings(context_size=context, prepend_bos=True)
    documents = [Document(i, text) for i, text in enumerate(texts)]
    batches = list(
        tokenize(
            documents, model.tokenizer, settings=contexts, batch_tokens=args.batch_tokens
        ).batches
    )
    sae = sae.to(args.device) if sae else random_sae(shape, model, batches)
    complete_ingest(
        model, sae, texts[:8], args.batch_tokens
    )  # compiles what is compiled once on a machine
    seconds, bare, edges, l0 = complete_ingest(model, sae, texts, args.batch_tokens)
    tokens = int(sum(np.count_nonzero(b.keep) for b in batches))
    ratio = (seconds / bare).tolist()
    result = {
        "shape": args.model or args.shape,
        "device": args.device,
        "dtype": args.dtype,
        "tokens": tokens,
        "d_sae": sae.info.d_sae,
        "edges": edges,
        "l0": round(l0, 1),
        "bare_us_per_token": round(float(1e6 * bare[0] / tokens), 1),
        "ingest_us_per_token": round(1e6 * seconds[0] / tokens, 1),
        "ingest_tokens_per_second": round(tokens / seconds[0]),
        "ratio": round(ratio[0], 3),
        "ratio_of_processor_time": round(ratio[1], 3),
    }
    if args.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:26} {value}")


if __name__ == "__main__":
    main()
