"""Effects of features: batched rows of the upper blocks next to a loop of hooks, with equal numbers.

    python -m benchmarks.effects                the demo: features of tiny-a-l0-s0 on tiny-a-l1-s0
    python -m benchmarks.effects --gemma        random weights of Gemma-2-2B's shape, with few layers

Two loops measure the same edits. The loop over features hooks the site and runs the complete model on
the sample once for each feature, as code for a single feature does; the feature is ablated at its
sampled tokens. The loop over edits knows where each feature is active, and runs one context for each
edit. The largest differences are reported. The products of both in matrices show which part of the ratio
is less arithmetic, and which is larger matrices. Times are processor seconds of one thread. The second prints processor seconds per feature and token with two
blocks above the site, and the same extrapolated to the 13 blocks above the middle of the model.
"""

import argparse
import json
import time
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np
import torch

from analysis.effects.ablation.rows import Edits, measured
from analysis.effects.ablation.sample import Contexts
from analysis.effects.ablation.source import Source, ablation_delta, source_of
from analysis.effects.settings import EffectSettings
from atlas.cli.output.tables import print_table
from ingest.model.language_model import open_model
from ingest.model.next_token import NextTokenModel, open_next_token_model
from ingest.model.upper_blocks import UpperBlocks
from ingest.sae.autoencoder import Autoencoder, open_sae
from ingest.text.corpus import Document
from ingest.text.tokenization import ContextSettings, tokenize

#: Layers of Gemma-2-2B above its middle.
_ABOVE = 13


