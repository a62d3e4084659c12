"""Weights and adapters on disk: every tensor accounted for, nothing unpickled, PEFT's format both ways."""

import http.server
import json
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ncsim.errors import ConfigError
from ncsim.text.model.adapter_files import load_adapter, save_adapter
from ncsim.text.model.checkpoint import load_backbone
from ncsim.text.model.lora import init_adapter
from tests.support.text_model import TINY

FIXTURES = Path(__file__).parents[2] / "fixtures"
WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"


@pytest.fixture(scope="module")
def tensors():
    return load_file(FIXTURES / "tiny_bert" / WEIGHTS)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(FIXTURES / "tiny_bert")[1]


@pytest.fixture
def folder(tmp_path):
    """A checkpoint of the test's own."""
    made = tmp_path / "checkpoint"
    made.mkdir()
    shutil.copy(FIXTURES / "tiny_bert" / CONFIG, made)
    shutil.copy(FIXTURES / "tiny_bert" / WEIGHTS, made)
    return made


def refused(function, *arguments):
    """The one line with which something is refused."""
    with pytest.raises(ConfigError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def assert_same(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, tree, other)


# ------------------------------------------------------------------------------------------------------ backbones


def test_each_tensor_is_where_its_name_says(backbone, tensors):
    attention = "encoder.layer.1.attention."
    for place, name in (
        (backbone["embeddings"]["word"], "embeddings.word_embeddings.weight"),
        (backbone["embeddings"]["norm"]["scale"], "embeddings.LayerNorm.weight"),
        (backbone["layers"]["attention"]["value"]["kernel"][1].T, f"{attention}self.value.weight"),
        (backbone["layers"]["attention"]["norm"]["bias"][1], f"{attention}output.LayerNorm.bias"),
        (backbone["layers"]["feed_forward"]["inner"]["kernel"][0].T, "encoder.layer.0.intermediate.dense.weight"),
        (backbone["layers"]["feed_forward"]["outer"]["bias"][0], "encoder.layer.0.output.dense.bias"),
        (backbone["pooler"]["kernel"].T, "pooler.dense.weight"),
    ):
        np.testing.assert_array_equal(place, tensors[name])
    assert {leaf.dtype for leaf in jax.tree.leaves(backbone)} == {np.dtype("float32")}


def test_old_names_prefixes_and_other_heads(folder, tensors, backbone):
    old = {}
    for name, tensor in tensors.items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        old[f"bert.{name}"] = tensor
    old["bert.embeddings.position_ids"] = np.arange(32)[None]
    old["cls.predictions.bias"] = np.zeros(97, np.float32)
    old["cls.seq_relationship.weight"] = np.zeros((2, 32), np.float32)
    save_file(old, folder / WEIGHTS)
    assert_same(load_backbone(folder)[1], backbone)


def test_shards_with_an_index(folder, tensors, backbone):
    (folder / WEIGHTS).unlink()
    names, places = sorted(tensors), {}
    for number, part in enumerate((names[:10], names[10:])):
        shard = f"model-{number + 1:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / shard)
        places |= dict.fromkeys(part, shard)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert_same(load_backbone(folder)[1], backbone)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors missing, which model.safetensors.index.json names" in refused(
        load_backbone, folder
    )
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, "../model.safetensors")}))
    assert "has no weight_map from tensors to files beside it" in refused(load_backbone, folder)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_floats_become_float32(folder, tensors, backbone, dtype):
    import ml_dtypes  # comes with jax

    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    save_file({name: tensor.astype(kind) for name, tensor in tensors.items()}, folder / WEIGHTS)
    rounded = jax.tree.map(lambda leaf: leaf.astype(kind).astype(np.float32), backbone)
    assert_same(load_backbone(folder)[1], rounded)


def test_without_pooler(folder, tensors):
    save_file({name: tensor for name, tensor in tensors.items() if not name.startswith("pooler")}, folder / WEIGHTS)
    config, tree = load_backbone(folder)
    assert not config.pooler
    assert "pooler" not in tree
    save_file({name: tensor for name, tensor in tensors.items() if name != "pooler.dense.bias"}, folder / WEIGHTS)
    assert "missing pooler.dense.bias" in refused(load_backbone, folder)


def test_missing_surplus_and_misshapen_tensors_are_named_in_one_line(folder, tensors):
    changed = dict(tensors)
    del changed["encoder.layer.1.output.dense.bias"]
    changed["encoder.layer.2.output.dense.bias"] = np.zeros(32, np.float32)
    changed["embeddings.word_embeddings.weight"] = np.zeros((98, 32), np.float32)
    save_file(changed, folder / WEIGHTS)
    message = refused(load_backbone, folder)
    assert "missing encoder.layer.1.output.dense.bias;" in message
    assert "surplus encoder.layer.2.output.dense.bias;" in message
    assert "embeddings.word_embeddings.weight is [98, 32], [97, 32] by config.json" in message
    save_file({"something": np.zeros(1, np.float32)}, folder / WEIGHTS)
    message = refused(load_backbone, folder)
    assert "and 29 more; surplus something" in message


def test_one_tensor_under_two_names_is_refused(folder, tensors):
    both = tensors | {"embeddings.LayerNorm.gamma": tensors["embeddings.LayerNorm.weight"]}
    save_file(both, folder / WEIGHTS)
    assert "are the same tensor" in refused(load_backbone, folder)


def test_whole_numbers_are_no_weights(folder, tensors):
    save_file(tensors | {"pooler.dense.bias": np.zeros(32, np.int32)}, folder / WEIGHTS)
    assert "pooler.dense.bias holds I32; allowed: F64, F32, F16, BF16" in refused(load_backbone, folder)


