"""A hand-built model of two blocks without norms, whose circuit is known exactly, and SAEs that read it."""

import torch
from sae_lens import StandardSAE, StandardSAEConfig
from small_ingest import metadata
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

WIDTH = 64
FIRST, SECOND = "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"

#: Features of the first SAE read dimensions 0 to 7 of the stream; those of the second read
#: dimension 4, which the second block passes on, and what that block writes from 16 on.
SOURCES, TARGETS = 8, 6

#: (source, target): change of the target's activation by a unit of the source.
CIRCUIT = {(0, 0): 2.0, (1, 1): -1.5, (2, 1): 3.0, (3, 3): 1.0, (4, 4): 1.0}


class CircuitConfig(PretrainedConfig):
    model_type = "circuit"

    def __init__(self, vocab_size=40, **more):
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, WIDTH, 2
        super().__init__(**more)


class Block(nn.Module):
    """Adds out(relu(into(x) + bias)) of the token, and shift(x) of the token before."""

    def __init__(self, hidden=WIDTH):
        super().__init__()
        self.into = nn.Linear(WIDTH, hidden)
        self.out = nn.Linear(hidden, WIDTH, bias=False)
        self.shift = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x):
        before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
        return x + self.out(torch.relu(self.into(x))) + self.shift(before)


class Circuit(PreTrainedModel):
    config_class = CircuitConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, WIDTH)
        self.layers = nn.ModuleList([Block(), Block()])
        self.lm_head = nn.Linear(WIDTH, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.embed

    def get_output_embeddings(self):
        return self.lm_head

    def forward(self, input_ids, attention_mask=None, use_cache=None, logits_to_keep=0, **_):
        x = self.embed(input_ids)
        for block in self.layers:
            x = block(x)
        return CausalLMOutputWithPast(logits=self.lm_head(x[:, -logits_to_keep:]))


def blank(seed=0):
    """Return a model whose blocks pass on the stream, and whose tokens switch random features on."""
    torch.manual_seed(seed)
    model = Circuit(CircuitConfig()).eval().requires_grad_(False)
    for block in model.layers:
        for parameter in block.parameters():
            parameter.zero_()
    model.embed.weight.zero_()
    on = torch.rand(40, SOURCES) < 0.4
    model.embed.weight[:, :SOURCES] = on * (0.5 + torch.rand(40, SOURCES))
    model.lm_head.weight.copy_(torch.randn(40, WIDTH) * 0.05)
    return model


def circuit_model(*, redundant=False):
    """Return a model with ``CIRCUIT``; source 3 acts on the next token through the second block.

    Target 1 is active without its sources too. If ``redundant``, sources 5 and 6 are active at all
    tokens, and either alone is enough for target 5.
    """
    model = blank()
    second = model.layers[1]
    second.into.bias[1] = 6.0  # so targets 1 and 3 stay above 0
    for neuron, (source, target) in enumerate([(0, 0), (1, 1), (2, 1)], start=2):
        second.into.weight[neuron, source] = 1.0
        second.out.weight[16 + target, neuron] = CIRCUIT[source, target]
    second.out.weight[16 + 1, 1] = second.out.weight[16 + 3, 1] = 1.0
    second.shift.weight[16 + 3, 3] = CIRCUIT[3, 3]
    if redundant:
        model.embed.weight[:, 5:7] = 2.0
        for neuron, bias in ((8, 0.0), (9, -1.0)):
            second.into.weight[neuron, 5:7] = 1.0
            second.into.bias[neuron] = bias
        second.out.weight[16 + 5, 8], second.out.weight[16 + 5, 9] = 3.0, -3.0
    return model


def sae_of(hook, rows, *, encoder=None):
    """Return an SAE that reads and writes some rows, each a direction of the stream."""
    config = StandardSAEConfig(d_in=WIDTH, d_sae=len(rows), metadata=metadata(hook))
    sae = StandardSAE(config)
    with torch.no_grad():
        sae.W_dec.copy_(rows)
        sae.W_enc.copy_((rows if encoder is None else encoder).T)
        sae.b_enc.zero_()
        sae.b_dec.zero_()
    return sae.eval()


def circuit_saes():
    """Return the SAE of the sources and that of the targets."""
    unit = torch.eye(WIDTH)
    targets = torch.stack([unit[16], unit[17], unit[18], unit[19], unit[4], unit[21]])
    return sae_of(FIRST, unit[:SOURCES]), sae_of(SECOND, targets)
