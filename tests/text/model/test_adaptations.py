"""Updates of other forms than LoRA's: what they compute, learn and weigh, and that they are stored as they are."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncsim.errors import ConfigError
from ncsim.text.config import TextConfig, from_dict, to_dict
from ncsim.text.entanglement import entanglement_profile
from ncsim.text.model.adaptations import as_lora, check_bond, split
from ncsim.text.model.adapter_files import load_adapter, save_adapter
from ncsim.text.model.bert import BertConfig
from ncsim.text.model.checkpoint import load_backbone
from ncsim.text.model.lora import head_logits, init_adapter, pad_adapter, trainable_parameters
from tests.support.text_model import FOLDER, TINY
from tests.text.model.test_lora import QUICK

IDS = np.random.default_rng(0).integers(5, 90, (3, 7))
BATCH = (jnp.asarray(IDS), jnp.ones((3, 7), int), jnp.zeros((3, 7), int))


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(FOLDER)[1]


def new(adaptation, rank=3, width=None, seed=0, **more):
    return init_adapter(jax.random.key(seed), TINY, rank, width, adaptation=adaptation, bond=4, **more)


def moved(adapter, seed=1):
    """The same with random numbers in everything that begins at 0."""
    random = np.random.default_rng(seed)
    draw = lambda leaf: jnp.asarray(0.1 * random.standard_normal(leaf.shape, np.float32))  # noqa: E731
    return jax.tree.map(lambda leaf: leaf if np.any(leaf) else draw(leaf), adapter)


@functools.partial(jax.jit, compiler_options=QUICK)
def plain(backbone, adapter, scale=1.0):
    return head_logits(TINY, backbone, adapter, scale, *BATCH)


def with_updates(backbone, updates):
    """The backbone with updates [L, D, F] added to its query and value kernels."""
    attention = dict(backbone["layers"]["attention"])
    for target, update in updates.items():
        attention[target] = {**attention[target], "kernel": attention[target]["kernel"] + update}
    return {**backbone, "layers": {**backbone["layers"], "attention": attention}}


def nothing(adapter):
    return {"lora": {}, "heads": adapter["heads"]}


# ------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("width", "rank", "bond", "mps", "lora"), [(4096, 256, 32, 1_574_912, 2_097_152), (384, 16, 8, 9_344, 12_288)]
)
def test_parameters_of_one_dense_layer(width, rank, bond, mps, lora):
    config = BertConfig(hidden_size=width, layers=1, heads=4, intermediate_size=8)
    each = {"heads": 0, "targets": ("query",)}
    assert trainable_parameters(config, rank, **each, adaptation="mps", bond=bond) == mps
    assert trainable_parameters(config, rank, **each) == lora
    assert trainable_parameters(config, 0, **each, adaptation="full") == width**2


def test_where_the_first_factor_is_split():
    assert [split(n) for n in (4096, 384, 768, 64, 32, 6, 7)] == [64, 16, 32, 8, 8, 2, 7]
    check_bond(16, 384)
    with pytest.raises(ConfigError, match="--bond: 17; allowed: 1 to 16, "):
        check_bond(17, 384)
    with pytest.raises(ConfigError, match="--bond: 9; allowed: 1 to 8, "):
        init_adapter(jax.random.key(0), TINY, 2, adaptation="mps", bond=9)


@pytest.mark.slow
def test_how_they_start():
    full, mps = new("full", 0), new("mps", 16)
    for target in ("query", "value"):
        assert not np.any(full["lora"]["layers"]["attention"][target]["dense"])
        tensors = mps["lora"]["layers"]["attention"][target]
        assert [tensors[name].shape for name in ("g1", "g2", "b")] == [(2, 8, 4), (2, 4, 4, 16), (2, 16, 32)]
        assert not np.any(tensors["b"])
        a = as_lora(mps["lora"])["layers"]["attention"][target]["a"]
        assert np.var(a) == pytest.approx(1 / 3 / 32, rel=0.4)  # as LoRA's A; few independent numbers
    wide = new("mps", 3, 5)
    np.testing.assert_array_equal(as_lora(wide["lora"])["layers"]["attention"]["query"]["a"][..., 3:], 0)
    small = as_lora(new("mps", 3)["lora"])
    narrow = pad_adapter({"lora": as_lora(wide["lora"])}, 3)["lora"]
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-7), narrow, small)


def test_the_first_factor_is_what_equation_84_says():
    tensors = new("mps")["lora"]["layers"]["attention"]["query"]
    first, second = np.asarray(tensors["g1"], float), np.asarray(tensors["g2"], float)
    a = np.asarray(as_lora(tensors)["a"])
    for i1, i2, k in ((0, 0, 0), (3, 1, 2), (7, 3, 1)):
        assert a[1, 4 * i1 + i2, k] == pytest.approx(sum(first[1, i1, x] * second[1, x, i2, k] for x in range(4)))


# ------------------------------------------------------------------------------------------------- functions


@pytest.mark.slow
def test_they_compute_what_their_updates_say(backbone):
    for adaptation, scale in (("full", 1.0), ("mps", 2.0)):
        fresh = new(adaptation, 0 if adaptation == "full" else 3)
        np.testing.assert_allclose(plain(backbone, fresh), plain(backbone, nothing(fresh)), atol=1e-6)
        adapter = moved(fresh)
        stored = as_lora(adapter["lora"])["layers"]["attention"]
        updates = {t: scale * (x["dense"] if "dense" in x else x["a"] @ x["b"]) for t, x in stored.items()}
        wanted = plain(with_updates(backbone, updates), nothing(adapter))
        np.testing.assert_allclose(plain(backbone, adapter, scale), wanted, atol=2e-5)
        assert np.abs(wanted - plain(backbone, fresh)).max() > 1e-3


@pytest.mark.slow
def test_gradients(backbone):
    """That of the whole update is the kernel's own; that of the tensors is the chain rule's, and differences agree."""
    full, mps = new("full", 0), moved(new("mps"))

    def loss(frozen, lora, heads, scale):
        return jnp.sum(head_logits(TINY, frozen, {"lora": lora, "heads": heads}, scale, *BATCH) ** 2)

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)), compiler_options=QUICK)
    of_kernel, of_update = gradient(backbone, full["lora"], full["heads"], 1.0)
    for target in ("query", "value"):
        kernel = of_kernel["layers"]["attention"][target]["kernel"]
        np.testing.assert_allclose(
            of_update["layers"]["attention"][target]["dense"], kernel, rtol=1e-4, atol=1e-5 * np.abs(kernel).max()
        )
    of_tensors = gradient(backbone, mps["lora"], mps["heads"], 2.0)[1]["layers"]["attention"]["query"]
    of_factors = gradient(backbone, as_lora(mps["lora"]), mps["heads"], 2.0)[1]["layers"]["attention"]["query"]
    tensors = mps["lora"]["layers"]["attention"]["query"]
    of_a = np.asarray(of_factors["a"]).reshape(2, 8, 4, 3)
    wanted = {
        "g1": np.einsum("lpqr,lxqr->lpx", of_a, tensors["g2"]),
        "g2": np.einsum("lpqr,lpx->lxqr", of_a, tensors["g1"]),
        "b": of_factors["b"],
    }
    for name, each in wanted.items():
        np.testing.assert_allclose(of_tensors[name], each, rtol=1e-3, atol=1e-4 * np.abs(each).max())
    # Differences along the gradient of one tensor.
    value = jax.jit(loss, compiler_options=QUICK)
    step = 1e-2 / np.linalg.norm(of_tensors["g2"])
    ends = []
    for sign in (1, -1):
        other = jax.tree.map(lambda leaf: leaf, mps["lora"])
        other["layers"]["attention"]["query"]["g2"] = tensors["g2"] + sign * step * of_tensors["g2"]
        ends.append(float(value(backbone, other, mps["heads"], 2.0)))
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float(np.sum(of_tensors["g2"] ** 2)), rel=2e-2)


def test_the_bond_limits_the_entropy_at_its_cut():
    tensors = as_lora(moved(new("mps", 3))["lora"])["layers"]["attention"]["value"]
    profile = entanglement_profile(tensors["a"], tensors["b"])
    place = int(np.flatnonzero(profile.dimension == split(32))[0])
    assert (profile.entropy[..., place] <= np.log(4) + 1e-6).all()
    free = entanglement_profile(np.random.default_rng(0).standard_normal((32, 3)), np.asarray(tensors["b"][0]))
    assert free.entropy[place] > np.log(4)


# ------------------------------------------------------------------------------------------------- files


def test_the_whole_update_is_stored_as_it_is_and_peft_does_not_take_it(tmp_path):
    adapter = moved(new("full", 0, targets=("query", "output.dense")))
    save_adapter(tmp_path, adapter, rank=0, alpha=16.0, base_model="base")
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "NCSIM_FULL"
    stored = load_adapter(tmp_path, TINY)
    jax.tree.map(np.testing.assert_array_equal, stored.adapter, adapter)
    assert (stored.rank, stored.scale) == (32, 1.0)
    other = BertConfig(hidden_size=16, layers=2, heads=4, intermediate_size=64)
    with pytest.raises(ConfigError, match="has no place here; allowed: updates of dense layers of 2 layers, 16 wide"):
        load_adapter(tmp_path, other)
    more = BertConfig(hidden_size=32, layers=3, heads=4, intermediate_size=64)
    with pytest.raises(ConfigError, match=r"lacks updates of layers.attention.*one for each of 3 layers"):
        load_adapter(tmp_path, more)


def test_tensors_are_stored_as_the_lora_that_they_are(tmp_path):
    adapter = moved(new("mps", 3, 5))
    adapter = {**adapter, "lora": jax.tree.map(lambda leaf: leaf, adapter["lora"])}
    for tensors in adapter["lora"]["layers"]["attention"].values():
        tensors["b"] = tensors["b"].at[:, 3:].set(0)
    save_adapter(tmp_path, adapter, rank=3, alpha=6.0)
    stored = load_adapter(tmp_path, TINY)
    wanted = pad_adapter({"lora": as_lora(adapter["lora"])}, 3)["lora"]
    jax.tree.map(np.testing.assert_array_equal, stored.adapter["lora"], wanted)
    assert (stored.rank, stored.scale) == (3, 2.0)


# ------------------------------------------------------------------------------------------------- options


def test_defaults_are_not_stored_and_others_are():
    assert not {"adaptation", "bond"} & set(to_dict(TextConfig()))
    mps = TextConfig(adaptation="mps", bond=4, ranks=(2,))
    assert to_dict(mps)["bond"] == 4
    assert from_dict(to_dict(mps)) == mps
    full = TextConfig(adaptation="full")
    assert full.ranks == (0,)
    assert from_dict(to_dict(full)) == full
    assert [full.scale(0), mps.scale(2), TextConfig(alpha=8).scale(4)] == [1.0, 8.0, 2.0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"adaptation": "full", "ranks": (4,)}, "--ranks: (4,) with --adaptation full, which has none"),
        ({"adaptation": "full", "ranks": [0, 1]}, "--ranks: [0, 1] with --adaptation full"),
        ({"adaptation": "full", "alpha": 3.0}, "--alpha: 3 with --adaptation full, which has none"),
        ({"adaptation": "full", "bond": 3}, "--bond: 3 with --adaptation full; allowed: with mps"),
        ({"bond": 3}, "--bond: 3 with --adaptation lora; allowed: with mps"),
        ({"adaptation": "dora"}, "--adaptation: 'dora'; allowed: lora, full, mps"),
        ({"ranks": (0,)}, "--ranks: 0; allowed"),
    ],
)
def test_what_does_not_go_together(fields, words):
    with pytest.raises(ConfigError) as error:
        TextConfig(**fields)
    assert str(error.value).startswith(words)
    assert "\n" not in str(error.value)
