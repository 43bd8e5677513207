"""Print what the features of an SAE do, with every control, as tables of Markdown.

python examples/what_features_do.py demo.atlas tiny-a-l1-s0 tiny-a-l1-s1
python examples/what_features_do.py stories.atlas FIRST SECOND --chain MIDDLE LAST --task feelings

FIRST and SECOND are two SAEs with stored matches, such as two seeds. Effects, logits and steering
that are not stored are computed and stored in the atlas; targets are all of its SAEs at later sites
that are no floors.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from analysis import EffectSettings, LogitSettings, measure_effects, measure_logits, steer_task
from analysis.effects.counterparts import by_match_strength, counterpart_effects
from atlas import Atlas
from atlas.cli.output import make_progress
from atlas.studies.results import Result

#: Features of the first table that have the largest effects, and that are drawn at random.
_LARGEST, _RANDOM = 5, 5

#: Settings of effects, as options; those of a sample make a large model affordable.
_SETTINGS = {
    name: getattr(EffectSettings(), name)
    for name in ("contexts", "context_size", "occurrences", "decoys", "features")
}

#: Tokens of a feature that are printed, and chains.
_TOKENS, _CHAINS = 3, 8


def main() -> None:
    """Run what the command line requests."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("atlas")
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--chain", nargs=2, metavar=("MIDDLE", "LAST"), help="SAEs of a chain")
    parser.add_argument("--task", nargs="*", default=[], help="tasks of `atlas steer --list-tasks`")
    parser.add_argument(
        "--logits", type=int, default=1024, help="features that are ablated for logits"
    )
    for name, default in _SETTINGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    args = parser.parse_args()
    settings = EffectSettings(**{name: getattr(args, name) for name in _SETTINGS})
    progress = make_progress(quiet=False)
    names = [args.first, *(args.chain or [])[:1]]
    effects = measure_effects(args.atlas, names, settings=settings, progress=progress)
    by_sae = {result["sae"]: result for result in effects if not result.floor}
    (logits, *_) = measure_logits(
        args.atlas, [args.first], settings=LogitSettings(features=args.logits), progress=progress
    )
    measured = by_sae[args.first].table("Feature")["id"].to_pylist()
    pairs = counterpart_effects(
        args.atlas,
        [args.first, args.second],
        features=[int(id.rpartition("/")[2]) for id in measured],
        settings=settings,
    )
    show("Effects", map(effects_row, effects))
    show("Logits", [logits])
    with Atlas.open(args.atlas) as opened:
        show(
            f"Ten features of {args.first}: the {_LARGEST} with the largest effects, then {_RANDOM} at random",
            ten_features(opened, by_sae[args.first], logits, pairs),
        )
        if args.chain:
            chains = opened.ask(
                "effect_chains",
                sae_a=args.first,
                sae_b=args.chain[0],
                sae_c=args.chain[1],
                limit=_CHAINS,
            )
            show("Chains of effects over two layers", chains.to_pylist())
    if "calibration" in by_sae[args.first].tables:
        curve = by_sae[args.first].table("calibration").to_pylist()
        show("Calibration: measured change of targets by attribution", curve)
    show("Effects of counterparts", by_match_strength(pairs, seed=settings.seed))
    steered = [
        steer_task(args.atlas, task, saes=[args.first], progress=progress)[0] for task in args.task
    ]
    show("Steering: successes on the test half", map(steering_row, steered))


def effects_row(result: Result) -> dict[str, Any]:
    """Return the main numbers of the effects of an SAE."""
    return {
        "sae": result["sae"],
        "features": result["features"],
        "KL": result["kl"],
        "random": result["kl_random"],
        "other": result["kl_other"],
        "above random": result["features_above_random"],
        "edges": result["edges"],
        "from": result["sources_with_edges"],
        "rank correlation": result["rank_correlation"],
        "additivity": result["additivity_targets"],
        "joint KL / sum": result["joint_kl_ratio"],
    }


def ten_features(
    atlas: Atlas,
    first: Result,
    logits: Result,
    pairs: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return a row for each feature: its logits, its effect, and the effect of its counterpart."""
    own = _by(first.table("Feature").to_pylist(), "id")
    texts = {row["id"]: row["text"] for row in logits.table("Token").to_pylist()}
    agreed = _by(logits.table("features").to_pylist(), "feature")
    promoted: dict[str, list[str]] = {}
    for edge in sorted(logits.table("PROMOTES").to_pylist(), key=lambda e: e["rank"]):
        promoted.setdefault(edge["source"], []).append(texts[edge["target"]])
    strongest = _by(
        [e for e in first.table("AFFECTS").to_pylist() if not e["rank"]]
        if "AFFECTS" in first.tables
        else [],
        "source",
    )
    known = _by([p for p in pairs if p["effect"] == "predictions"], "feature")
    token = {row["id"]: row["top_token"] for row in atlas.table("Feature").to_pylist()}
    rows = []
    for id in _chosen(own):
        row, pair, edge = own[id], known.get(id), strongest.get(id)
        rows.append(
            {
                "feature": id.rpartition("/")[2],
                "most often on": f"`{token[id]}`",
                "promotes": " ".join(f"`{t}`" for t in promoted.get(id, [])[:_TOKENS]),
                "agreement": agreed.get(id, {}).get("agreement"),
                "KL": _kl(row),
                "random": row["effect_kl_random"],
                "q": row["effect_q"],
                "strongest effect": f"{edge['mean']:+.2f} on {edge['target']} `{token[edge['target']]}`"
                if edge
                else None,
                "counterpart": pair["counterpart"].rpartition("/")[2] if pair else None,
                "Pearson": pair["pearson"] if pair else None,
                "its KL": pair["counterpart_kl"] if pair else None,
                "correlation": pair["own"] if pair else None,
                "with random": pair["random"] if pair else None,
            }
        )
    return rows


def steering_row(result: Result) -> dict[str, Any]:
    """Return the successes of every arm of a task."""
    return {
        "task": result["task"],
        "prompts": result["prompts"],
        "nothing": result["nothing_success"],
        "reconstruction": result["reconstruction_success"],
        "feature": _with_p(result, "feature"),
        "set": _with_p(result, "set"),
        "difference of means": result["difference_success"],
        "random feature, mean": result["random_success"],
        "random set, mean": result.get("random_set_success"),
        "KL of feature": result["feature_kl"],
        "KL of difference": result["difference_kl"],
    }


def _with_p(result: Result, arm: str) -> str | None:
    if f"{arm}_success" not in result:
        return None
    return f"{result[f'{arm}_success']} (p {result[f'{arm}_p']:.2f})"


def _chosen(own: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return features: those with the largest KL, then random ones of the others."""
    ordered = sorted(own, key=lambda id: -_kl(own[id]))
    rest = np.random.default_rng(0).permutation(ordered[_LARGEST:])
    return ordered[:_LARGEST] + rest[:_RANDOM].tolist()


def _kl(row: Mapping[str, Any]) -> float:
    return float(row["effect_kl"] + row["effect_kl_later"])


def _by(rows: Iterable[Mapping[str, Any]], key: str) -> dict[str, Mapping[str, Any]]:
    return {row[key]: row for row in rows}


def show(title: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Print a table; nothing without rows."""
    rows = list(rows)
    if not rows:
        return
    print(f"\n### {title}\n")
    names = list(rows[0])
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(_cell(row[name]) for name in names) + " |")


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    text = f"{value:.2g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", "⏎")


if __name__ == "__main__":
    main()
