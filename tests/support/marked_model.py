"""A light model and SAEs for workers; in a worker, it does something odd over a marked text.

What a worker unpickles it imports: these need torch and a tokenizer, neither a transformers
model nor sae-lens, which take seconds to import in each worker.
"""

import os
import signal
import time
from dataclasses import dataclass, fields
from types import SimpleNamespace

import torch

from ingest.model.language_model import LanguageModel, Site
from ingest.sae.autoencoder import Autoencoder

WIDTH = 24
BLOCKS = 4
MARKED_BLOCK = 2


@dataclass(frozen=True, eq=False, kw_only=True)
class Marked(LanguageModel):
    """Reads an embedding; if a text repeats one word, does ``act`` first."""

    act: str
    driver: int
    here: str

    def site(self, hook):
        return Site(hook, 1, WIDTH)

    def run(self, input_ids, attention_mask, *, hooks):
        with torch.inference_mode():
            x = self.base(input_ids)
        if self.act and os.getpid() != self.driver and self._marked(input_ids):
            if self.act == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.act == "refuse":
                raise ZeroDivisionError("the model would not")
            if self.act == "nan":
                x = x * float("nan")
            if self.act == "wait" and not os.path.exists(self.here):  # the first time
                self._write_process()
                time.sleep(3600)  # it is killed before
        return dict.fromkeys(hooks, x)

    def _marked(self, input_ids):
        few = [row for row in input_ids if len(set(row.tolist())) < 8]  # decoding is slow
        return any(self.tokenizer.decode(row).count("she") > 4 for row in few)

    def _write_process(self):
        with open(self.here + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(self.here + ".new", self.here)


class Light(torch.nn.Module):
    """Encodes and decodes as sae-lens' standard SAE does."""

    def __init__(self, seed):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.W = torch.nn.Parameter(torch.randn(WIDTH, 40, generator=draw), requires_grad=False)
        self.b_dec = torch.nn.Parameter(torch.zeros(WIDTH), requires_grad=False)

    def encode(self, x):
        return torch.relu(x @ self.W - 4)

    def decode(self, z):
        return z @ self.W.T + self.b_dec


def marked(act="", here=""):
    """Return the model, which does ``act`` in a worker; the file ``here`` contains its process id."""
    from small_ingest import model

    plain = model()
    base = torch.nn.Embedding.from_pretrained(
        torch.randn(96, WIDTH, generator=torch.Generator().manual_seed(0))
    )
    base.config = SimpleNamespace(max_position_embeddings=64)
    own = {f.name: getattr(plain, f.name) for f in fields(plain)} | {"base": base}
    return Marked(**own, act=act, driver=os.getpid(), here=str(here))


def light_saes():
    """Return two SAEs."""
    from small_ingest import topk

    from ingest.sae.autoencoder import open_sae

    infos = [open_sae(topk(seed=seed), name=f"light{seed}").info for seed in (0, 1)]
    return [Autoencoder(info, Light(seed)) for seed, info in enumerate(infos)]


def documents():
    """Return texts of four blocks; one in the third is marked."""
    from small_ingest import texts

    found = texts(600, seed=5, words=(50, 120))
    found[400] = "she " * 40
    return found
