"""Every family of encoders, and PEFT's adapters of them, against what torch made of the same weights, recorded."""

import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from ncsim.text.model.adapter_files import load_adapter, save_adapter
from ncsim.text.model.bert import Bert
from ncsim.text.model.checkpoint import load_backbone, tensors_left_out

FIXTURES = Path(__file__).parents[2] / "fixtures"
QUICK = {"xla_backend_optimization_level": 0}
FAMILIES = ("camembert", "distilbert", "electra", "roberta", "xlm-roberta")


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def outputs(config, variables, batch, scale=1.0):
    bert = Bert(config)
    return bert.apply(variables, *batch, scale), bert.first_token(variables, *batch, scale)


def compare(config, variables, recorded, scale=1.0):
    """Hidden states, the pooler and the first token alone are torch's, at padding too."""
    batch = tuple(recorded[name] for name in ("ids", "mask", "types"))
    (hidden, pooled), (first, pooled_first) = outputs(config, variables, batch, scale)
    np.testing.assert_allclose(hidden, recorded["hidden"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(first, recorded["hidden"][:, 0], atol=1e-5, rtol=0)
    assert np.abs(recorded["hidden"]).mean() > 0.3
    if "pooled" in recorded:
        np.testing.assert_allclose(pooled, recorded["pooled"], atol=1e-5, rtol=0)
        np.testing.assert_allclose(pooled_first, recorded["pooled"], atol=1e-5, rtol=0)
    return hidden


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_are_torchs(family):
    folder = FIXTURES / "families" / family
    config, backbone = load_backbone(folder)
    recorded = load_file(folder / "reference.safetensors")
    assert config.model_type == family
    assert config.pooler == ("pooled" in recorded) == (family == "xlm-roberta")
    assert recorded["mask"].min() == 0, "the reference has padded sequences"
    hidden = compare(config, {"params": backbone}, recorded)
    # A model without segments does not read them.
    batch = (recorded["ids"], recorded["mask"], recorded["types"] + 1)
    (other, _), _ = outputs(config, {"params": backbone}, batch)
    assert np.array_equal(hidden, other) == (family != "electra") == (not config.reads_segments)


def test_what_a_family_has_and_leaves_out():
    found = {family: load_backbone(FIXTURES / "families" / family)[0] for family in FAMILIES}
    assert {config.max_positions for config in found.values()} == {12, 14}
    assert [name for name, config in found.items() if config.pad_id == 1] == ["camembert", "roberta", "xlm-roberta"]
    assert [name for name, config in found.items() if config.embedding_size == 8] == ["electra"]
    left_out = {family: tensors_left_out(FIXTURES / "families" / family) for family in FAMILIES}
    assert left_out["xlm-roberta"] == []
    assert sorted(left_out["camembert"]) == ["classifier.bias", "classifier.weight"]
    assert "pre_classifier.weight" in left_out["distilbert"]
    assert all(name.startswith("lm_head.") for name in left_out["roberta"])


ADAPTERS = {
    "everything": ("tiny_bert", 3, True, ()),
    "patterns": ("tiny_bert", 2, True, ()),
    "one-layer": ("tiny_bert", 2, False, ()),
    "distilbert": ("families/distilbert", 2, False, ()),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_pefts_adapters_compute_what_peft_did(name, tmp_path):
    folder, rank, heads, left_out = ADAPTERS[name]
    config, backbone = load_backbone(FIXTURES / folder)
    stored = load_adapter(FIXTURES / "peft" / name, config)
    assert (stored.rank, "heads" in stored.adapter, stored.left_out) == (rank, heads, left_out)
    recorded = load_file(FIXTURES / "peft" / name / "reference.safetensors")
    compare(config, {"params": backbone, "lora": stored.adapter["lora"]}, recorded, stored.scale)
    if heads:
        tensors = load_file(FIXTURES / "peft" / name / "adapter_model.safetensors")
        (weight,) = (tensor for key, tensor in tensors.items() if key.endswith("classifier.weight"))
        np.testing.assert_array_equal(stored.adapter["heads"]["kernel"][0].T, weight)
    # Written again by us, it is the same adapter.
    heads = {"kernel": np.zeros((1, config.hidden_size, 2)), "bias": np.zeros((1, 2))}
    save_adapter(tmp_path, {"heads": heads} | stored.adapter, rank=rank, alpha=stored.alpha, model_type=config.model_type)
    again = load_adapter(tmp_path, config)
    assert again.scale == stored.scale
    jax.tree.map(np.testing.assert_array_equal, again.adapter["lora"], stored.adapter["lora"])
    targets = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    if name == "distilbert":
        assert targets == ["attention.q_lin", "ffn.lin2"]
