"""Sparse autoencoders of the demo: which ones, their training by ``atlas train``, and their quality."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from demo_models import CONTEXT

from atlas.progress import Bars
from ingest import TrainSettings, train_saes
from ingest.model.language_model import open_model
from ingest.model.next_token import open_next_token_model
from ingest.sae.autoencoder import open_sae
from ingest.text.atlas_corpus import Text
from ingest.text.corpus import Document
from ingest.text.tokenization import ContextSettings
from ingest.train.quality import quality

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ingest.train.settings import Floor

TOKENS = 2_000_000
K = 20
QUALITY_TOKENS = 40_000
BATCH_TOKENS = 4096
RESIDUAL_0, RESIDUAL_1, MLP_1 = (
    "blocks.0.hook_resid_post",
    "blocks.1.hook_resid_post",
    "blocks.1.hook_mlp_out",
)
MEASURED = ("tokens", "fvu", "l0", "dead_share", "ce_spliced", "recovered_mean", "kl_spliced")
OF_SITE = ("ce_model", "ce_zero", "ce_mean")


@dataclass(frozen=True)
class DemoSae:
    """One SAE of the demo.

    Parameters
    ----------
    name
        Name of its folder.
    model
        Name of the demo model that it reads.
    site
        Site that it reads, by its TransformerLens name.
    width
        Number of features.
    seed
        Seed of the weights and of the order of the activations.
    floor
        The kind of floor; None for a trained SAE.
    floor_of
        Name of the trained SAE of which it is a floor; None for a trained SAE.
    """

    name: str
    model: str
    site: str
    width: int = 512
    seed: int = 0
    floor: Floor | None = None
    floor_of: str | None = None

    @property
    def settings(self) -> TrainSettings:
        """The settings of its training; those of a floor train the SAE that it is a floor of, too."""
        return TrainSettings(
            sites=(self.site,),
            widths=(self.width,),
            seeds=(self.seed,),
            k=(K,),
            baselines=None if self.floor is None else (self.floor,),
            tokens=TOKENS,
            context=CONTEXT,
            quality_tokens=0,
            device="cpu",
        )


SAES = (
    DemoSae("tiny-a-l1-s0", "tiny-a", RESIDUAL_1),
    DemoSae(
        "tiny-a-l1-s0-frozen",
        "tiny-a",
        RESIDUAL_1,
        floor="frozen-decoder",
        floor_of="tiny-a-l1-s0",
    ),
    DemoSae("tiny-a-l1-s1", "tiny-a", RESIDUAL_1, seed=1),
    DemoSae("tiny-a-l1-wide", "tiny-a", RESIDUAL_1, width=1024),
    DemoSae("tiny-a-l1-mlp", "tiny-a", MLP_1),
    DemoSae("tiny-a-l0-s0", "tiny-a", RESIDUAL_0),
    DemoSae("tiny-b-l1-s0", "tiny-b", RESIDUAL_1),
)


def make_sae(one: DemoSae, stories: Sequence[str], out: Path, *, training: Path) -> None:
    """Train one SAE as ``atlas train`` does, and copy it to the demo under its short name.

    Parameters
    ----------
    one
        The SAE.
    stories
        Training stories; they are read only as far as the tokens need it.
    out
        Folder of the demo, with the model.
    training
        Folder of ``atlas train``. SAEs that are finished in it are not trained again.
    """
    # The name of the model is recorded as its source, not the folder on this machine.
    model = open_model(out / "models" / one.model, hooks=[one.site], device="cpu")
    rows = train_saes(
        training,
        model=replace(model, source=one.model),
        text=Text(stories, name="stories3M-samples"),
        settings=one.settings,
        progress=Bars(),
    )
    role = one.floor or "trained"
    (trained,) = (training / row["sae"] for row in rows if row["role"] == role)
    folder = out / "saes" / one.name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(trained, folder)
    record = folder / "training.json"
    content = json.loads(record.read_text("utf-8")) | {"floor_of": one.floor_of}
    record.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
    for path in folder.iterdir():
        path.chmod(0o644)


def measure(saes: Sequence[DemoSae], held_out: Sequence[str], out: Path) -> dict[str, Any]:
    """Measure the SAEs of one model on held-out stories.

    Parameters
    ----------
    saes
        SAEs of one model.
    held_out
        Held-out stories.
    out
        Folder of the demo, with the model and the SAEs.

    Returns
    -------
    The facts on each SAE, by its name: what it is, and the columns of the table of
    ``atlas train``. Losses and divergences are in nats per token.
    """
    folder = out / "models" / saes[0].model
    model = open_model(folder, hooks=sorted({one.site for one in saes}), device="cpu")
    rows = quality(
        [open_sae(out / "saes" / one.name, device=model.device) for one in saes],
        [Document(number, text) for number, text in enumerate(held_out)],
        model=model,
        head=open_next_token_model(model, folder),
        contexts=ContextSettings(CONTEXT, prepend_bos=True),
        batch_tokens=BATCH_TOKENS,
        most=QUALITY_TOKENS,
        progress=Bars(),
    )
    return {
        one.name: {
            "model": one.model,
            "site": one.site,
            "role": one.floor or "trained",
            "floor_of": one.floor_of,
            "features": one.width,
            "seed": one.seed,
            "tokens_trained": TOKENS // one.settings.batch * one.settings.batch,
        }
        | {name: round(row[name], 4) for name in (*MEASURED, *OF_SITE)}
        for one, row in zip(saes, rows, strict=True)
    }
