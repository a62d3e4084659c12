"""Adapters on disk in PEFT's format, both ways."""

import json
import shutil
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ncsim.text.model.adapter_files import load_adapter, save_adapter
from ncsim.text.model.bert import Bert
from ncsim.text.model.checkpoint import load_backbone
from ncsim.text.model.lora import init_adapter
from tests.support.refusals import assert_same
from tests.support.refusals import refused_call as refused
from tests.support.text_model import TINY

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="module")
def adapter():
    """Rank 3 in a width of 5, with a B that is not zero."""
    made = jax.tree.map(np.array, init_adapter(jax.random.key(1), TINY, 3, 5, heads=2, classes=3))
    random = np.random.default_rng(0)
    for pair in made["lora"]["layers"]["attention"].values():
        pair["b"][:, :3] = random.standard_normal(pair["b"][:, :3].shape)
    return made


@pytest.fixture
def saved(adapter, tmp_path):
    save_adapter(tmp_path / "adapter", adapter, rank=3, alpha=6, dropout=0.1, base_model="someone/tiny")
    return tmp_path / "adapter"


def test_an_adapter_comes_back_cut_to_its_rank(adapter, saved):
    assert sorted(file.name for file in saved.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "heads.safetensors",
    ]
    stored = load_adapter(saved, TINY)
    assert (stored.rank, stored.alpha, stored.dropout, stored.scale) == (3, 6, 0.1, 2)
    for target, pair in adapter["lora"]["layers"]["attention"].items():
        found = stored.adapter["lora"]["layers"]["attention"][target]
        np.testing.assert_array_equal(found["a"], pair["a"][..., :3])
        np.testing.assert_array_equal(found["b"], pair["b"][:, :3])
    assert_same(stored.adapter["heads"], adapter["heads"])
    save_adapter(saved, stored.adapter, rank=3, alpha=6)
    assert_same(load_adapter(saved, TINY).adapter, stored.adapter)


def test_names_and_shapes_are_pefts(saved):
    ours = load_file(saved / "adapter_model.safetensors")
    theirs = load_file(FIXTURES / "tiny_adapter" / "adapter_model.safetensors")
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        assert ours[name].shape == tuple(3 if size == 4 else size for size in tensor.shape)


def test_an_adapter_of_more_than_its_rank_is_not_cut(adapter, tmp_path):
    assert "adapter width: 2; allowed: its rank or more" in refused(
        lambda: save_adapter(tmp_path / "adapter", adapter, rank=2, alpha=1)
    )
    assert not (tmp_path / "adapter").exists()


def test_an_adapter_without_heads_and_with_a_prefix(tmp_path):
    shutil.copytree(FIXTURES / "tiny_adapter", tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    plain = load_adapter(tmp_path / "adapter", TINY)
    assert "heads" not in plain.adapter
    save_file({name.replace("model.encoder", "model.bert.encoder"): t for name, t in load_file(file).items()}, file)
    assert_same(load_adapter(tmp_path / "adapter", TINY).adapter, plain.adapter)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "use_dora is True; allowed: unset"),
        ({"rank_pattern": {"query": 8}}, "query.lora_A is [3, 32]; allowed: [8, 32], rank 8 on a backbone 32 wide"),
        ({"rank_pattern": {"query": "8"}}, "rank_pattern is {'query': '8'}; allowed: names with whole numbers from 1"),
        ({"alpha_pattern": {"(": 8}}, "'(.*\\\\.)?(()$' is no regular expression ("),
        ({"target_modules": ["query", "key"]}, "value has factors, which adapter_config.json does not say (target"),
        ({"target_modules": ".*query"}, "value has factors, which adapter_config.json does not say (target_modules"),
        ({"target_modules": "(query"}, "'(query' is no regular expression ("),
        ({"target_modules": 3}, "target_modules is 3; allowed: a list of names, or a regular expression"),
        (
            {"target_modules": ["query", "value", "key"]},
            "4 tensors missing, the first encoder.layer.0.attention.self.key",
        ),
        ({"modules_to_save": ["value"]}, "value has factors, which adapter_config.json does not say"),
        ({"exclude_modules": ["query"]}, "query has factors, which adapter_config.json does not say"),
        ({"layers_to_transform": [0]}, "layer.1.attention.self.query has factors, which adapter_config.json"),
        ({"lora_bias": True}, "4 tensors missing, the first encoder.layer.0.attention.self.query.lora_B.bias"),
        ({"something_new": "on"}, "something_new is 'on'; allowed: unset"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; allowed: 'LORA'"),
        ({"bias": "all"}, "bias is 'all'; allowed: 'none'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'; allowed: True"),
        ({"r": 64}, "r: --rank: 64; allowed"),
        ({"r": 2}, "is [3, 32]; allowed: [2, 32], rank 2 on a backbone 32 wide"),
        ({"lora_alpha": "6"}, "lora_alpha is '6'; allowed: numbers from 0"),
    ],
)
def test_other_adapters_are_refused_in_one_line(saved, change, message):
    file = saved / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert message in refused(load_adapter, saved, TINY)


