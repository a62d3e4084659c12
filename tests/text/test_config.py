"""The options of a text run that have several values."""

import numpy as np
import pytest

from ncsim.errors import ConfigError
from ncsim.text.config import TARGET_MODULES, TextConfig, from_dict, to_dict
from ncsim.text.model.lora import TARGETS
from ncsim.text.model.names import LAYER_DENSE


def test_target_modules_are_ends_of_names_and_the_default_is_not_stored():
    assert TextConfig().target_modules == TARGETS
    assert "target_modules" not in to_dict(TextConfig())
    config = TextConfig(target_modules=["output.dense", "query"])
    assert config.target_modules == ("query", "output.dense"), "in one order, since it is one run"
    assert to_dict(config)["target_modules"] == ["query", "output.dense"]
    assert from_dict(to_dict(config)) == config
    assert TextConfig(target_modules="key").target_modules == ("key",)
    assert [name.removeprefix("attention.self.") for name in LAYER_DENSE] == list(TARGET_MODULES)


@pytest.mark.parametrize(
    "value", [(), ("pooler",), ("query", "query"), 3, None, ("query", 1), (["query"],), "queryvalue"]
)
def test_other_target_modules_are_one_line(value):
    with pytest.raises(
        ConfigError, match=r"^--target-modules: .*; allowed: different ones of query, key, value, "
    ) as error:
        TextConfig(target_modules=value)
    assert "\n" not in str(error.value)


def test_an_adaptation_of_many_is_one_line():
    """Its ranks were looked at first, by a comparison that an array does not answer."""
    with pytest.raises(ConfigError, match=r"^--adaptation: array.*; allowed: lora, ") as error:
        TextConfig(adaptation=np.ones((2, 2)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "clip", "alpha", "undecided_tolerance"])
def test_a_number_that_float32_does_not_have_is_refused(name):
    """A rate of 1e-50 is 0 in training, which then went through all epochs and learned nothing."""
    option = "--" + name.replace("_", "-")
    for value in (1e-50, 1e-38, 1e39):
        with pytest.raises(ConfigError, match=rf"^{option}: .*; allowed in float32: 1.17549e-38 to 3.40282e\+38$"):
            TextConfig(**{name: value})
    for value in (1.2e-38, 1.0, 3.4e38):
        assert getattr(TextConfig(**{name: value}), name) == value
