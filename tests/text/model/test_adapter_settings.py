"""Which dense layers PEFT's settings name, with which rank and scale."""

import json

import pytest

from ncsim.errors import ConfigError
from ncsim.text.model.adapter_settings import AdapterSettings

QUERY, OUTPUT = "bert.encoder.layer.1.attention.self.query", "bert.encoder.layer.0.output.dense"
ATTENTION, POOLER = "bert.encoder.layer.0.attention.output.dense", "bert.pooler.dense"
ALL = (QUERY, OUTPUT, ATTENTION, POOLER)


def settings(tmp_path, **fields):
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({"peft_type": "LORA", **fields}))
    return AdapterSettings(file)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"target_modules": ["query"]}, [QUERY]),
        ({"target_modules": ["output.dense"]}, [OUTPUT, ATTENTION]),
        ({"target_modules": [OUTPUT, "self.query"]}, [QUERY, OUTPUT]),
        ({"target_modules": ["uery"]}, []),
        ({"target_modules": r".*\.(query|pooler\.dense)"}, [QUERY, POOLER]),
        ({"target_modules": "query"}, []),
        ({"target_modules": "ALL-linear"}, list(ALL)),
        ({"target_modules": "all-linear", "exclude_modules": ["dense"]}, [QUERY]),
        ({"target_modules": ["dense"], "exclude_modules": r".*attention.*"}, [OUTPUT, POOLER]),
        ({"target_modules": ["dense", "query"], "modules_to_save": ["pooler"]}, [QUERY, OUTPUT, ATTENTION]),
        ({"target_modules": ["query", "dense"], "layers_to_transform": 1}, [QUERY]),
        (
            {"target_modules": ["query", "dense"], "layers_to_transform": [0], "layers_pattern": "layer"},
            [OUTPUT, ATTENTION],
        ),
        ({"target_modules": ["query", "dense"], "layers_to_transform": [0], "layers_pattern": ["h"]}, []),
        ({"target_modules": ["query"], "layers_to_transform": []}, [QUERY]),
        ({"target_modules": [OUTPUT], "layers_to_transform": [1]}, [OUTPUT]),  # a whole name is taken as it is
        ({}, [QUERY]),
    ],
)
def test_targets(tmp_path, fields, named):
    made = settings(tmp_path, **fields)
    assert [module for module in ALL if made.has_factors(module, ("query", "value"))] == named


def test_ranks_and_scales(tmp_path):
    patterns = {
        "rank_pattern": {"attention.output.dense": 4, r"layer\.\d\.output.dense": 16},
        "alpha_pattern": {"query": 3},
    }
    made = settings(tmp_path, r=2, lora_alpha=8, **patterns)
    assert [made.rank_of(module) for module in ALL] == [2, 16, 4, 2]
    assert [made.scale_of(module) for module in ALL] == [1.5, 0.5, 2, 4]
    stabilised = settings(tmp_path, r=2, lora_alpha=8, use_rslora=True, **patterns)
    assert [stabilised.scale_of(module) for module in ALL[:3]] == [3 / 2**0.5, 2, 4]
    plain = settings(tmp_path)
    assert (plain.rank, plain.alpha, plain.dropout, plain.bias) == (8, 8, 0, False)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"layers_to_transform": "1"}, "layers_to_transform is '1'; allowed: a layer, or a list of layers"),
        ({"layers_to_transform": [1], "layers_pattern": "("}, "is no regular expression"),
        ({"exclude_modules": "*"}, "'*' is no regular expression"),
        ({"modules_to_save": "classifier"}, "modules_to_save is 'classifier'; allowed: a list of names"),
        ({"lora_alpha": float("inf")}, "lora_alpha is inf; allowed: numbers from 0"),
        ({"r": 0}, "r is 0; allowed: whole numbers from 1"),
        ({"use_rslora": "yes"}, "use_rslora is 'yes'; allowed: true or false"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices is [3]; allowed: unset"),
        ({"layer_replication": [[0, 1]]}, "layer_replication is [[0, 1]]; allowed: unset"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, fields, words):
    with pytest.raises(ConfigError) as error:
        settings(tmp_path, **{"target_modules": ["query"]} | fields).has_factors(QUERY, ())
    assert words in str(error.value)
    assert "\n" not in str(error.value)
