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
from ncsim.text.model.packing import Packed
from tests.support.cases import first_fast
from tests.support.quick import QUICK

FIXTURES = Path(__file__).parents[2] / "fixtures"
FAMILIES = ("camembert", "distilbert", "electra", "roberta", "xlm-roberta")


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def outputs(config, variables, batch, scale=1.0):
    bert = Bert(config)
    first = bert.first_tokens(variables, Packed.of(*batch), scale)
    return bert.apply(variables, *batch, scale), jax.tree.map(lambda each: each[:, 0], first)


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


@pytest.mark.parametrize("family", first_fast(FAMILIES))
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


@pytest.mark.parametrize("name", first_fast(ADAPTERS))
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
    save_adapter(
        tmp_path, {"heads": heads} | stored.adapter, rank=rank, alpha=stored.alpha, model_type=config.model_type
    )
    again = load_adapter(tmp_path, config)
    assert again.scale == stored.scale
    jax.tree.map(np.testing.assert_array_equal, again.adapter["lora"], stored.adapter["lora"])
    targets = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    if name == "distilbert":
        assert targets == ["attention.q_lin", "ffn.lin2"]


# ------------------------------------------------------------------------------------- live, where torch and PEFT are

#: Classes with heads of all kinds, and what a tiny config of theirs needs more.
LIVE = {
    "BertForMaskedLM": {"hidden_act": "silu"},
    "BertForPreTraining": {"hidden_act": "quick_gelu"},
    "DPRQuestionEncoder": {"projection_dim": 5},
    "DistilBertForTokenClassification": {
        "dim": 24,
        "n_layers": 2,
        "n_heads": 3,
        "hidden_dim": 20,
        "activation": "relu",
    },
    "RobertaModel": {"pad_token_id": 2, "type_vocab_size": 1},
    "RobertaForSequenceClassification": {"pad_token_id": 1, "type_vocab_size": 1, "hidden_act": "mish"},
    "XLMRobertaForTokenClassification": {"pad_token_id": 1, "type_vocab_size": 1},
    "CamembertModel": {"pad_token_id": 1, "type_vocab_size": 1},
    "ElectraModel": {"embedding_size": 24, "hidden_act": "gelu_new"},
    "ElectraForSequenceClassification": {"embedding_size": 12},
}
SIZES = {
    **{"vocab_size": 41, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3},
    **{"intermediate_size": 20, "max_position_embeddings": 19},
}