def test_pickle_is_refused_and_what_to_do_is_said(folder):
    (folder / WEIGHTS).unlink()
    assert "holds no weights" in refused(load_backbone, folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    message = refused(load_backbone, folder)
    assert "has only pytorch_model.bin, which is pickle" in message
    assert "save_pretrained" in message


def test_what_is_no_checkpoint_is_refused(folder, tmp_path):
    assert "no folder is there" in refused(load_backbone, tmp_path / "nothing")
    assert "no folder is there" in refused(load_backbone, folder / CONFIG)
    (folder / WEIGHTS).write_bytes(b"12345678 this is no safetensors file")
    assert "does not read as safetensors" in refused(load_backbone, folder)
    (folder / CONFIG).write_text('{"model_type": "gpt2"}')
    shutil.copy(FIXTURES / "tiny_bert" / WEIGHTS, folder)
    assert f"{folder}: config.json: model_type is 'gpt2'; allowed: 'bert'" in refused(load_backbone, folder)
    (folder / CONFIG).write_text("[1]")
    assert "is no JSON object" in refused(load_backbone, folder)
    (folder / CONFIG).write_text("{")
    assert "is no JSON" in refused(load_backbone, folder)
    (folder / CONFIG).unlink()
    assert "holds no config.json" in refused(load_backbone, folder)


# ---------------------------------------------------------------------------------------------------------- a hub


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of a hub as serves one model, `someone/tiny`."""

    COMMIT = "0123456789abcdef0123456789abcdef01234567"

    def do_GET(self):
        self.answer(body=True)

    def do_HEAD(self):
        self.answer(body=False)

    def answer(self, body):
        path = self.path.split("?")[0]
        files = {name: (FIXTURES / "tiny_bert" / name) for name in (CONFIG, WEIGHTS)}
        if path.startswith("/api/models/someone/tiny/tree/"):
            sizes = {name: file.stat().st_size for name, file in files.items()} | {"pytorch_model.bin": 1}
            entries = [{"type": "file", "path": name, "size": size, "oid": name} for name, size in sizes.items()]
            self.reply(200, json.dumps(entries).encode(), body)
        elif path.startswith("/api/models/someone/tiny"):
            siblings = [{"rfilename": name} for name in (*files, "pytorch_model.bin")]
            content = json.dumps({"id": "someone/tiny", "sha": self.COMMIT, "siblings": siblings}).encode()
            self.reply(200, content, body)
        elif path.startswith(f"/someone/tiny/resolve/{self.COMMIT}/") and path.split("/")[-1] in files:
            self.reply(200, files[path.split("/")[-1]].read_bytes(), body)
        else:
            self.reply(404, b"{}", body, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})

    def reply(self, status, content, body, more=()):
        self.send_response(status)
        headers = {
            "Content-Length": len(content),
            "ETag": f'"{len(content)}"',
            "X-Repo-Commit": self.COMMIT,
            **dict(more),
        }
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        address = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield server
        server.shutdown()


def test_a_model_of_a_hub_is_fetched_and_then_cached(hub, backbone, tmp_path, monkeypatch):
    config, tree = load_backbone("someone/tiny")
    assert config == TINY
    assert_same(tree, backbone)
    assert not list((tmp_path / "cache").rglob("*.bin"))
    message = refused(load_backbone, "someone/else")
    assert message.startswith("someone/else: neither a folder nor to be had from the Hugging Face hub (")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody is there
    assert_same(load_backbone("someone/tiny")[1], backbone)


# ------------------------------------------------------------------------------------------------------- adapters


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
        ({"use_rslora": True}, "use_rslora is True; allowed: unset"),
        ({"use_dora": True}, "use_dora is True; allowed: unset"),
        ({"rank_pattern": {"query": 8}}, "rank_pattern is {'query': 8}; allowed: unset"),
        ({"alpha_pattern": {"query": 8}}, "alpha_pattern is {'query': 8}; allowed: unset"),
        ({"target_modules": ["query", "key"]}, "target_modules is ['query', 'key']; allowed: query, value"),
        ({"target_modules": ".*query"}, "target_modules is '.*query'; allowed: query, value"),
        ({"modules_to_save": ["classifier"]}, "modules_to_save is ['classifier']; allowed: unset"),
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
    assert "1 tensors missing, the first layer 1's value.lora_B" in refused(load_adapter, saved, TINY)
    save_file(factors | {name.replace("layer.1", "layer.2"): factors[name]}, file)
    assert "has no place here; allowed: lora_A and lora_B of 2 layers' query and value" in refused(
        load_adapter, saved, TINY
    )
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
    from ncsim.text.model.bert import Bert

    stored = load_adapter(saved, TINY)
    variables = {"params": load_backbone(FIXTURES / "tiny_bert")[1], "lora": stored.adapter["lora"]}
    hidden, pooled = Bert(TINY).apply(variables, ids, mask, types, stored.scale)
    np.testing.assert_allclose(hidden, expected.last_hidden_state.numpy(), atol=1e-4, rtol=0)
    np.testing.assert_allclose(pooled, expected.pooler_output.numpy(), atol=1e-5, rtol=0)
    assert np.abs(hidden - recorded["hidden"]).max() > 0.1


# -------------------------------------------------------------------------------------------- without the extra


def test_without_the_extra_ncsim_imports_and_text_says_what_to_install():
    script = """
import sys
for name in ("safetensors", "transformers", "huggingface_hub", "tensorflow_datasets"):
    sys.modules[name] = None
import ncsim, ncsim.cli
ncsim.EnsembleConfig
import ncsim.text.model.lora
for name in ("model.checkpoint", "model.adapter_files", "data.loading", "run"):
    try:
        __import__(f"ncsim.text.{name}")
    except ImportError as error:
        print(error)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    for line in lines:
        assert line.endswith("is not installed; install it from a clone of this repository with: pip install '.[text]'")
