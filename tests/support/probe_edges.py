"""Atlases with probes of which every number is known."""

import random

from small_parts import filled, sae_tables, write_statistics

from analysis.probe import tables
from atlas.disk.folder import Folder
from atlas.disk.parts import Manifest, write_part

DOCUMENT, TYPE, HOW_MUCH = (
    "document/active/l2=0.001",
    "type/active/l2=0.001",
    "document/activation/l2=0.001",
)


EMBED, FIRST, SECOND = "hook_embed", "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"


def edge(sae, idx, site=EMBED, run=DOCUMENT, **columns):
    """Return a PREDICTED_FROM row; columns that are not passed are null."""
    split, kind, _ = run.split("/")
    return {
        "source": f"{sae}/{idx}",
        "target": f"m/{site}",
        "run": run,
        "split": split,
        "kind": kind,
        "converged": True,
        **columns,
    }


def made_atlas(path, edges, *, counts=None, hooks=None):
    """Return an atlas of SAEs of which `edges` probe features; `hooks` has the site that each SAE reads."""
    folder = Folder.create(path)
    folder.set_corpus({"id": "c0ffee", "name": "text", "documents": 3})
    counts = counts or {"one": [5, 0, 2]}
    for sae, active in counts.items():
        hook = (hooks or {}).get(sae, EMBED)
        tables = dict(sae_tables(sae, len(active)))
        site = {"id": f"m/{hook}", "model": "m", "hook": hook, "layer": layer_of(hook)}
        tables["Site"] = filled("Site", "sae", [site])
        tables["OF_MODEL"] = filled("OF_MODEL", "sae", [{"source": site["id"], "target": "m"}])
        tables["READS"] = filled("READS", "sae", [{"source": sae, "target": site["id"]}])
        part = write_part(
            folder.part("sae", sae), Manifest("sae", sae, saes=(sae,)), tables.items()
        )
        write_statistics(folder, part, active)
    targets = sorted({(e["source"].split("/")[0], e["target"]) for e in edges})
    for sae, target in targets:
        rows = [e for e in edges if e["source"].startswith(sae + "/") and e["target"] == target]
        write_probes(folder, sae, target, rows)
    return path


def layer_of(hook):
    return None if hook == EMBED else int(hook.split(".")[1])


def write_probes(folder, sae, target, rows):
    hook = target.split("/")[1]
    site = {"id": target, "model": "m", "hook": hook, "layer": layer_of(hook)}
    name = f"{sae}@{hook}@probes"
    write_part(
        folder.part("probe", name),
        Manifest("probe", name, saes=(sae,)),
        [
            ("PREDICTED_FROM", filled("PREDICTED_FROM", "probe", rows)),
            ("Site", filled("Site", "sae", [site])),
            ("OF_MODEL", filled("OF_MODEL", "sae", [{"source": target, "target": "m"}])),
        ],
    )


SHARES = (
    "accuracy",
    "balanced_accuracy",
    "train_balanced_accuracy",
    "token_table",
    "token_ceiling",
    "control",
    "shuffled",
    "auroc",
    "seen_share",
)


def random_edges(seed, *, saes=("one",), features=40, sites=(EMBED,), runs=(DOCUMENT, TYPE)):
    rng = random.Random(seed)
    values = [0.4, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0]  # the bounds of the steps
    for sae in saes:
        for idx in range(features):
            for site in sites:
                for run in runs:
                    shares = {
                        name: rng.choice([*values, rng.uniform(0.3, 1), None]) for name in SHARES
                    }
                    yield edge(
                        sae,
                        idx,
                        site,
                        run,
                        **shares,
                        train_loss=rng.random(),
                        loss=rng.random(),
                        positives=rng.randint(1, 20),
                        tokens=100,
                        verdict=rng.choice([*tables.VERDICTS, None]),
                        converged=rng.choice([True, False, None]),
                    )
