"""An atlas with a residual study, maps, probes and matches, written by hand: no model, every effect known."""

import numpy as np
import pyarrow as pa
from small_parts import filled, sae_tables

from atlas.disk.folder import Folder
from atlas.disk.parts import Manifest, write_part

RUN = "document/active/l2=0.001"
TARGET = "blocks.1.hook_resid_post"
EFFECTS = {"baseline": 0.0, "components": 0.0, "residual": -0.06, "token-means": -0.1}
REMOVED = {"baseline": 0.0, "residual": 0.4, "components": 0.4, "token-means": 0.5}
APART = 0.001  # increase of the removed share from one draw of components to the next
LAYERS = {"hook_embed": None, "blocks.0.hook_resid_post": 0, TARGET: 1}


def part(folder, kind, name, saes, tables, **more):
    return write_part(folder.part(kind, name), Manifest(kind, name, saes=saes, **more), tables)


def add_sae(folder, sae, features, *, counts, less=None, model="m"):
    """Write an SAE that reads the target, its statistics and its commonest tokens."""
    tables = dict(sae_tables(sae, features, model))
    sites = [
        {"id": f"{model}/{h}", "model": model, "hook": h, "layer": n} for h, n in LAYERS.items()
    ]
    tables["Site"] = filled("Site", "sae", sites)
    tables["OF_MODEL"] = filled(
        "OF_MODEL", "sae", [{"source": s["id"], "target": model} for s in sites]
    )
    tables["READS"] = filled("READS", "sae", [{"source": sae, "target": f"{model}/{TARGET}"}])
    row = {
        "name": sae,
        "d_sae": features,
        "model": model,
        "hook": TARGET,
        "less": less,
        "atlas": "u",
    }
    tables["SAE"] = filled("SAE", "sae", [row])
    part(folder, "sae", sae, (sae,), tables.items())
    ids = [f"{sae}/{i}" for i in range(features)]
    active = [int(sum(c)) for c in counts]
    part(
        folder,
        "statistics",
        sae,
        (sae,),
        [
            (
                "Feature",
                filled(
                    "Feature",
                    "statistics",
                    [
                        {"id": id, "active_tokens": n, "frequency": n / 1000, "dead": n == 0}
                        for id, n in zip(ids, active, strict=True)
                    ],
                ),
            ),
            ("SAE", filled("SAE", "statistics", [{"name": sae, "tokens": 1000, "l0": 4.0}])),
        ],
    )
    tokens = [{"id": f"t/{i}", "tokenizer": "t", "token_id": i, "text": f" w{i}"} for i in range(3)]
    fires = [
        {"source": id, "target": f"t/{rank}", "rank": rank, "count": int(n), "share": n / sum(c)}
        for id, c in zip(ids, counts, strict=True)
        for rank, n in enumerate(sorted(c, reverse=True)[:3])
        if n
    ]
    part(
        folder,
        "tokens",
        sae,
        (sae,),
        [
            ("Token", filled("Token", "tokens", tokens)),
            ("FIRES_ON", filled("FIRES_ON", "tokens", fires)),
            ("Feature", filled("Feature", "tokens", [{"id": id} for id in ids])),
        ],
    )


def add_probes(
    folder,
    sae,
    idx,
    *,
    scores,
    positives,
    draws,
    left_out,
    site="hook_embed",
    documents=40,
    model="m",
):
    rows = [
        {
            "source": f"{sae}/{i}",
            "target": f"{model}/{site}",
            "run": RUN,
            "split": "document",
            "kind": "active",
            "balanced_accuracy": s,
            "accuracy": 1 - p / 500,
            "positives": int(p),
            "tokens": 500,
            "token_table": s + 0.02,
            "token_ceiling": min(1.0, s + 0.1),
            "control": 0.52,
            "selectivity": s - 0.52,
            "shuffled": 0.5,
            "verdict": "token" if s > 0.8 else "context" if s < 0.7 else "undecided",
        }
        for i, s, p in zip(idx, scores, positives, strict=True)
    ]
    table = [
        ("PREDICTED_FROM", filled("PREDICTED_FROM", "probe", rows)),
        (
            "Site",
            filled(
                "Site",
                "sae",
                [
                    {
                        "id": f"{model}/{site}",
                        "model": model,
                        "hook": site,
                        "layer": LAYERS.get(site),
                    }
                ],
            ),
        ),
        ("OF_MODEL", filled("OF_MODEL", "sae", [{"source": f"{model}/{site}", "target": model}])),
    ]
    if draws is not None:
        lists = pa.array(list(draws.T.astype(np.float32)), pa.list_(pa.float32()))
        order = np.random.default_rng(0).permutation(len(idx))  # the order is not specified
        found = pa.table({"feature": pa.array(idx, pa.int64()), "balanced_accuracy": lists})
        table.append(("draws", found.take(order)))
    name = f"{sae}@{site}@document-active"
    sources = {"left_out": left_out}
    if documents is not None:  # probes of an earlier version do not store it
        sources["validated"] = {"documents": documents}
    part(
        folder,
        "probe",
        name,
        (sae,),
        table,
        sources=sources,
        settings={
            "kind": "active",
            "split": "document",
            "draws": 0 if draws is None else len(draws),
        },
    )


