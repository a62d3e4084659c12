"""
Text, with a tiny BERT
======================

``ncsim text`` asks the same questions of adapters of a frozen BERT. This example makes up its sentences and its model, a random BERT of
two layers, so that it needs no download. It shows how a text run is made and read, and says nothing about real text.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import ncsim

sys.path.insert(0, ".")  # run from the clone: the made-up data is defined there
from experiments.text_demo import made_up_data, tiny_model

scratch = tempfile.TemporaryDirectory()  # gone when the script ends
folder = Path(scratch.name)
config = ncsim.text.TextConfig(
    model=str(tiny_model(folder / "model")),
    suite=str(made_up_data(folder / "data")),
    ranks=(4,),
    epochs=6,
    items=64,
    test_items=64,
    batch_size=16,
    length=12,
    learning_rate=1e-2,
)
run = ncsim.text.run_text(config, folder / "run", cache_dir=folder / "cache")
s = run.statistics()  # [rank, seed, epoch evaluated, split: training or test]
print(f"counts {run.counts.shape}, evaluated after epochs {run.epochs}")

# %%
# Whether one word is there is learned (first task of each party). Whether exactly one of two words is there is harder.

figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
for i in (0, 1):
    for j in (0, 1):
        axes[0].plot(
            run.epochs,
            s.accuracy_alice[0, 0, :, 0, i, j],
            "-o",
            markersize=3,
            label=f"Alice {i + 1} with Bob {j + 1}",
        )
axes[0].set(xlabel="epoch", ylabel="accuracy of Alice, training pairs", ylim=(0.4, 1.02))
axes[0].legend(frameon=False, fontsize=8)
for split, words in enumerate(("training pairs", "test pairs")):
    axes[1].plot(run.epochs, s.s[0, 0, :, split], "-o", markersize=3, label=words)
axes[1].axhline(2, color="black", linestyle="--", linewidth=1)
axes[1].set(xlabel="epoch", ylabel="S")
axes[1].legend(frameon=False)
plt.show()
