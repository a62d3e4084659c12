"""Activations against transformers' own where torch is, and against numbers computed by their formulas."""

import math

import numpy as np
import pytest

from ncsim.text.model.activations import ACTIVATIONS

X = 1.5
GELU = X * 0.5 * (1 + math.erf(X / math.sqrt(2)))
TANH = 0.5 * X * (1 + math.tanh(math.sqrt(2 / math.pi) * (X + 0.044715 * X**3)))
SIGMOID = 1 / (1 + math.exp(-X))
EXPECTED = {
    "gelu": GELU,
    "gelu_10": GELU,
    "gelu_python": GELU,
    **dict.fromkeys(("gelu_accurate", "gelu_fast", "gelu_new", "gelu_python_tanh", "gelu_pytorch_tanh"), TANH),
    "hardswish": X * (X + 3) / 6,
    "laplace": 0.5 * (1 + math.erf((X - 0.707107) / (0.282095 * math.sqrt(2)))),
    "leaky_relu": X,
    "linear": X,
    "mish": X * math.tanh(math.log1p(math.exp(X))),
    "quick_gelu": X / (1 + math.exp(-1.702 * X)),
    "relu": X,
    "relu2": X**2,
    "relu6": X,
    "sigmoid": SIGMOID,
    "silu": X * SIGMOID,
    "sqrtsoftplus": math.sqrt(math.log1p(math.exp(X))),
    "swish": X * SIGMOID,
    "tanh": math.tanh(X),
}


def test_activations_are_their_formulas():
    assert set(EXPECTED) == set(ACTIVATIONS)
    for name, expected in EXPECTED.items():
        assert float(ACTIVATIONS[name](np.float32(X))) == pytest.approx(expected, rel=1e-5), name
    ends = {
        name: [float(ACTIVATIONS[name](np.float32(x))) for x in (-2, 20)] for name in ("gelu_10", "relu6", "leaky_relu")
    }
    assert ends["gelu_10"] == pytest.approx([-0.0455003, 10], abs=1e-6)
    assert ends["relu6"] == [0, 6]
    assert ends["leaky_relu"] == pytest.approx([-0.02, 20])


@pytest.mark.slow
def test_activations_are_transformers_live():
    torch = pytest.importorskip("torch", reason="torch is not installed: only formulas were compared")
    activations = pytest.importorskip("transformers.activations")
    assert set(activations.ACT2FN) - set(ACTIVATIONS) == {"prelu", "xielu"}, "these two have parameters"
    x = np.linspace(-12, 12, 481, dtype=np.float32)
    for name, ours in ACTIVATIONS.items():
        theirs = activations.ACT2FN[name](torch.tensor(x)).numpy()
        np.testing.assert_allclose(ours(x), theirs, atol=2e-6, rtol=2e-6, err_msg=name)
