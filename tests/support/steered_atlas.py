"""A small atlas of a random-weight model, whose tokenizer knows digits and the prompts of the tasks."""

from itertools import chain

import small_ingest
import torch
import transformers
from random_models import random_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from analysis.steering.tasks import read_task, task_names
from ingest.forward.run import ingest
from ingest.sae.autoencoder import open_sae

VOCABULARY = 420


def task_texts():
    """The prompts of all tasks of the package."""
    tasks = [read_task(name) for name in task_names()]
    return list(
        chain.from_iterable(
            [t.prompt + t.targets[0] for t in task.tests] + [*task.positive, *task.negative]
            for task in tasks
        )
    )


def tokenizer():
    """A byte-level tokenizer of all bytes, trained on the prompts; ids 0, 1, 2 are special."""
    found = Tokenizer(models.BPE(unk_token="<unk>"))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<bos>", "<eos>", "<unk>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    found.train_from_iterator(task_texts(), trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=found, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


def write(path, family="llama"):
    """Write the atlas; return its model, tokenizer and SAEs ``middle`` (block 1) and ``last`` (block 2)."""
    causal = random_model(family, vocab_size=VOCABULARY)
    causal.generation_config.eos_token_id = None
    own = tokenizer()
    saes = []
    for layer, name in ((1, "middle"), (2, "last")):
        sae = small_ingest.topk(hook=f"blocks.{layer}.hook_resid_post", seed=layer)
        if name == "last":
            plant(sae, causal, own)
        saes.append(open_sae(sae, name=name))
    texts = [f"{text}. {text}" for text in task_texts()[:60]]
    ingest(path, saes=saes, text=texts, model=causal, tokenizer=own, match=None)
    return causal, own, saes


def plant(sae, causal, own):
    """Let feature 0 of an SAE be active often, and write a direction whose top token is " happy"."""
    gain = causal.base_model.norm.weight + (causal.config.model_type == "gemma2")
    (token, *_) = own(" happy", add_special_tokens=False)["input_ids"]
    head = causal.get_output_embeddings().weight
    with torch.no_grad():
        while int((head @ (gain * gain * head[token])).argmax()) != token:
            head[token] *= 1.2
        sae.W_dec[0] = gain * head[token] / (gain * head[token]).norm()
        sae.b_enc[0] = 3.0
