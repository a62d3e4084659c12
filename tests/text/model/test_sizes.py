"""What a config.json says: BERT's family, old files, and what is refused."""

import dataclasses

import pytest

from ncsim.errors import ConfigError
from ncsim.text.model.sizes import BertConfig
from tests.support.text_model import TINY

DESCRIPTION = {
    "model_type": "bert",
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
    "hidden_act": "gelu_new",
    "layer_norm_eps": 1e-6,
}


def test_a_description_is_read():
    assert BertConfig.from_dict(DESCRIPTION) == dataclasses.replace(TINY, activation="gelu_new", layer_norm_eps=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2'; allowed: 'bert', "),
        ({"model_type": ["bert"]}, "model_type is ['bert']; allowed: 'bert', "),
        (
            {"model_type": None, "max_position_embeddings": 514},
            "has no model_type, and its padding or its 514 positions",
        ),
        ({"model_type": "roberta", "max_position_embeddings": 2}, "max_position_embeddings is 2; allowed: above 2"),
        ({"model_type": "camembert", "pad_token_id": "1"}, "pad_token_id is '1'; allowed: whole numbers from 0"),
        ({"model_type": "electra", "embedding_size": 1.5}, "embedding_size: 1.5; allowed: whole numbers from 0"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'; allowed: 'absolute'"),
        ({"is_decoder": True}, "is_decoder is True; allowed: False"),
        ({"hidden_act": "prelu"}, "activation: 'prelu'; allowed: gelu, "),
        ({"hidden_act": ["gelu"]}, "activation: ['gelu']; allowed: gelu, "),
        ({"hidden_act": {"name": "gelu"}}, "activation: {'name': 'gelu'}; allowed: gelu, "),
        ({"num_attention_heads": 5}, "heads: 5; allowed: divisors of hidden_size, 32"),
        ({"vocab_size": "97"}, "vocab_size: '97'; allowed: whole numbers from 1"),
        ({"num_hidden_layers": 0}, "layers: 0; allowed"),
        ({"layer_norm_eps": 0}, "layer_norm_eps: 0; allowed"),
    ],
)
def test_what_is_no_bert_is_refused_in_one_line(change, message):
    with pytest.raises(ConfigError) as error:
        BertConfig.from_dict(DESCRIPTION | change)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_size_is_named():
    with pytest.raises(ConfigError, match="intermediate_size missing"):
        BertConfig.from_dict({name: value for name, value in DESCRIPTION.items() if name != "intermediate_size"})


@pytest.mark.parametrize(
    ("change", "without", "expected"),
    [
        ({}, ["model_type", "type_vocab_size"], {}),
        ({"architectures": ["BertForMaskedLM"]}, ["model_type"], {}),
        ({"architectures": ["HF_ColBERT"]}, ["model_type"], {}),
        ({"model_type": "dpr", "projection_dim": 3}, [], {}),
        (
            {"architectures": ["RobertaModel"]},
            ["model_type"],
            {"model_type": "roberta", "pad_id": 1, "max_positions": 30},
        ),
        (
            {"architectures": ["XLMRobertaForMaskedLM"], "pad_token_id": 5},
            ["model_type"],
            {"model_type": "xlm-roberta", "pad_id": 5, "max_positions": 26},
        ),
        ({"model_type": "camembert"}, [], {"model_type": "camembert", "pad_id": 1, "max_positions": 30}),
        ({"model_type": "electra"}, [], {"model_type": "electra", "embedding_size": 128}),
        ({"model_type": "electra", "embedding_size": 32}, [], {"model_type": "electra"}),
        ({"hidden_act": "swish"}, [], {"activation": "swish"}),
    ],
)
def test_families_and_old_files(change, without, expected):
    description = {name: value for name, value in (DESCRIPTION | change).items() if name not in without}
    plain = dataclasses.replace(TINY, activation="gelu_new", layer_norm_eps=1e-6)
    assert BertConfig.from_dict(description) == dataclasses.replace(plain, **expected)


def test_distilberts_own_names():
    description = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "activation": "relu", "pad_token_id": 0}
    description |= {"vocab_size": 97, "max_position_embeddings": 32, "sinusoidal_pos_embds": True}
    expected = dataclasses.replace(TINY, type_vocab_size=0, activation="relu", model_type="distilbert", pooler=False)
    for more in ({}, {"model_type": "distilbert"}):
        assert BertConfig.from_dict(description | more, pooler=False) == expected
    assert not expected.reads_segments


def test_an_unknown_family_is_refused():
    with pytest.raises(ConfigError, match="model_type: 'albert'; allowed: bert, distilbert, electra, roberta"):
        BertConfig(model_type="albert")
