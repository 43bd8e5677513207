"""Codes that appear or vanish by rounding: by that of the SAE, of the model, and of a model in bfloat16.

Each row compares the active codes of two computations on the same tokens, and divides the number
that is active in one of them only by the number that is active in either:

- the SAE in float32 and in float64, on the same activations of the model in float32, and of the
  model in bfloat16: what a repetition of near ties in a wider format could correct;
- the model and the SAE in float32 and in float64: the difference to expect between two devices;
- the model in bfloat16 and in float32, with the SAE in float32.

    python -m benchmarks.rounding                                   # the demo
    python -m benchmarks.rounding --model FOLDER --text FILE --sae FOLDER --sae FOLDER
"""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from itertools import islice
from typing import Any

import torch

from ingest.demo.build import demo_text
from ingest.forward.format_check import Flips
from ingest.model.language_model import LanguageModel, open_model
from ingest.model.sites import DeepestSiteRead, reading
from ingest.sae.autoencoder import Autoencoder, open_sae
from ingest.text.corpus import Document
from ingest.text.readers import read
from ingest.text.tokenization import ContextSettings, tokenize

DEMO = ("tiny-a-l0-s0", "tiny-a-l1-s0", "tiny-a-l1-wide")
TITLES = {
    "sae": "SAE in float32 and float64, model in float32",
    "sae-after-bfloat16": "SAE in float32 and float64, model in bfloat16",
    "both": "model and SAE in float32 and float64",
    "bfloat16": "model in bfloat16 and float32, SAE in float32",
}


def flips_between(one: torch.Tensor, other: torch.Tensor) -> Flips:
    """Return the number of codes that are active in either computation, and in one of them only.

    Parameters
    ----------
    one, other
        Dense codes of the same tokens, (tokens, features).

    Examples
    --------
    >>> flips_between(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[2.0, 3.0, 0.0]]))
    Flips(tokens=1, active=2, flipped=1)
    """
    active = [torch.nonzero((codes > 0).flatten())[:, 0].numpy() for codes in (one, other)]
    return Flips.between(*active, tokens=len(one))


def compare(
    model: LanguageModel, sae: Autoencoder, texts: Sequence[str], *, tokens: int
) -> Mapping[str, Flips]:
    """Return the counts of codes by the names of ``TITLES``.

    Parameters
    ----------
    model
        A model in float32.
    sae
        An SAE that it fits, without a subtraction.
    texts
        Documents.
    tokens
        Number of tokens after which no further batch is compared.
    """
    contexts = ContextSettings(sae.info.context_size or 128, bool(sae.info.prepend_bos))
    documents = [Document(i, text) for i, text in enumerate(texts)]
    text = tokenize(documents, model.tokenizer, settings=contexts, batch_tokens=4096)
    wide_base: Any = deepcopy(model.base).double()  # type: ignore[no-untyped-call]
    wide_sae = deepcopy(sae.sae).to(dtype=torch.float64)
    half = open_model(
        deepcopy(model.base), tokenizer=model.tokenizer, dtype="bfloat16", device="cpu"
    )
    found = {name: Flips() for name in TITLES}
    for batch in text.batches:
        if found["both"].tokens >= tokens:
            break
        ids, mask, keep = map(torch.from_numpy, (batch.input_ids, batch.attention_mask, batch.keep))
        hook = sae.info.hook
        single, rounded = (
            each.run(ids, mask, hooks=[hook])[hook][keep].float() for each in (model, half)
        )
        with torch.inference_mode():
            site = model._site_module(hook)
            copied = wide_base.get_submodule(_path(model.base, site.module))
            wide_site = type(site)(copied, site.side, site.width)
            with reading(wide_base, {hook: wide_site}) as seen, suppress(DeepestSiteRead):
                wide_base(input_ids=ids, attention_mask=mask, use_cache=False)
            codes, of_rounded = sae.encode(single), sae.encode(rounded)
            found["sae"] += flips_between(codes, _wide(wide_sae, sae, single))
            found["sae-after-bfloat16"] += flips_between(of_rounded, _wide(wide_sae, sae, rounded))
            found["both"] += flips_between(codes, _wide(wide_sae, sae, seen[hook][keep]))
            found["bfloat16"] += flips_between(codes, of_rounded)
    return found


def _wide(wide: Any, sae: Autoencoder, x: torch.Tensor) -> torch.Tensor:
    """Return the codes of vectors in float64."""
    x = x.double()
    codes: torch.Tensor = wide.encode(x - x.mean(-1, keepdim=True) if sae._centred else x)
    if codes.dtype != torch.float64:
        raise TypeError(f"The codes are {codes.dtype}; expected float64.")
    return codes


def _path(base: torch.nn.Module, module: torch.nn.Module) -> str:
    return next(name for name, each in base.named_modules() if each is module)


def main() -> None:
    """Print a table of each SAE."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="tiny-a")
    parser.add_argument("--text", help="A file of documents; the text of the demo by default.")
    parser.add_argument("--sae", action="append", help="May be repeated.")
    parser.add_argument("--tokens", type=int, default=50_000)
    args = parser.parse_args()
    texts = list(islice(read(args.text or demo_text().source).documents, args.tokens))
    for name in args.sae or DEMO:
        sae = open_sae(name)
        model = open_model(args.model, hooks=[sae.info.hook], device="cpu")
        found = compare(model, sae, texts, tokens=args.tokens)
        print(f"{sae.info.name} ({sae.info.architecture}), {found['both'].tokens:,} tokens")
        for key, each in found.items():
            number = f"{each.share:.1e} ({each.flipped:,} of {each.active:,})"
            print(f"  {TITLES[key]:48} {number}")


if __name__ == "__main__":
    main()
