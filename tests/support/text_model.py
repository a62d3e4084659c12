"""A tiny BERT with a tokeniser, and data for every suite, in folders as real ones have them, for the tests of text runs."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from ncsim.text.model.bert import BertConfig
from tests.support import text_sources

FOLDER = Path(__file__).parents[1] / "fixtures" / "tiny_bert"
#: The shape of the recorded tiny BERT.
TINY = BertConfig(
    vocab_size=97, hidden_size=32, layers=2, heads=4, intermediate_size=64, max_positions=32, layer_norm_eps=1e-12
)


def write_model_and_data(folder):
    """folder/model: the recorded tiny BERT with as many words as the tokeniser has; folder/data: the official files."""
    vocabulary = text_sources.write_tokenizer(folder / "model")
    tensors = load_file(FOLDER / "model.safetensors")
    (name,) = (name for name in tensors if name.endswith("word_embeddings.weight"))
    tensors[name] = np.resize(tensors[name], (vocabulary, tensors[name].shape[1]))
    save_file(tensors, folder / "model" / "model.safetensors")
    sizes = json.loads((FOLDER / "config.json").read_text()) | {"vocab_size": vocabulary}
    (folder / "model" / "config.json").write_text(json.dumps(sizes))
    (folder / "data").mkdir()
    text_sources.write_sources(folder / "data")
    return folder
