"""Print what the features of an SAE do, with every control, as tables of Markdown.

python examples/what_features_do.py demo.atlas tiny-a-l1-s0 tiny-a-l1-s1
python examples/what_features_do.py stories.atlas FIRST SECOND --chain MIDDLE LAST --task feelings

FIRST and SECOND are two SAEs with stored matches, such as two seeds. Effects, logits and steering
that are not stored are computed and stored in the atlas. Targets are MIDDLE and LAST with --chain;
otherwise all SAEs of the atlas at later sites that are no floors. With --floors, the effects of the
floors of FIRST are computed too, and those of their counterparts among the floors of SECOND.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from analysis import (
    EffectSettings,
    LogitSettings,
    SteeringSettings,
    measure_effects,
    measure_feature_logits,
    measure_logits,
    steer_task,
)
from analysis.effects.chains import chains_by_threshold
from analysis.effects.counterparts import by_match_strength, counterpart_effects
from atlas import Atlas
from atlas.cli.output.text import make_progress
from atlas.errors import Missing
from atlas.studies.floors import floors_of, role_shown
from atlas.studies.results import Result

#: Features of the first table that have the largest effects, and that are drawn at random.
_LARGEST, _RANDOM = 5, 5

#: Settings of effects, as options; those of a sample make a large model affordable.
_SETTINGS = {
    name: getattr(EffectSettings(), name)
    for name in ("contexts", "context_size", "occurrences", "decoys", "features", "q")
}

#: Tokens of a feature that are printed, and chains; and the q of a printed edge.
_TOKENS, _CHAINS, _Q = 3, 8, 0.05


#: Columns from which a table of one row is printed with a line for each.
_WIDE = 5


def main() -> None:
    """Run what the command line requests."""
    args = _arguments()
    settings = EffectSettings(**{name: getattr(args, name) for name in _SETTINGS})
    progress = make_progress(quiet=False)
    chain = args.chain or []
    floors, other_floors = (
        floors_by_role(args.atlas, name) if args.floors else {}
        for name in (args.first, args.second)
    )
    names = [args.first, *(name for own in floors.values() for name in own)]
    effects = measure_effects(
        args.atlas, names, on=chain or None, settings=settings, progress=progress
    )
    own = effects[0]
    show("Effects", map(effects_row, effects))
    logit_settings = LogitSettings(features=args.logits)
    logits = measure_logits(args.atlas, [args.first], settings=logit_settings, progress=progress)
    show("Logits", logits[:1])
    chosen = chosen_features(own)
    compared = {"on": chain or None, "settings": settings}
    pairs = counterpart_effects(
        args.atlas,
        [args.first, args.second],
        features=[int(id.rpartition("/")[2]) for id in chosen],
        **compared,
    )
    with Atlas.open(args.atlas) as opened:
        top_token = {row["id"]: row["top_token"] for row in opened.table("Feature").to_pylist()}
    by_feature = {
        id: measure_feature_logits(args.atlas, id, settings=logit_settings) for id in chosen
    }
    title = f"Ten features of {args.first}: logits"
    show(title, logit_rows(chosen, by_feature, top_token=top_token))
    show(
        "The same features: effect, and effect of the counterpart", effect_rows(own, chosen, pairs)
    )
    show("The same features: strongest edge", edge_rows(chosen, own, top_token=top_token))
    if chain:
        middle = measure_effects(
            args.atlas, chain[:1], on=chain[1:], settings=settings, progress=progress
        )
        show(f"Effects of {chain[0]}", map(effects_row, middle))
        show_chains(own, middle[0], top_token=top_token)
    if "calibration" in own.tables:
        curve = own.table("calibration").to_pylist()
        show("Calibration: measured change of targets by attribution", curve)
    if args.pairs:
        measured = [int(id.rpartition("/")[2]) for id in own.table("Feature")["id"].to_pylist()]
        some = np.random.default_rng(settings.seed).permutation(measured)[: args.pairs]
        pairs = counterpart_effects(
            args.atlas, [args.first, args.second], features=some.tolist(), **compared
        )
        show(
            "Effects of counterparts", map(_match_row, by_match_strength(pairs, seed=settings.seed))
        )
        floor_pairs = [
            (role, pair)
            for role in floors
            for pair in zip(floors[role], other_floors.get(role, []), strict=False)
        ]
        by_role = [("trained", pairs), *floor_counterparts(args.atlas, floor_pairs, **compared)]
        if floor_pairs:
            show(
                "Effects of counterparts: SAEs and floors, all pairs",
                [
                    {"role": role} | _match_row(row)
                    for role, part in by_role
                    for row in by_match_strength(part, seed=settings.seed)
                    if row["match"] == "all"
                ],
            )
    steering = SteeringSettings(neutral_tokens=args.neutral_tokens)
    steered = [
        steer_task(
            args.atlas,
            task,
            saes=[args.steer or args.first],
            settings=steering,
            progress=progress,
        )[0]
        for task in args.task
    ]
    show("Steering: successes on the test half", map(steering_row, steered))
    show("Steering: log-probability lost on neutral text, nats per token", map(damage_row, steered))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("atlas")
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--chain", nargs=2, metavar=("MIDDLE", "LAST"), help="SAEs of a chain")
    parser.add_argument("--task", nargs="*", default=[], help="tasks of `atlas steer --list-tasks`")
    parser.add_argument("--steer", metavar="SAE", help="SAE that steers; FIRST by default")
    parser.add_argument(
        "--neutral-tokens", type=int, default=SteeringSettings().neutral_tokens, metavar="N"
    )
    parser.add_argument(
        "--logits", type=int, default=1024, help="features that are ablated for logits"
    )
    parser.add_argument("--floors", action="store_true", help="compare with the floors of the SAEs")
    parser.add_argument(
        "--pairs", type=int, default=100_000, help="most matched features that are compared"
    )
    for name, default in _SETTINGS.items():
        kind = float if name == "q" else int
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default)
    return parser.parse_args()


def floors_by_role(atlas: str, sae: str) -> dict[str, list[str]]:
    """Return the floors of an SAE by their role, sorted by name."""
    with Atlas.open(atlas) as opened:
        rows = opened.table("SAE").to_pylist()
    roles = {row["name"]: str(role_shown(row)) for row in rows}
    found: dict[str, list[str]] = {}
    for name in floors_of(rows, sae):
        found.setdefault(roles[name], []).append(name)
    return found


def floor_counterparts(
    atlas: str, pairs: Sequence[tuple[str, tuple[str, str]]], **compared: Any
) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the effects of counterparts of pairs of floors; pairs that were not matched are reported."""
    found = []
    for role, names in pairs:
        try:
            found.append((role, counterpart_effects(atlas, names, **compared)))
        except Missing as error:
            print(f"Skipped the counterparts of {role}: {error}", file=sys.stderr)
    return found