def scored(rng, features, *, mean, documents=40, draws=50):
    """Return scores, positives and draws of features whose score varies over documents."""
    weights = np.random.default_rng(7).multinomial(
        documents, [1 / documents] * documents, size=draws
    )
    positives = rng.integers(10, 200, features)
    by_document = mean + 0.05 * np.log10(positives)[:, None] - 0.1
    by_document = (
        by_document + rng.normal(0, 0.05, (features, 1)) + rng.normal(0, 0.1, (features, documents))
    )
    by_document = np.clip(by_document, 0.3, 1.0)
    return by_document.mean(axis=1), positives, weights @ by_document.T / documents


def add_maps(folder, model="m", *, r2=0.4):
    rows = [
        {
            "source": f"{model}/hook_embed",
            "target": f"{model}/{hook}",
            "run": "closed form/c0ffee",
            "method": "closed form",
            "corpus": "c0ffee",
            "tokens": 5000,
            "folds": 5,
            "r2": r2 - 0.1 * n - 0.05,
            "r2_weighted": r2 - 0.1 * n,
            "r2_low": r2 - 0.1 * n - 0.02,
            "r2_high": r2 - 0.1 * n + 0.02,
            "r2_in_sample_weighted": r2 - 0.1 * n + 0.05,
            "token_r2_weighted": r2 - 0.1 * n + 0.04,
            "token_eta2_weighted": r2 + 0.2,
            "token_omega2_weighted": r2 - 0.1 * n + 0.06,
            "r2_with_bos_weighted": 0.9,
            "r2_published": 0.93,
            "bos_share": 0.5,
            "mse": 1.5,
            "variance": 2.0,
            "seen_share": 0.97,
        }
        for n, hook in enumerate(h for h in LAYERS if h != "hook_embed")
    ]
    sites = [
        {"id": f"{model}/{h}", "model": model, "hook": h, "layer": n} for h, n in LAYERS.items()
    ]
    model_sources = {"model": {"name": model, "weights": None, "tokenizer": None}}
    part(
        folder,
        "transcoder",
        f"{model}@hook_embed",
        (),
        [
            ("MAPS_TO", filled("MAPS_TO", "transcoder", rows)),
            ("Site", filled("Site", "transcoder", sites)),
            (
                "OF_MODEL",
                filled(
                    "OF_MODEL", "transcoder", [{"source": s["id"], "target": model} for s in sites]
                ),
            ),
        ],
        sources=model_sources,
    )


def add_matches(folder, one, other, pairs):
    a, b = sorted((one, other))
    rows = [
        {"source": f"{a}/{i}", "target": f"{b}/{j}", "pearson": r, "one_to_one": True, "q": q}
        for i, j, r, q in pairs
    ]
    part(
        folder,
        "match",
        f"{a}@{b}",
        (a, b),
        [
            ("MATCHES", filled("MATCHES", "match", rows)),
            (
                "COMPARED_WITH",
                filled(
                    "COMPARED_WITH",
                    "match",
                    [{"source": a, "target": b, "null_threshold": 0.1, "draws": 99}],
                ),
            ),
        ],
    )


