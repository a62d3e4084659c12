"""
Quantum or not
==============

Which tables have a local explanation, which have a quantum one, and which have neither? Two criteria answer, and they meet at
2 sqrt 2.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

import ncsim

same, other = np.diag([0.5, 0.5]), np.diag([0.5, 0.5])[::-1]
box = np.array([[same, same], [same, other]])  # a PR box: S = 4 without signalling
turned = np.array([[other, same], [same, same]])  # another: its minus is in context 11
noise = np.full((2, 2, 2, 2), 0.25)

# %%
# Mix both boxes with noise. ``quantum_statistics`` decides every table of the plane at once, by the criterion of arcsines.

shares = np.linspace(-1, 1, 201)
x, y = np.meshgrid(shares, shares)
inside = np.abs(x) + np.abs(y) <= 1
x, y = (
    np.where(inside, x, 0)[..., None, None, None, None],
    np.where(inside, y, 0)[..., None, None, None, None],
)
tables = noise + x * (box - noise) + y * (turned - noise)
kinds = ncsim.quantum_statistics(np.round(tables * 10**6).astype(np.int64))
kind = np.where(kinds.local, 0.0, np.where(kinds.quantum_correlators, 1.0, 2.0))

figure, axis = plt.subplots(figsize=(5.6, 4.4), layout="constrained")
colours = ListedColormap(["#56B4E9", "#009E73", "#E69F00"])
axis.pcolormesh(
    shares,
    shares,
    np.where(inside, kind, np.nan),
    cmap=colours,
    vmin=-0.5,
    vmax=2.5,
    rasterized=True,
)
for colour, words in zip(
    colours.colors, ("local", "quantum, not local", "neither"), strict=True
):
    axis.scatter([], [], marker="s", s=60, color=colour, label=words)
axis.set(xlabel="share of the PR box", ylabel="share of the turned box", aspect="equal")
axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %%
# The hierarchy of Navascues, Pironio and Acin bounds any inequality and any table (extra ``quantum``). For CHSH its bound is
# Tsirelson's, and a PR box must be mixed with noise until 1 / sqrt 2 of it is left. That is where green ends on the axis of the box.

print(f"quantum bound of CHSH       {ncsim.npa_bound(ncsim.chsh_inequality()):.4f}")
print(f"share of a PR box allowed   {ncsim.npa_visibility(box):.4f}")
edge = shares[(kind[100] < 2) & inside[100]].max()
print(f"edge of green in the map    {edge:.2f}")