def effects_row(result: Result) -> dict[str, Any]:
    """Return the main numbers of the effects of an SAE.

    The share of edges is that of all pairs of a measured feature and a target.
    """
    pairs = result["features"] * result["targets"]
    edges = _edges(result)
    return {
        "sae": result["sae"],
        "role": result.get("role") or "trained",
        "features": result["features"],
        "KL": result["kl"],
        "random": result["kl_random"],
        "KL / random": result["kl"] / result["kl_random"] if result["kl_random"] else None,
        "other": result["kl_other"],
        "above random": result["features_above_random"],
        "edges": len(edges),
        "per 100,000 pairs": 1e5 * len(edges) / pairs if pairs else None,
        "from": len({edge["source"] for edge in edges}),
        "rank correlation": result["rank_correlation"],
        "additivity": result["additivity_targets"],
        "joint KL / sum": result["joint_kl_ratio"],
    }


def logit_rows(
    chosen: Sequence[str], logits: Mapping[str, Result], *, top_token: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the logits of each feature, and how far they agree with what its ablation changes."""
    return [
        {
            "feature": _index(id),
            "most often on": f"`{top_token[id]}`",
            "promotes": " ".join(
                f"`{t}`" for t in logits[id].table("promoted")["token"].to_pylist()[:_TOKENS]
            ),
            "agreement": logits[id]["agreement"],
            "others": logits[id]["control"],
        }
        for id in chosen
    ]


def effect_rows(
    effects: Result, chosen: Sequence[str], pairs: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the effect of each feature and of its counterpart, each next to random directions.

    ``pair`` is the counterpart, ``match`` the strength of the match, and ``r`` the correlation of both effects on the
    predictions.
    """
    own = _by(effects.table("Feature").to_pylist(), "id")
    known = _by([pair for pair in pairs if pair["effect"] == "predictions"], "feature")
    rows = []
    for id in chosen:
        pair = known.get(id)
        rows.append(
            {
                "feature": _index(id),
                "KL": _kl(own[id]),
                "random": own[id]["effect_kl_random"],
                "q": own[id]["effect_q"],
                "pair": _index(pair["counterpart"]) if pair else None,
                "match": pair["pearson"] if pair else None,
                "its KL": pair["counterpart_kl"] if pair else None,
                "r": pair["own"] if pair else None,
                "random r": pair["random"] if pair else None,
            }
        )
    return rows


def edge_rows(
    chosen: Sequence[str], effects: Result, *, top_token: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the strongest edge of each feature that has one."""
    strongest = {edge["source"]: edge for edge in _edges(effects) if not edge["rank"]}
    return [
        {
            "feature": _index(id),
            "target": edge["target"],
            "most often on": f"`{top_token[edge['target']]}`",
            "mean": edge["mean"],
            "random": edge["random"],
        }
        for id in chosen
        if (edge := strongest.get(id))
    ]


def show_chains(first: Result, middle: Result, *, top_token: Mapping[str, str]) -> None:
    """Print the number of chains by threshold, and the chains themselves."""
    name = middle["sae"]
    own = [e for e in first.table("AFFECTS").to_pylist() if e["target"].startswith(f"{name}/")]
    more = middle.table("AFFECTS").to_pylist()
    show(
        f"Chains over two layers through {name}, by the largest q of an edge",
        chains_by_threshold(own, more, features=middle["features"]),
    )
    chains = [(a, b) for a in own for b in more if a["target"] == b["source"]]
    chains.sort(key=lambda pair: max(edge["q"] for edge in pair))
    rows = [
        {
            "first": _index(a["source"]),
            "on": f"`{top_token[a['source']]}`",
            "second": _index(b["source"]),
            "on ": f"`{top_token[b['source']]}`",
            "third": _index(b["target"]),
            "on  ": f"`{top_token[b['target']]}`",
            "largest q": max(a["q"], b["q"]),
        }
        for a, b in chains[:_CHAINS]
    ]
    show("Chains of effects over two layers", rows)


def steering_row(result: Result) -> dict[str, Any]:
    """Return the successes of every arm of a task, in brackets p of gain and p of success."""
    return {
        "task": result["task"],
        "prompts": result["prompts"],
        "nothing": result["nothing_success"],
        "reconstruction": result["reconstruction_success"],
        "feature": _with_p(result, "feature"),
        "set": _with_p(result, "set"),
        "difference of means": _with_p(result, "difference"),
        "random feature, mean": result["random_success"],
        "random set, mean": result.get("random_set_success"),
    }


def damage_row(result: Result) -> dict[str, Any]:
    """Return the damage of every arm of a task at its strength."""
    arms = {row["arm"]: row["loss"] for row in result.table("arms").to_pylist()}
    return {
        "task": result["task"],
        "reconstruction": arms["reconstruction"],
        "feature": arms["feature"],
        "set": arms.get("set"),
        "difference of means": arms["difference of means"],
        "random features, mean": result["random_loss"],
        "random sets, mean": result.get("random_set_loss"),
    }


def _match_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a row of ``by_match_strength`` that a page has."""
    return {
        "effect": row["effect"],
        "Pearson": row["match"],
        "pairs": row["pairs"],
        "counterpart": row["own"],
        "shuffled": row["shuffled"],
        "random": row["random"],
        "above random, 95%": _interval(row["low"], row["high"]),
        "other": row["other"],
        "above other, 95%": _interval(row["other_low"], row["other_high"]),
    }


def _interval(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{low:.2f} to {high:.2f}"


def _with_p(result: Result, arm: str) -> str | None:
    if f"{arm}_success" not in result:
        return None
    of = {name: result[f"{arm}_{name}_p"] for name in ("gain", "success")}
    shown = ", ".join("–" if p is None else f"{p:.2g}" for p in of.values())
    return f"{result[f'{arm}_success']} (p {shown})"


def chosen_features(effects: Result) -> list[str]:
    """Return features: those with the largest KL, then random ones of the others."""
    own = _by(effects.table("Feature").to_pylist(), "id")
    ordered = sorted(own, key=lambda id: -_kl(own[id]))
    rest = np.random.default_rng(0).permutation(ordered[_LARGEST:])
    return ordered[:_LARGEST] + rest[:_RANDOM].tolist()


def _kl(row: Mapping[str, Any]) -> float:
    return float(row["effect_kl"] + row["effect_kl_later"])


def _edges(result: Result) -> list[dict[str, Any]]:
    """Return the edges with q up to that of a printed edge."""
    rows = result.table("AFFECTS").to_pylist() if "AFFECTS" in result.tables else []
    return [edge for edge in rows if edge["q"] <= _Q]


def _index(id: str) -> str:
    return id.rpartition("/")[2]


def _by(rows: Iterable[Mapping[str, Any]], key: str) -> dict[str, Mapping[str, Any]]:
    return {row[key]: row for row in rows}


def show(title: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Print a table with aligned columns, or one row as lines; nothing without rows."""
    rows = list(rows)
    if not rows:
        return
    print(f"\n### {title}\n")
    if len(rows) == 1 and len(rows[0]) > _WIDE:
        rows = [{"": name, " ": value} for name, value in rows[0].items()]
    table = [list(rows[0]), *([_cell(row[name]) for name in rows[0]] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [" | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in table]
    print(f"| {lines[0]} |\n|" + "|".join("-" * (w + 2) for w in widths) + "|")
    print("\n".join(f"| {line} |" for line in lines[1:]))


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    text = f"{value:.2g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", "⏎")


if __name__ == "__main__":
    main()
