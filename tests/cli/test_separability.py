"""`ncsim separability`: the numbers of `foreign_share` with their intervals, and what is refused in one line."""

import json

import numpy as np
import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.cli.separability import described

SMALL = "separability --hidden 1 --members 6 --steps 20 --contexts 12 --at 1 20 --devices 1".split()
PLAIN = "separability --members 6 --steps 20".split()


def printed(capsys, *words):
    main([*SMALL, *words])
    return capsys.readouterr().out


@pytest.mark.slow
def test_the_command_gives_what_python_gives(capsys):
    found = json.loads(printed(capsys, "--json", "--ridge", "0.1"))
    config = ncsim.EnsembleConfig(hidden=1, members=6, steps=20, precision="float64")
    share = ncsim.foreign_share(config, [1, 20], ["12"], devices=1)
    first, last = found["rows"]
    assert (first["context"], first["step"], last["step"]) == ("12", 1, 20)
    assert first["foreign_share_alice"]["value"] == first["foreign_share_bob"]["value"] == 0
    for party, name in enumerate(("alice", "bob")):
        there = share.share[:, 0, 1, party]
        assert last[f"foreign_share_{name}"]["value"] == pytest.approx(np.nanmean(there))
        entropy = share.schmidt_entropy()[:, 0, 1, party] / np.log(2)
        assert last[f"entropy_{name}"]["value"] == pytest.approx(entropy.mean())
        assert last["members_without_share"] >= np.isnan(there).sum()
    assert last["cross_kernel"]["value"] == pytest.approx(share.cross_kernel()[:, 0, 1].mean())
    assert last["information"]["value"] == pytest.approx(share.curvature_information(0.1)[:, 0, 1].mean())
    assert last["entanglement"]["high"] >= last["entanglement"]["value"] > last["information"]["value"]


@pytest.mark.slow
def test_an_interval_of_the_entropy_allows_two_bits(monkeypatch):
    """Logits are a 4 x 4 matrix, of 2 bits at most: what six members and other steps had is no limit of the law's."""
    config = ncsim.EnsembleConfig(hidden=1, members=6, precision="float64")
    found = ncsim.foreign_share(config, [1], ["12"], devices=1)
    entropy = np.full((6, 1, 1, 2), 0.01 * np.log(2))  # of each member
    monkeypatch.setattr(type(found), "schmidt_entropy", lambda self: entropy)
    (row,) = described(found, None)
    # So often something else may be there, and six members have not shown it; half of the error is for the case that it is the more common.
    missed = 1 - 0.025 ** (1 / 6)
    assert row["entropy_alice"]["high"] == pytest.approx(0.01 + missed * (2 - 0.01))


@pytest.mark.slow
def test_the_table_has_a_line_per_context_and_step(capsys):
    text = printed(capsys)
    assert "6 members, intervention none" in text
    assert [line.split()[:2] for line in text.splitlines() if line.startswith("  12")] == [["12", "1"], ["12", "20"]]
    assert "ridge" not in text


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--hidden", "1", "2"], "a grid of 2 cells; allowed here: one value per option"),
        (
            ["--precision", "float32"],
            "--precision: float32; twins differ by less than it resolves; allowed here: float64",
        ),
        (["--at", "5", "2"], "--at: 5 2; allowed: ascending whole numbers from 0 to 1,000,000,000"),
        (["--at", "x"], "--at: x; allowed: "),
        (["--contexts", "13"], "--contexts: 13; allowed: 11, 12, 21, 22, each once"),
        (["--ridge", "0"], "--ridge: 0.0; allowed: a number above 1e-10 and below 1e+06"),
        (["--ridge", "much"], "--ridge: much; allowed: a number above 1e-10 and below 1e+06"),
        (["--optimizer", "lion"], "--optimizer: lion; its steps are signs"),
    ],
)
def test_what_is_refused(words, line, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*PLAIN, *words])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"ncsim: error: {line}")


def test_settings_are_printed_as_a_file_that_the_command_takes(capsys, tmp_path):
    text = printed(capsys, "--print-config")
    (tmp_path / "settings.toml").write_text(text)
    main(["separability", "--config", str(tmp_path / "settings.toml"), "--print-config"])
    assert capsys.readouterr().out == text
