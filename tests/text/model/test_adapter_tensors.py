"""Names that PEFT's tensors have, and what stands beside factors."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from ncsim.errors import ConfigError
from ncsim.text.model.adapter_files import load_adapter
from tests.support.text_model import TINY

FRONT = "base_model.model."


def stored(folder, front=FRONT, key="lora_{}.weight", more=None, targets=("query", "value"), **fields):
    """An adapter of rank 2 in a folder, every number drawn."""
    random = np.random.default_rng(3)
    tensors = dict(more or {})
    for layer in range(2):
        for target in targets:
            name = f"{front}encoder.layer.{layer}.attention.self.{target}."
            tensors[name + key.format("A")] = random.normal(size=(2, 32)).astype(np.float32)
            tensors[name + key.format("B")] = random.normal(size=(32, 2)).astype(np.float32)
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    description = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": list(targets)}
    (folder / "adapter_config.json").write_text(json.dumps(description | fields))
    return folder


@pytest.mark.parametrize(
    ("front", "key"),
    [
        (FRONT + "bert.", "lora_{}.weight"),
        (FRONT, "lora_{}.default.weight"),
        ("", "lora_{}.weight"),
        ("bert.", "lora_{}.mine.weight"),
        (FRONT + "0.auto_model.", "lora_{}.weight"),
        (FRONT + "encoder.", "lora_{}.weight"),
    ],
)
def test_names_of_all_spellings(tmp_path, front, key):
    plain = load_adapter(stored(tmp_path / "plain"), TINY)
    other = load_adapter(stored(tmp_path / "other", front, key), TINY)
    assert (other.rank, other.alpha, other.scale, other.left_out) == (2, 6, 3, ())
    jax.tree.map(np.testing.assert_array_equal, other.adapter, plain.adapter)


def test_whole_names_with_and_without_the_base_models(tmp_path):
    for front, named in ((FRONT, "bert."), ("", "bert."), (FRONT + "bert.", ""), (FRONT + "bert.", "bert.")):
        names = [f"{named}encoder.layer.{n}.attention.self.{target}" for n in (0, 1) for target in ("query", "value")]
        assert load_adapter(stored(tmp_path / "a", front, target_modules=names), TINY).scale == 3


def matrix(*shape):
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("others", "heads", "left_out"),
    [
        ({"classifier.weight": matrix(3, 32), "classifier.bias": matrix(3)}, (1, 32, 3), 0),
        (
            {"score.modules_to_save.default.weight": matrix(4, 32), "score.original_module.weight": matrix(4, 32)},
            (1, 32, 4),
            0,
        ),
        ({"bert.classifier.weight": matrix(2, 32), "bert.classifier.bias": matrix(2)}, (1, 32, 2), 0),
        ({"classifier.weight": matrix(3, 31), "classifier.bias": matrix(3)}, None, 2),
        ({"classifier.dense.weight": matrix(32, 32), "classifier.out_proj.weight": matrix(3, 32)}, None, 2),
        ({"pre_classifier.weight": matrix(32, 32), "classifier.weight": matrix(3, 32)}, None, 2),
        ({"qa_outputs.weight": matrix(2, 32)}, None, 1),
        ({"classifier.norm.num_batches_tracked": np.ones((), np.int64), "classifier.weight": matrix(3, 32)}, None, 2),
        ({"classifier.weight": np.ones((3, 32), np.int8)}, None, 1),
        ({"classifier.lora_A.weight": matrix(2, 32), "classifier.lora_B.weight": matrix(3, 2)}, None, 2),
    ],
)
def test_heads_beside_factors(tmp_path, others, heads, left_out):
    found = load_adapter(stored(tmp_path / "a", more={FRONT + name: tensor for name, tensor in others.items()}), TINY)
    assert ("heads" in found.adapter) == (heads is not None)
    if heads:
        assert found.adapter["heads"]["kernel"].shape == heads
        assert found.adapter["heads"]["bias"].shape == (1, heads[2])
    assert len(found.left_out) == left_out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"encoder.layer.0.attention.self.query.lora_magnitude_vector": matrix(32)}, "is of DoRA; allowed"),
        ({"embeddings.word_embeddings.lora_embedding_A": matrix(2, 97)}, "is of LoRA of embeddings; allowed"),
        (
            {"pooler.dense.weight": matrix(32, 32)},
            "is the encoder's own, which was trained too; allowed: LoRA and heads",
        ),
        ({"bert.embeddings.word_embeddings.weight": matrix(97, 32)}, "is the encoder's own"),
        ({"encoder.layer.0.attention.self.query.lora_A.two.weight": matrix(2, 32)}, "has more than one tensor"),
        ({"bert.encoder.layer.0.attention.self.key.lora_A.weight": matrix(2, 32)}, "factors of several models, under"),
        (
            {"encoder.layer.0.attention.self.query.lora_B.bias": matrix(32)},
            "adapter_config.json does not say lora_bias",
        ),
        ({"encoder.layer.0.attention.self.query.lora_A.bias": matrix(2)}, "has no place here"),
        ({"encoder.layer.0.crossattention.self.query.lora_A.weight": matrix(2, 32)}, "has no place here"),
    ],
)
def test_what_is_no_plain_lora_is_one_line(tmp_path, more, words):
    folder = stored(tmp_path / "a", more={FRONT + name: tensor for name, tensor in more.items()})
    with pytest.raises(ConfigError) as error:
        load_adapter(folder, TINY)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_scales_that_differ_are_in_b(tmp_path):
    plain = load_adapter(stored(tmp_path / "plain"), TINY)
    other = load_adapter(stored(tmp_path / "other", alpha_pattern={"query": 1.5}), TINY)
    assert other.scale == plain.scale == 3
    for target, share in (("query", 0.25), ("value", 1)):
        pairs = [each.adapter["lora"]["layers"]["attention"][target] for each in (other, plain)]
        np.testing.assert_array_equal(pairs[0]["a"], pairs[1]["a"])
        np.testing.assert_array_equal(pairs[0]["b"], pairs[1]["b"] * share)
    none = load_adapter(stored(tmp_path / "none", lora_alpha=0), TINY)
    assert none.scale == 0
    lone = load_adapter(stored(tmp_path / "lone", targets=("query",)), TINY)
    assert list(lone.adapter["lora"]["layers"]["attention"]) == ["query"]
