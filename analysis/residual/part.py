"""Write the part of a residual study: settings, origins, SAEs, and the split of documents."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from analysis.residual.settings import DEMO_TEXT
from analysis.residual.split import ROLES, Divided, Role
from analysis.residual.study_context import StudyContext
from analysis.residual.train import Arm, Facts
from atlas.parts import Manifest, write_part
from ingest.demo.build import demo_text
from ingest.text.atlas_corpus import Text
from ingest.text.corpus import Corpus, CorpusInfo

__all__ = ["STUDY", "text_settings", "write_study"]

STUDY = "residual"
"""Kind of the part of a residual study."""

#: Increased when the same texts and settings give other numbers. Token means were not shrunk in
#: version 1, and only towards the overall mean in version 2.
VERSION = 3


def write_study(
    study: StudyContext, divided: Divided, trained: Mapping[str, tuple[Arm, Facts]]
) -> list[dict[str, Any]]:
    """Write the study's part, and return the rows of its table of SAEs with their measurements."""
    parts = study.folder.sound().parts
    manifests = {name: parts[f"sae/{name}"].manifest for name in trained}
    arms = [
        {"sae": name, "arm": arm.name, "seed": arm.seed, "draw": arm.draw, "k": study.settings.k,
         **asdict(facts)}
        for name, (arm, facts) in trained.items()
    ]  # fmt: skip
    model = study.reader.model
    settings = asdict(study.settings) | {
        "probe": asdict(study.probe),
        "match": None if study.match is None else asdict(study.match),
        "model": model.name,
        "contexts": asdict(study.reader.contexts),
        "device": study.device,
    }
    manifest = Manifest(
        kind=STUDY,
        name=study.name,
        version=VERSION,
        saes=tuple(trained),
        settings=settings,
        seed=study.settings.split_seed,
        sources={
            "model": {"name": model.name, "source": model.source, "revision": model.revision,
                      "weights": model.weights,
                      "parameters": list(model.parameters([study.reader.source, study.reader.target]))},
            "text": text_settings(study.text),
            **{role: {"corpus": info.id, "source": info.source}
               for role, info in _infos(study, divided).items()},
            "left_out": {"documents in the atlas already": divided.left_out},
            "token_means": {"shrunk": next(
                (f.shrunk for arm, f in trained.values() if arm.name == "token-means"), None
            )},
        },
        dtypes={"model": model.dtype, "sae": "float32", "device": model.device.type},
        made_from={m.key: m.hash for m in manifests.values()},
    )  # fmt: skip
    counted = parts[f"statistics/{next(iter(trained))}"].table("SAE")["tokens"][0].as_py()
    tables = [("arms", _arms_table(arms)), ("split", _split_table(study, divided, counted))]
    write_part(study.folder.part(STUDY, study.name), manifest, tables)
    return [row | _measured(parts, row["sae"]) for row in arms]


def text_settings(text: Text) -> dict[str, Any]:
    """Return the user's description of the text, so that the text can be read again."""
    source = str(text.source) if isinstance(text.source, str | Path) else "memory"
    if source == str(demo_text().source):
        source = DEMO_TEXT
    return {
        "source": source, "name": text.name, "field": text.field, "split": text.split,
        "revision": text.revision, "split_on": text.split_on,
    }  # fmt: skip


def _measured(parts: Mapping[str, Any], sae: str) -> dict[str, Any]:
    """Return FVU, L0 and share of dead features of an SAE."""
    fvu = parts[f"fidelity/{sae}"].table("SAE")["fvu"][0].as_py()
    (row,) = parts[f"statistics/{sae}"].table("SAE").to_pylist()
    return {"fvu": fvu} | {name: row[name] for name in ("l0", "dead_share")}


def _arms_table(rows: list[dict[str, Any]]) -> pa.Table:
    kinds = {"sae": pa.string(), "arm": pa.string(), "final_loss": pa.float64(),
             "input_variance": pa.float64(), "removed_share": pa.float64(), "shrunk": pa.float64()}  # fmt: skip
    return pa.Table.from_pylist(
        rows, schema=pa.schema([(name, kinds.get(name, pa.int64())) for name in rows[0]])
    )


def _infos(study: StudyContext, divided: Divided) -> dict[Role, CorpusInfo]:
    """Return the corpus record of each role; the role ``corpus`` is stored in the atlas by now."""
    own = Corpus.open(study.folder.corpus_file)
    return {role: divided.corpora.get(role, own).info for role in ROLES[:-1]} | {
        ROLES[-1]: own.info
    }


def _split_table(study: StudyContext, divided: Divided, counted: int) -> pa.Table:
    """Return the table of roles, with documents and tokens of each."""
    rows = [
        {"role": role, "documents": info.documents, "tokens": divided.tokens.get(role, counted)}
        for role, info in _infos(study, divided).items()
    ]
    kinds = [("role", pa.string()), ("documents", pa.int64()), ("tokens", pa.int64())]
    return pa.Table.from_pylist(rows, schema=pa.schema(kinds))