def test_torn_adapters_are_refused(saved, tmp_path):
    assert "no adapter is there" in refused(load_adapter, tmp_path / "nothing", TINY)
    file = saved / "adapter_model.safetensors"
    factors = load_file(file)
    name = "base_model.model.encoder.layer.1.attention.self.value.lora_B.weight"
    save_file({key: tensor for key, tensor in factors.items() if key != name}, file)
    assert "1 tensor missing, the first encoder.layer.1.attention.self.value.lora_B" in refused(
        load_adapter, saved, TINY
    )
    save_file(factors | {name.replace("layer.1", "layer.2"): factors[name]}, file)
    assert "has no place here; allowed: factors of dense layers of 2 layers" in refused(load_adapter, saved, TINY)
    save_file(factors, file)
    heads = load_file(saved / "heads.safetensors")
    save_file(heads | {"1.weight": np.zeros((3, 31), np.float32)}, saved / "heads.safetensors")
    assert "1.weight is [3, 31]; allowed: [3, 32]" in refused(load_adapter, saved, TINY)
    save_file({"0.weight": heads["0.weight"]}, saved / "heads.safetensors")
    assert "holds 0.weight; allowed: 0.weight, 0.bias, 1.weight" in refused(load_adapter, saved, TINY)
    file.write_bytes(b"torn")
    assert "does not read as safetensors" in refused(load_adapter, saved, TINY)
    file.unlink()
    (saved / "adapter_model.bin").touch()
    assert "holds no adapter_model.safetensors; a .bin file is pickle and is not read" in refused(
        load_adapter, saved, TINY
    )


@pytest.mark.parametrize("dtype", ["int8", "bool", "float8_e4m3fn"])
def test_factors_and_heads_are_floats(saved, dtype):
    """int8 was read as the whole numbers that it stands for only with a scale; float8 ended in a traceback."""
    import ml_dtypes  # comes with jax

    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    for name, key in (
        ("adapter_model", "base_model.model.encoder.layer.1.attention.self.value.lora_B.weight"),
        ("heads", "1.weight"),
    ):
        file = saved / f"{name}.safetensors"
        whole = load_file(file)
        save_file(whole | {key: whole[key].astype(kind)}, file)
        assert f"{file}: {key} holds" in refused(load_adapter, saved, TINY)
        save_file(whole, file)
    load_adapter(saved, TINY)


@pytest.mark.slow
def test_our_adapters_load_in_peft(saved):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    peft = pytest.importorskip("peft", reason="peft is not installed: only its recorded adapter was read")
    transformers = pytest.importorskip("transformers")
    recorded = load_file(FIXTURES / "tiny_bert" / "reference.safetensors")
    model = transformers.BertModel.from_pretrained(FIXTURES / "tiny_bert")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what peft uses of transformers is on its way out
        adapted = peft.PeftModel.from_pretrained(model, saved).eval()
    ids, mask, types = (recorded[name] for name in ("ids", "mask", "types"))
    with torch.no_grad():
        expected = adapted(
            input_ids=torch.tensor(ids).long(),
            attention_mask=torch.tensor(mask),
            token_type_ids=torch.tensor(types).long(),
        )
    stored = load_adapter(saved, TINY)
    variables = {"params": load_backbone(FIXTURES / "tiny_bert")[1], "lora": stored.adapter["lora"]}
    hidden, pooled = Bert(TINY).apply(variables, ids, mask, types, stored.scale)
    np.testing.assert_allclose(hidden, expected.last_hidden_state.numpy(), atol=1e-4, rtol=0)
    np.testing.assert_allclose(pooled, expected.pooler_output.numpy(), atol=1e-5, rtol=0)
    assert np.abs(hidden - recorded["hidden"]).max() > 0.1
