"""The text benchmark's peers do the same work, and operations are counted as derived. No rate is tested here."""

import dataclasses
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks import text
from benchmarks.native import MissingError
from benchmarks.peers import PEERS
from benchmarks.text_peers import TEXT_PEERS, MatrixProducts, NcsimText, TorchPeft
from benchmarks.text_real_peers import REAL_PEERS
from benchmarks.text_work import TextWork, executed_share, flops_per_token
from ncsim.text.model.bert import BERT_BASE_UNCASED

pytestmark = pytest.mark.usefixtures("quickly")

WORK = TextWork(size="tiny", batch=2, tokens=8, steps=2, rank=2, adapters=2)


@pytest.mark.parametrize(("rank", "expected"), [(1, 354e6), (32, 361e6), (512, 467e6)])
def test_operations_a_token_of_bert_base(rank, expected):
    assert flops_per_token(BERT_BASE_UNCASED, 128, rank) == pytest.approx(expected, abs=0.5e6)


def test_what_is_saved_is_most_of_the_last_layer():
    # Keys and values of one layer are 2 of 12 products of D x D, and are done twice.
    assert executed_share(BERT_BASE_UNCASED, 128, 8) == pytest.approx(1 - (10 / 12) / 12, abs=0.005)


def test_the_work_is_the_same_each_time_and_in_range():
    (alice, bob), pairs = WORK.arrays()
    again, _ = WORK.arrays()
    np.testing.assert_array_equal(alice[0], again[0][0])
    assert not np.array_equal(alice[0], bob[0])
    ids, mask, _, labels = alice
    assert ids.shape == (4, 8)
    assert ((ids > 0) == (mask > 0)).all()
    assert mask.sum(axis=1).min() >= 4
    assert set(labels) <= {0, 1}
    assert (np.sort(pairs["train"], axis=1) == np.arange(4)[:, None]).all()


@pytest.mark.thorough  # compiling a run takes its time
def test_ncsim_trains_and_writes_how_it_began(tmp_path):
    peer = NcsimText(WORK, at_once=1)
    order = peer.begin(str(tmp_path))
    assert order.shape == (2, 2, 2, 2)
    began = load_file(tmp_path / "1" / "adapter_model.safetensors")
    assert all((tensor == 0).all() == name.endswith("lora_B.weight") for name, tensor in began.items())
    losses = peer.losses(2)
    assert losses.shape == (2, 2)
    np.testing.assert_array_equal(losses, peer.losses(2))
    assert peer.run(1) == 2 * WORK.sequences == 16
    assert peer.compile_seconds > 0


def test_other_work_is_refused():
    losses = np.array([[1.0, 0.9], [1.1, 0.8]])
    assert text.check_losses(losses, losses + 1e-5) == pytest.approx(1e-5)
    for theirs in (losses + 1e-3, losses * np.nan):
        with pytest.raises(RuntimeError, match="losses of the peers differ by"):
            text.check_losses(losses, theirs)
    with pytest.raises(RuntimeError, match="nothing is trained"):
        text.check_losses(np.ones((2, 2)), np.ones((2, 2)))


def test_a_missing_peer_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingError, match=r"^peft is not installed$"):
        TorchPeft(WORK, str(tmp_path), np.zeros(0))
    assert text._row(text.Timed("torch + peft", missing="peft is not installed"), "")[1] == "missing"


def test_every_peer_has_a_name_of_its_own():
    """One process makes any of them by its name."""
    names = [*PEERS, *TEXT_PEERS, *REAL_PEERS]
    assert len(set(names)) == len(names)


def test_matrix_products_have_a_rate():
    assert MatrixProducts().measure("float32", 64, rounds=2) > 1e6


@pytest.mark.slow
def test_pytorch_with_peft_trains_the_same(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("peft", reason="peft is not installed")
    work = dataclasses.replace(WORK, model=text._random_model(tmp_path / "model", "tiny"))
    ours = NcsimText(work, at_once=2)
    theirs = TorchPeft(work, str(tmp_path / "adapters"), ours.begin(str(tmp_path / "adapters")))
    text.check_losses(ours.losses(2), theirs.losses(2))
    assert theirs.run(1) == 16


@pytest.mark.thorough
def test_the_accelerators_half_runs_anywhere(capsys):
    """On a processor, and tiny: its numbers mean nothing here, but there are numbers."""
    work = dataclasses.replace(WORK, precision="bfloat16", adapters=4)
    found = text.measure_accelerator(1, work, at_once=(1, 4), matrices=(64,))
    assert [one["ratio"]["median"] > 0 for one in found["measured"]] == [True, True]
    assert all(0 < one["executed"] < one["utilisation"] for one in found["measured"])
    assert "model-flops utilisation" in capsys.readouterr().out