def main() -> None:
    """Run what the command line requests."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--contexts", type=int, default=96)
    parser.add_argument("--loop", type=int, default=300, help="edits of the loop over edits")
    parser.add_argument(
        "--features", type=int, default=12, help="features of the loop over features"
    )
    parser.add_argument("--gemma", action="store_true", help="Gemma-2-2B's shape instead")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    row = gemma() if args.gemma else demo(args.contexts, args.loop, args.features)
    if args.json:
        print(json.dumps(row, indent=2))
        return
    print_table([row])


def demo(number: int, loop: int, features: int) -> dict[str, Any]:
    """Compare both on the demo."""
    model = open_model("tiny-a")
    head = open_next_token_model(model, "tiny-a")
    sae, later = open_sae("tiny-a-l0-s0"), open_sae("tiny-a-l1-s0")
    lines = (files("ingest.demo") / "text.jsonl").read_text("utf-8").splitlines()[:number]
    found = [
        tokenize(
            [Document(i, json.loads(line)["text"])],
            model.tokenizer,
            settings=ContextSettings(32, prepend_bos=True),
            batch_tokens=1 << 16,
        ).batches[-1]
        for i, line in enumerate(lines)
    ]
    ids, mask, keep = (
        torch.from_numpy(np.stack([getattr(b, name)[-1] for b in found]))
        for name in ("input_ids", "attention_mask", "keep")
    )
    contexts = Contexts(ids, mask, keep, np.arange(len(ids)))
    upper = UpperBlocks(head, sae.info.hook)
    _, _, read = upper.below(ids, mask, hooks=[sae.info.hook])
    x = read[sae.info.hook][keep]
    source = source_of(sae, x, contexts, settings=EffectSettings(min_occurrences=2))
    edits = Edits(
        source.chosen.context, source.chosen.position, ablation_delta(source, source.chosen)
    )
    batched, fast = _seconds(lambda: _batched(upper, contexts, edits, later))
    some = np.random.default_rng(0).permutation(len(edits))[:loop]
    looped, slow = _seconds(lambda: _loop(head, contexts, edits, later, some))
    # Features with one edit in each context, whose edits do not meet in the loop over features.
    alone = [
        f
        for f in source.features
        if len(np.unique(edits.context[source.chosen.feature == f]))
        == (source.chosen.feature == f).sum()
    ]
    few = np.random.default_rng(1).permutation(alone)[:features]
    means, slowest = _seconds(lambda: _feature_loop(head, contexts, source, sae, later, few))
    length, after = ids.shape[1], ids.shape[1] - float(edits.position.mean())
    ours = _products(head, later, blocks=1, positions=length, read=after, encodings=1)
    theirs = _products(head, later, blocks=2, positions=length, read=length, encodings=2)
    wanted = np.stack([batched[source.chosen.feature == f].mean(0) for f in few])
    return {
        "features": len(source.features),
        "edits": len(edits),
        "batched, s/feature": fast / len(source.features),
        "loop over features, s/feature": slowest / len(few),
        "ratio to it": slowest / len(few) / (fast / len(source.features)),
        "its largest difference": float(np.abs(means - wanted).max()),
        "batched, s/edit": fast / len(edits),
        "loop over edits, s/edit": slow / len(some),
        "ratio to that": slow / len(some) / (fast / len(edits)),
        "products of one edit, batched": ours,
        "products of one edit, loop": theirs,
        "batched, 10^9 products/s": ours / (fast / len(edits)) / 1e9,
        "loop, 10^9 products/s": theirs / (slow / len(some)) / 1e9,
        "that loop's largest difference": float(np.abs(looped - batched[some]).max()),
        "largest effect": float(np.abs(looped).max()),
        "all features, s": fast,
    }


def _products(
    head: NextTokenModel,
    later: Autoencoder,
    *,
    blocks: int,
    positions: int,
    read: float,
    encodings: int,
) -> float:
    """Return the products of numbers in the matrices of one edit; attention scores are not counted."""
    config: Any = head.causal.config
    width = config.hidden_size
    of_block = 4 * width * width + 3 * width * config.intermediate_size
    of_head = width * config.vocab_size
    return (
        blocks * of_block * positions + of_head * read + encodings * width * later.info.d_sae * read
    )


def _feature_loop(
    head: NextTokenModel,
    contexts: Contexts,
    source: Source,
    sae: Autoencoder,
    later: Autoencoder,
    features: Any,
) -> Any:
    """Return the mean changes of each feature, one run of the model over the sample for each."""
    causal: Any = head.causal
    blocks = causal.model.layers
    ids, mask, read = contexts.ids, contexts.mask, contexts.read
    outputs: list[Any] = []

    def run() -> tuple[Any, Any]:
        handle = blocks[-1].register_forward_hook(lambda m, a, out: outputs.append(out))
        logits = causal(input_ids=ids, attention_mask=mask, use_cache=False).logits
        handle.remove()
        codes = later.sae.encode(outputs.pop().flatten(0, 1)).unflatten(0, ids.shape)
        return logits.log_softmax(-1), codes * read[..., None]

    found = []
    with torch.no_grad():
        log_p, before = run()
        for feature in features:
            own = source.chosen.feature == feature
            c, t = source.chosen.context[own], source.chosen.position[own]

            def hook(
                _: Any, __: Any, out: Any, c: Any = c, t: Any = t, f: int = int(feature)
            ) -> Any:
                x = out.flatten(0, 1)
                z = sae.sae.encode(x)
                error = x - sae.sae.decode(z)
                z = z.unflatten(0, ids.shape)
                z[c, t, f] = 0
                return (sae.sae.decode(z.flatten(0, 1)) + error).unflatten(0, ids.shape)

            handle = blocks[0].register_forward_hook(hook)
            log_q, after = run()
            handle.remove()
            kl = (log_p.exp() * (log_p - log_q)).sum(-1) * read
            rise = torch.zeros_like(kl)
            rise[:, :-1] = (log_p - log_q)[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
            rise[:, :-1] *= read[:, 1:]
            change = (after - before)[c].cumsum(1)
            total = change[:, -1] - change[np.arange(len(c)), t] + (after - before)[c, t]
            losses = []
            for each in (rise, kl):
                later_sum = torch.stack([each[i, j + 1 :].sum() for i, j in zip(c, t, strict=True)])
                losses += [each[c, t].mean(), later_sum.mean()]
            found.append(np.concatenate([total.mean(0).numpy(), torch.stack(losses).numpy()]))
    return np.stack(found)


def gemma() -> dict[str, Any]:
    """Time a random-weight config of Gemma-2-2B's shape with four blocks."""
    from sae_lens import JumpReLUSAE, JumpReLUSAEConfig
    from sae_lens.saes.sae import SAEMetadata
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(num_hidden_layers=3)
    torch.manual_seed(0)
    head = NextTokenModel("gemma-2-2b-shape", Gemma2ForCausalLM(config).eval())
    saes = []
    for hook in ("blocks.0.hook_resid_post", "blocks.2.hook_resid_post"):
        known = SAEMetadata(model_name="gemma", hook_name=hook)
        made = JumpReLUSAE(JumpReLUSAEConfig(d_in=2304, d_sae=16_384, metadata=known))
        saes.append(open_sae(made.eval(), name=f"sae-{hook[7]}"))
    ids = torch.randint(5, 9_000, (2, 32))
    ones = torch.ones_like(ids)
    contexts = Contexts(ids, ones, ones.bool(), np.arange(2))
    upper = UpperBlocks(head, saes[0].info.hook)
    edits = Edits(np.repeat([0, 1], 8), np.tile([24], 16), torch.randn(16, 2304))
    _, clean = _seconds(lambda: _batched(upper, contexts, edits, saes[1], first=0))
    _, both = _seconds(lambda: _batched(upper, contexts, edits, saes[1]))
    each = (both - clean) / len(edits)
    block, row = config.hidden_size * config.intermediate_size * 3, torch.randn(256, 2304)
    weight = torch.randn(2304, 9216)
    _, product = _seconds(lambda: row @ weight)
    attention = 2 * config.hidden_size * config.head_dim * 12
    of_block = product / 256 * 32 * (block + attention) / (2304 * 9216)
    return {
        "edits": len(edits),
        "s/edit, 2 blocks above": each,
        "s/edit, 13 blocks above (extrapolated)": each + (_ABOVE - 2) * of_block,
        "note": "random weights, 16,384 features, float32, one thread, 32 positions",
    }


