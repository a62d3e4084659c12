"""A sentence encoder: vectors against the mean of hidden states one sentence at a time, and choices against their closed forms."""

import numpy as np
import pytest

import ncsim
from ncsim.statistics.chsh import chsh_statistics
from ncsim.text.model.bert import Bert
from ncsim.text.model.checkpoint import load_backbone
from ncsim.text.sentences import choice_table, sentence_vectors
from tests.support.text_model import write_model_and_data


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The recorded tiny BERT with a tokeniser of a few words."""
    return write_model_and_data(tmp_path_factory.mktemp("model")) / "model"


@pytest.mark.slow
def test_a_vector_is_the_mean_of_the_tokens_and_knows_nothing_of_padding(model):
    sentences = ["the council is on the river", "what he said of monday", "river"]
    together = sentence_vectors(model, sentences)
    alone = sentence_vectors(model, sentences, length=9)
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-12)
    assert abs(together[0] @ together[1]) < 1 - 1e-4

    from tokenizers import Tokenizer

    config, parameters = load_backbone(model)
    ids = np.array([Tokenizer.from_file(str(model / "tokenizer.json")).encode(sentences[0]).ids])
    hidden = np.asarray(Bert(config).apply({"params": parameters}, ids, np.ones_like(ids), 0 * ids)[0])[0]
    mean = hidden.mean(axis=0)
    np.testing.assert_allclose(together[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_choices_by_closed_forms():
    cosines = np.random.default_rng(0).normal(size=(2, 2, 2, 2))
    found = choice_table(cosines, 0.5)
    np.testing.assert_allclose(found.sum(axis=(2, 3)), 1)
    np.testing.assert_allclose(
        np.log(found[..., 0, 0] / found[..., 1, 1]), 2 * (cosines[..., 0, 0] - cosines[..., 1, 1])
    )
    np.testing.assert_allclose(choice_table(cosines + 7, 0.5), found)  # what all answers have in common says nothing
    np.testing.assert_allclose(choice_table(cosines, 1e9), 0.25, atol=1e-8)
    # Two answers a context that lead by ln 3 temperatures: 3/8 each, 1/8 the others; E = 1/2.
    lead = 0.1 * np.log(3) * np.broadcast_to(np.eye(2), (2, 2, 2, 2))
    correlation = np.einsum("ijab,ab->ij", choice_table(lead, 0.1), [[1, -1], [-1, 1]])
    np.testing.assert_allclose(correlation, 0.5)


def test_sharp_choices_make_a_large_sum_without_contextuality():
    """The nearest answer is certain: a CHSH sum of 4 by direct influence alone, and of 2 where no answer depends on the other setting."""
    nearest = np.zeros((2, 2, 2, 2))
    nearest[0, 0, 0, 0] = nearest[0, 1, 0, 0] = nearest[1, 0, 0, 0] = nearest[1, 1, 0, 1] = 1
    found = chsh_statistics(choice_table(nearest, 1e-3)[..., ::-1, ::-1])
    assert (float(found.s), float(found.influence), float(found.contextuality)) == pytest.approx((4, 2, 0))
    apart = np.zeros((2, 2, 2, 2))
    apart[..., 0, 1] = 1
    found = chsh_statistics(choice_table(apart, 1e-3)[..., ::-1, ::-1])
    assert (float(found.influence), float(found.contextuality)) == pytest.approx((0, 0))


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf")])
def test_other_temperatures_are_refused(temperature):
    with pytest.raises(ncsim.ConfigError, match=r"^temperature: .*; allowed: a finite number above 0$"):
        choice_table(np.zeros((1, 1, 2, 2)), temperature)


def test_no_sentence_is_refused():
    with pytest.raises(ncsim.ConfigError, match="sentences: none"):
        sentence_vectors("anywhere", [])
