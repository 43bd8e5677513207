"""What an ingest costs over the bare model run it cannot do without: forward and encode.

Both sides see the same batches of the same text, one after the other, in one process:
bare, ingest, bare again. The ratio is the ingest over the mean of both bare runs. Codes
are kept and every reduction is on; opening the model is on neither side. Weights are
random, made from the real architecture's configuration; thresholds are set so that the
SAE has the L0 asked for and frequencies of features differ a hundredfold.

    python benchmarks/whole_ingest.py --shape gemma-2-2b
    python benchmarks/whole_ingest.py --shape stories3m
"""

import argparse
import json
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sae_lens
import torch
import transformers
from sae_lens.saes.sae import SAEMetadata
from tokenizers import Tokenizer, models, pre_tokenizers

from ingest import Settings, ingest
from ingest.contexts import Batch, ContextSettings, tokenize
from ingest.corpus import Document
from ingest.models import LanguageModel, open_model
from ingest.saes import Autoencoder, open_sae

WORDS = 4000


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
        {"model_type": "gemma2", "hidden_size": 2304, "intermediate_size": 9216, "head_dim": 256,
         "num_attention_heads": 8, "num_key_value_heads": 4, "num_hidden_layers": 2},
        "blocks.1.hook_resid_post", 16_384, 70, 32_768, 1024,
    ),
    "stories3m": Shape(
        {"model_type": "llama", "hidden_size": 192, "intermediate_size": 512,
         "num_attention_heads": 6, "num_key_value_heads": 6, "num_hidden_layers": 6},
        "blocks.5.hook_resid_post", 4_096, 32, 200_000, 512,
    ),
}  # fmt: skip


def random_model(shape: Shape, dtype: str) -> LanguageModel:
    """Return a random-weight model of the shape with a tokenizer of whole words."""
    vocabulary = {"<s>": 0, **{f"w{i}": i + 1 for i in range(WORDS)}}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<s>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>")
    config = transformers.AutoConfig.for_model(
        **shape.config, vocab_size=WORDS + 1, max_position_embeddings=shape.context
    )
    torch.manual_seed(0)
    made = transformers.AutoModel.from_config(config).to(getattr(torch, dtype)).eval()
    return open_model(made, name="random", tokenizer=tokenizer, hooks=[shape.hook])


def random_text(shape: Shape) -> list[str]:
    """Return documents of Zipf-like words, a context long each."""
    draw = random.Random(0)
    weights = [1 / (i + 10) for i in range(WORDS)]
    names = [f"w{i}" for i in range(WORDS)]
    each = shape.context - 1
    return [" ".join(draw.choices(names, weights, k=each)) for _ in range(shape.tokens // each)]


def random_sae(shape: Shape, model: LanguageModel, sample: Batch) -> Autoencoder:
    """Return a JumpReLU SAE whose thresholds give the L0 on a sample."""
    d_in = model.place(shape.hook).width
    metadata = SAEMetadata(
        model_name="random", hook_name=shape.hook, context_size=shape.context, prepend_bos=True
    )
    sae = sae_lens.JumpReLUSAE(
        sae_lens.JumpReLUSAEConfig(d_in=d_in, d_sae=shape.d_sae, metadata=metadata)
    )
    x = read(model, sample, shape.hook).cpu()
    generator = torch.Generator().manual_seed(0)
    rate = torch.exp(1.2 * torch.randn(shape.d_sae, generator=generator))
    rate = (rate * shape.l0 / rate.sum()).clamp(max=0.9)
    with torch.no_grad():
        before = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
        ranked = before.sort(dim=0, descending=True).values
        at = (rate * len(x)).long().clamp(max=len(x) - 1)
        sae.threshold.copy_(ranked[at, torch.arange(shape.d_sae)].clamp(min=1e-3))
    return open_sae(sae.eval(), name="random").to(model.device)


def read(model: LanguageModel, batch: Batch, hook: str) -> torch.Tensor:
    """Run a batch and return the kept activations."""
    ids, mask = torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask)
    keep = torch.from_numpy(batch.keep).to(model.device)
    return model.run(ids, mask, hooks=[hook])[hook][keep].float()


def bare(model: LanguageModel, sae: Autoencoder, batches: list[Batch]) -> float:
    """Time forward and encode alone, in seconds."""
    began = time.perf_counter()
    for batch in batches:
        x = read(model, batch, sae.info.hook)
        for chunk in x.split(1024):
            sae.encode(chunk)
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def whole(model: LanguageModel, sae: Autoencoder, texts: list[str], batch_tokens: int) -> float:
    """Time an ingest, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        ingest(
            Path(folder) / "bench.atlas", saes=[sae], text=texts, model=model,
            settings=Settings(batch_tokens=batch_tokens, dtype="auto"),
        )  # fmt: skip
        return time.perf_counter() - began


def main() -> None:
    """Measure one shape and print the ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="stories3m")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, help="Instead of the shape's own number.")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    shape = SHAPES[asked.shape]
    if asked.tokens:
        shape = Shape(**{**vars(shape), "tokens": asked.tokens})
    model = random_model(shape, asked.dtype)
    model.base.to(asked.device)
    texts = random_text(shape)
    contexts = ContextSettings(context_size=shape.context, prepend_bos=True)
    documents = [Document(i, text) for i, text in enumerate(texts)]
    batches = list(
        tokenize(
            documents, model.tokenizer, settings=contexts, batch_tokens=asked.batch_tokens
        ).batches
    )
    sae = random_sae(shape, model, batches[0])
    few = texts[: max(1, 4096 // shape.context)]
    bare(model, sae, batches[:1])
    whole(model, sae, few, asked.batch_tokens)  # compiles what is compiled once on a machine
    runs = [
        bare(model, sae, batches),
        whole(model, sae, texts, asked.batch_tokens),
        bare(model, sae, batches),
    ]
    tokens = int(sum(np.count_nonzero(b.keep) for b in batches))
    l0 = len(sae.codes(read(model, batches[0], shape.hook)).values) / np.count_nonzero(
        batches[0].keep
    )
    result = {
        "shape": asked.shape, "device": asked.device, "dtype": asked.dtype, "tokens": tokens,
        "d_sae": shape.d_sae, "l0": round(float(l0), 1),
        "bare_us_per_token": [round(1e6 * runs[i] / tokens, 1) for i in (0, 2)],
        "ingest_us_per_token": round(1e6 * runs[1] / tokens, 1),
        "ingest_tokens_per_second": round(tokens / runs[1]),
        "ratio": round(runs[1] / ((runs[0] + runs[2]) / 2), 3),
    }  # fmt: skip
    if asked.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:26} {value}")


if __name__ == "__main__":
    main()
