"""Weights on disk and on a hub: every tensor accounted for, the encoder found by its names, nothing unpickled."""

import http.server
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ncsim.text.model.checkpoint import backbone_fingerprint, load_backbone, tensors_left_out
from tests.support.refusals import assert_same
from tests.support.refusals import refused_call as refused
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


@pytest.mark.parametrize("front", ["bert.", "model.", "0.auto_model.", "encoder.", "module.encoder.bert_model.", ""])
def test_the_encoder_is_found_under_any_head_or_wrapper(folder, tensors, backbone, front):
    heads = ["linear.weight", "score.bias", "crf.transitions", "logit_scale", "head.0.encoder_proj.weight"]
    named = {front + name: tensor for name, tensor in tensors.items()}
    save_file(named | {name: np.zeros((4, 32), np.float32) for name in heads}, folder / WEIGHTS)
    assert_same(load_backbone(folder)[1], backbone)
    assert sorted(tensors_left_out(folder)) == sorted(heads)


def test_of_two_encoders_the_one_that_config_json_says(folder, tensors, backbone):
    teacher = {f"teacher.{name}": np.pad(tensor, [(0, 1)] * tensor.ndim) for name, tensor in tensors.items()}
    save_file({f"student.{name}": tensor for name, tensor in tensors.items()} | teacher, folder / WEIGHTS)
    assert_same(load_backbone(folder)[1], backbone)
    both = {f"{which}.{name}": tensor for which in "ab" for name, tensor in tensors.items()}
    save_file(both, folder / WEIGHTS)
    message = refused(load_backbone, folder)
    assert "holds 2 encoders of the sizes in config.json (a.embeddings.word_embeddings.weight, b.embeddings" in message


def test_part_of_an_encoder_that_a_bert_has_not_is_surplus(folder, tensors):
    distance = "bert.encoder.layer.0.attention.self.distance_embedding.weight"
    named = {f"bert.{name}": tensor for name, tensor in tensors.items()}
    save_file(named | {distance: np.zeros((63, 8), np.float32)}, folder / WEIGHTS)
    assert f"surplus {distance}" in refused(load_backbone, folder)
    del named["bert.encoder.layer.1.output.dense.bias"]
    save_file(named | {"linear.weight": np.zeros((4, 32), np.float32)}, folder / WEIGHTS)
    message = refused(load_backbone, folder)
    assert message.endswith("missing encoder.layer.1.output.dense.bias")


def test_old_configs_and_googles_own_file(folder, backbone):
    whole = json.loads((folder / CONFIG).read_text())
    old = {"num_attention_heads": whole["num_attention_heads"]}
    (folder / CONFIG).write_text(json.dumps(old))
    config, tree = load_backbone(folder)
    assert config == TINY
    assert_same(tree, backbone)
    (folder / CONFIG).rename(folder / "bert_config.json")
    assert load_backbone(folder)[0] == TINY
    before = backbone_fingerprint(folder)
    (folder / "bert_config.json").write_text(json.dumps(old | {"hidden_act": "relu"}))
    assert backbone_fingerprint(folder) != before
    (folder / "bert_config.json").write_text(json.dumps(old | {"hidden_act": ["gelu"]}))
    assert "activation: ['gelu']; allowed: gelu, " in refused(load_backbone, folder)


def test_a_roberta_without_model_type_is_known_by_its_names(tmp_path):
    shutil.copytree(FIXTURES / "families" / "roberta", tmp_path / "roberta")
    file = tmp_path / "roberta" / CONFIG
    said = load_backbone(tmp_path / "roberta")[0]
    fields = json.loads(file.read_text())
    file.write_text(json.dumps({name: fields[name] for name in fields if name not in ("model_type", "architectures")}))
    assert load_backbone(tmp_path / "roberta")[0] == said


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
    assert "missing embeddings.word_embeddings.weight, " in message


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
    assert f"{folder}: config.json: model_type is 'gpt2'; allowed: 'bert', " in refused(load_backbone, folder)
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


# -------------------------------------------------------------------------------------------- without the extra


def test_without_the_extra_ncsim_imports_and_text_says_what_to_install():
    script = """
import sys
for name in ("safetensors", "transformers", "huggingface_hub", "tensorflow_datasets"):
    sys.modules[name] = None
import ncsim, ncsim.cli
ncsim.EnsembleConfig
import ncsim.text.model.lora
for name in ("model.checkpoint", "model.adapter_files", "data.loading", "job"):
    try:
        __import__(f"ncsim.text.{name}")
    except ImportError as error:
        print(error)
ncsim.cli.main(["text", "--model", "nowhere", "--out", "run"])
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    lines = [*result.stdout.splitlines(), *result.stderr.splitlines()]
    assert (result.returncode, len(lines)) == (2, 5)
    assert lines[-1].startswith("ncsim: error: ncsim.text: ")
    for line in lines:
        assert line.endswith("is not installed; install it from a clone of this repository with: pip install '.[text]'")