def add_marks(folder, sae, *, rng, shift, features=40, detection=0.7, agreement=0.0, settings=None):
    """Write the marks of an SAE.

    ``shift`` is added to the detection score and to top_share, ``agreement`` to the agreement
    and to its control.
    """
    mark = {
        "top_share": 0.3 + shift + rng.normal(0, 0.05, features),
        "entropy": 4 + rng.normal(0, 0.5, features),
        "context_dependence": 0.5 + rng.normal(0, 0.05, features),
        "agreement": 0.2 + agreement + rng.normal(0, 0.05, features),
        "agreement_control": np.full(features, 0.01 + agreement),
        "detection": detection + shift + rng.normal(0, 0.02, features),
        "detection_control": np.full(features, 0.5),
    }
    counts = rng.integers(20, 400, features)
    table = {
        "feature": np.arange(features),
        "active_tokens": 2 * counts,
        "positives": counts,
        **mark,
    }
    part(
        folder,
        "interpretability",
        sae,
        (sae,),
        [("marks", pa.table(table))],
        settings={"examples": 50, "words": 10, "min_active": 20, "seed": 0} | (settings or {}),
        sources={"left_out": 0},
    )


def study_atlas(
    path,
    *,
    seeds=6,
    features=60,
    effects=EFFECTS,
    draws=50,
    rng=0,
    source="hook_embed",
    passing=None,
    documents=40,
    version=3,
    shrunk=None,
):
    """Return the folder of an atlas with a study of all arms, probed, mapped and matched."""
    folder, rng = Folder.create(path), np.random.default_rng(rng)
    folder.set_corpus({"id": "c0ffee", "name": "text", "documents": 80})
    arms = []
    for seed in range(seeds):
        for arm, effect in effects.items():
            for draw in range(2) if arm == "components" else (None,):
                sae = f"{arm}-s{seed}" + ("" if draw is None else f"-d{draw}")
                counts = rng.integers(1, 40, (features, 4))
                counts[0] = 0  # dead
                add_sae(
                    folder, sae, features, counts=counts, less=None if arm == "baseline" else arm
                )
                shift = effect + rng.normal(0, 0.01)
                passed = (passing or {}).get(arm, features * 2 // 3)
                idx = np.sort(rng.choice(np.arange(1, features), passed, replace=False))
                score, positives, drawn = scored(
                    rng, len(idx), mean=0.75 + shift, draws=max(draws, 1)
                )
                add_probes(
                    folder,
                    sae,
                    idx.tolist(),
                    scores=score,
                    positives=positives,
                    draws=drawn if draws else None,
                    left_out={
                        "never active": 1,
                        "active on fewer than 10 tokens of a side": features - len(idx) - 1,
                    },
                    site=source,
                    documents=documents,
                )
                arms.append(
                    {
                        "sae": sae,
                        "arm": arm,
                        "seed": seed,
                        "draw": draw,
                        "k": 8,
                        "d_sae": features,
                        "train_tokens": 10_000,
                        "steps": 100,
                        "final_loss": 0.5 + seed / 100,
                        "input_variance": 1.0,
                        "train_documents": 30,
                        "removed_share": REMOVED[arm] + (draw or 0) * APART,
                    }
                )
    split = [{"role": r, "documents": 10, "tokens": 4000} for r in ("transcoder", "sae", "probe")]
    saes = tuple(row["sae"] for row in arms)
    part(
        folder,
        "residual",
        "study",
        saes,
        [("arms", pa.Table.from_pylist(arms)), ("split", pa.Table.from_pylist(split))],
        settings={"source": source, "target": TARGET, "seeds": seeds, "draws": 2, "match": None}
        | {"k": 8},
        sources={
            "model": {"source": "a folder/m", "weights": "w"},
            "text": {"source": "my text's.jsonl", "field": "body", "split_on": "line"},
        }
        | ({} if shrunk is None else {"token_means": {"shrunk": shrunk}}),
        version=version,
    )
    add_maps(folder)
    add_matches(
        folder,
        "baseline-s0",
        "residual-s0",
        [(1, 2, 0.9, 0.01), (3, 4, 0.5, 0.01), (5, 6, 0.2, 0.9)],
    )
    if seeds > 1:
        add_matches(folder, "baseline-s0", "baseline-s1", [(i, i, 0.8, 0.01) for i in range(1, 21)])
    return folder