def _seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.process_time()
    found = work()
    return found, time.process_time() - began


def _batched(
    upper: UpperBlocks,
    contexts: Contexts,
    edits: Edits,
    later: Autoencoder,
    first: int | None = None,
) -> Any:
    """Return the changes of the target SAE and the loss of each edit, (edits, features + 4)."""
    if first is not None:  # the unedited contexts alone
        edits = Edits(edits.context[:0], edits.position[:0], edits.delta[:0])
        hooks = [later.info.hook, upper.hook]
        upper.below(contexts.ids, contexts.mask, hooks=hooks)
        return None
    found = np.zeros((len(edits), later.info.d_sae + 4), np.float32)
    for changes in measured(upper, contexts, edits, targets=[later]):
        found[changes.rows] = np.concatenate([changes.total[0].numpy(), changes.loss], axis=1)
    return found


def _loop(
    head: NextTokenModel, contexts: Contexts, edits: Edits, later: Autoencoder, some: Any
) -> Any:
    """Return the same, one hook and one run of the complete model for each edit."""
    causal: Any = head.causal
    blocks = causal.model.layers
    clean: dict[int, Any] = {}
    found = []
    with torch.no_grad():
        for n in some:
            c, t = int(edits.context[n]), int(edits.position[n])
            if c not in clean:
                clean[c] = _run(causal, blocks, contexts, c)
            log_p, before = clean[c]

            def hook(_: Any, __: Any, out: Any, t: int = t, n: int = int(n)) -> Any:
                new = out.clone()
                new[0, t] += edits.delta[n]
                return new

            handle = blocks[0].register_forward_hook(hook)
            log_q, after = _run(causal, blocks, contexts, c)
            handle.remove()
            read = contexts.read[c]
            change = later.encode(after) - later.encode(before)
            change[~read] = 0
            kl = (log_p.exp() * (log_p - log_q)).sum(-1) * read
            following = contexts.ids[c, 1:, None]
            rise = (log_p - log_q)[:-1].gather(1, following)[:, 0] * read[1:]
            losses = [
                rise[t] if t < len(rise) else 0.0, rise[t + 1 :].sum(), kl[t], kl[t + 1 :].sum()
            ]  # fmt: skip
            found.append(np.concatenate([change[t:].sum(0).numpy(), np.array(losses, np.float32)]))
    return np.stack(found)


def _run(causal: Any, blocks: Any, contexts: Contexts, c: int) -> Any:
    """Return the log-probabilities and the output of the last block for one context."""
    outputs: list[Any] = []
    handle = blocks[-1].register_forward_hook(lambda m, a, out: outputs.append(out[0]))
    logits = causal(
        input_ids=contexts.ids[c : c + 1], attention_mask=contexts.mask[c : c + 1], use_cache=False
    ).logits
    handle.remove()
    return logits[0].log_softmax(-1), outputs[0]


if __name__ == "__main__":
    main()