def made(kind, folder, **more):
    """A model of transformers with random weights, stored."""
    torch = pytest.importorskip("torch", reason="torch is not installed: only recorded references were compared")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    model_class = getattr(transformers, kind)
    sizes = {name: SIZES[name] for name in (("vocab_size", "max_position_embeddings") if "dim" in more else SIZES)}
    model = model_class(model_class.config_class(**sizes, **more)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def recorded_live(model, pad=0, segments=False):
    """Inputs, and what a base model of torch makes of them."""
    import torch

    random = np.random.default_rng(5)
    mask = (np.arange(9) < np.array([[9], [4], [1]])).astype(np.int32)
    ids = np.where(mask > 0, random.integers(3, 41, mask.shape), pad).astype(np.int32)
    types = np.where(np.arange(9) > 3, mask, 0).astype(np.int32) * segments
    more = {"token_type_ids": torch.tensor(types).long()} if segments else {}
    with torch.no_grad():
        found = model(input_ids=torch.tensor(ids).long(), attention_mask=torch.tensor(mask), **more)
    recorded = {"ids": ids, "mask": mask, "types": types, "hidden": found.last_hidden_state.numpy()}
    if getattr(found, "pooler_output", None) is not None:
        recorded["pooled"] = found.pooler_output.numpy()
    return recorded


def base_of(model):
    """The encoder inside a model with a head."""
    for name in ("question_encoder", "bert_model", model.base_model_prefix):
        model = getattr(model, name, model)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("kind", LIVE)
def test_every_class_is_torchs_live(kind, tmp_path):
    model = made(kind, tmp_path, **LIVE[kind])
    config, backbone = load_backbone(tmp_path)
    recorded = recorded_live(base_of(model), config.pad_id or 0, config.reads_segments)
    compare(config, {"params": backbone}, recorded)


#: PEFT's settings beside the class that they adapt.
SETTINGS = {
    "suffixes": ("BertModel", {"target_modules": ["self.query", "attention.output.dense", "intermediate.dense"]}),
    "output.dense is attention's too": ("BertModel", {"target_modules": ["output.dense"]}),
    "excluded": ("BertModel", {"target_modules": ["dense"], "exclude_modules": r".*(pooler|attention).*"}),
    "all of them": (
        "BertForSequenceClassification",
        {"target_modules": "all-linear", "task_type": "SEQ_CLS", "use_rslora": True},
    ),
    "a token's": ("BertForTokenClassification", {"target_modules": ["key"], "task_type": "TOKEN_CLS"}),
    "layers": ("BertModel", {"target_modules": ["value"], "layers_to_transform": 1, "layers_pattern": "layer"}),
    "patterns": (
        "BertModel",
        {
            **{"target_modules": ["query", "value", "dense"], "rank_pattern": {"value": 5, "layer.0.output.dense": 1}},
            **{"alpha_pattern": {"query": 1, r".*1\.intermediate\.dense": 12}, "use_rslora": True, "lora_bias": True},
        },
    ),
    "roberta": ("RobertaForSequenceClassification", {"target_modules": "all-linear", "task_type": "SEQ_CLS"}),
    "electra": ("ElectraForSequenceClassification", {"target_modules": "all-linear", "task_type": "SEQ_CLS"}),
    "distilbert": (
        "DistilBertForSequenceClassification",
        {"target_modules": ["q_lin", "lin1"], "task_type": "SEQ_CLS"},
    ),
    "untargeted": ("BertModel", {}),
}
DISTILBERT = LIVE["DistilBertForTokenClassification"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", SETTINGS)
def test_adapters_of_every_kind_are_pefts_live(name, tmp_path):
    peft = pytest.importorskip("peft", reason="peft is not installed: only its recorded adapters were read")
    kind, settings = SETTINGS[name]
    more = DISTILBERT if "Distil" in kind else LIVE.get(kind, {})
    model = made(kind, tmp_path / "model", **more)
    settings = {"r": 3, "lora_alpha": 7, "init_lora_weights": False} | settings
    adapted = peft.get_peft_model(model, peft.LoraConfig(**settings)).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    config, backbone = load_backbone(tmp_path / "model")
    stored = load_adapter(tmp_path / "adapter", config)
    segments = config.reads_segments
    recorded = recorded_live(base_of(adapted.base_model.model), config.pad_id or 0, segments)
    hidden = compare(config, {"params": backbone, "lora": stored.adapter["lora"]}, recorded, stored.scale)
    plain, _ = outputs(config, {"params": backbone}, tuple(recorded[part] for part in ("ids", "mask", "types")))
    assert np.abs(hidden - plain[0]).max() > 0.01, "the adapter does something"
    # What we write, PEFT reads, over the model without its head.
    heads = {"kernel": np.zeros((1, config.hidden_size, 2)), "bias": np.zeros((1, 2))}
    save_adapter(
        *(tmp_path / "again", {"heads": heads} | stored.adapter),
        **{"rank": stored.rank, "alpha": stored.alpha, "model_type": config.model_type},
    )
    import transformers

    base = transformers.AutoModel.from_pretrained(tmp_path / "model")
    again = peft.PeftModel.from_pretrained(base, tmp_path / "again").eval()
    theirs = recorded_live(again.base_model.model, config.pad_id or 0, segments)
    np.testing.assert_allclose(theirs["hidden"], recorded["hidden"], atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_our_adapters_load_over_the_encoder_inside_a_wrapper(tmp_path):
    """As docs/text.md says of DPR; over the wrapper itself PEFT finds no place for them."""
    peft = pytest.importorskip("peft", reason="peft is not installed: only its recorded adapters were read")
    model = made("DPRContextEncoder", tmp_path / "model")
    config, backbone = load_backbone(tmp_path / "model")
    random = np.random.default_rng(2)
    pair = {"a": random.normal(size=(2, 24, 3)), "b": random.normal(size=(2, 3, 24))}
    heads = {"kernel": np.zeros((1, 24, 2)), "bias": np.zeros((1, 2))}
    adapter = {"lora": {"layers": {"attention": {"query": pair, "value": pair}}}, "heads": heads}
    save_adapter(tmp_path / "adapter", adapter, rank=3, alpha=6.0, model_type=config.model_type)
    plain = recorded_live(model.ctx_encoder.bert_model, segments=True)["hidden"]
    adapted = peft.PeftModel.from_pretrained(model.ctx_encoder.bert_model, tmp_path / "adapter").eval()
    recorded = recorded_live(adapted.base_model.model, segments=True)
    stored = load_adapter(tmp_path / "adapter", config)
    compare(config, {"params": backbone, "lora": stored.adapter["lora"]}, recorded, stored.scale)
    assert np.abs(recorded["hidden"] - plain).max() > 0.01
