"""A run over another encoder than BERT, with other targets: what is left out is named, and adapters are PEFT's."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ncsim.errors import ConfigError
from ncsim.text.config import TextConfig
from ncsim.text.model.adapter_files import load_adapter
from ncsim.text.model.checkpoint import load_backbone
from ncsim.text.run import run_text
from tests.support.text_model import write_model_and_data

pytestmark = pytest.mark.usefixtures("quickly")

NAMES = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}


@pytest.fixture
def files(tmp_path):
    """The tiny BERT as a DistilBERT with a classifier, and data."""
    write_model_and_data(tmp_path)
    model = tmp_path / "model"
    tensors = {"classifier.weight": np.zeros((2, 32), np.float32)}
    for name, tensor in load_file(model / "model.safetensors").items():
        for ours, theirs in NAMES.items():
            name = re.sub(rf"(layer\.\d+\.){re.escape(ours)}", rf"\1{theirs}", name)
        if "token_type" not in name and "pooler" not in name:
            tensors["distilbert." + name.replace("encoder.", "transformer.")] = tensor
    save_file(tensors, model / "model.safetensors")
    bert = json.loads((model / "config.json").read_text())
    sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "model_type": "distilbert"}
    sizes |= {name: bert[name] for name in ("vocab_size", "max_position_embeddings")}
    (model / "config.json").write_text(json.dumps(sizes))
    return tmp_path


@pytest.mark.thorough
def test_a_distilbert_with_other_targets(files, capsys):
    options = {"model": str(files / "model"), "suite": "multilingual", "ranks": (2,), "epochs": 1, "batch_size": 2}
    options |= {"length": 12, "items": 4, "test_items": 4, "target_modules": ("query", "output.dense")}
    places = (files / "run", files / "data", files / "cache")
    with pytest.raises(ConfigError, match=r"^--pooling: 'pooler', but the checkpoint has no pooler; allowed: cls$"):
        run_text(TextConfig(**options), *places)
    assert not (files / "run").exists()
    assert run_text(TextConfig(**options, pooling="cls"), *places).missing() == 0
    assert "--model: left out 1 tensor outside its encoder: classifier.weight" in capsys.readouterr().err
    stored = json.loads((files / "run" / "config.json").read_text())
    assert stored["backbone"]["left_out"] == ["classifier.weight"]
    adapter = files / "run" / "adapters" / "rank=2" / "seed=0" / "context=11"
    assert json.loads((adapter / "adapter_config.json").read_text())["target_modules"] == [
        *("attention.q_lin", "attention.out_lin", "ffn.lin2"),
    ]
    names = set(load_file(adapter / "adapter_model.safetensors"))
    assert "base_model.model.transformer.layer.1.ffn.lin2.lora_B.weight" in names
    layers = load_adapter(adapter, load_backbone(files / "model")[0]).adapter["lora"]["layers"]
    assert {(block, product) for block in layers for product in layers[block]} == {
        *(("attention", "query"), ("attention", "output"), ("feed_forward", "outer")),
    }
    assert all(pair["b"].any() for block in layers.values() for pair in block.values())
