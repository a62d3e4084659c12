"""
A first ensemble
================

Two thousand members are trained, and S of each is drawn beside what accuracies alone give.

A member is four networks, one per context. Training them takes seconds, and the run stays in memory.
"""

import matplotlib.pyplot as plt
import numpy as np

import ncsim

run = ncsim.run_ensemble(ncsim.EnsembleConfig(hidden=3, members=2_000, steps=1_000))
s = run.statistics()  # arrays, one value per member

print(f"counts              {run.counts.shape}")
print(f"mean S              {s.s.mean():.2f}")
print(f"accuracies alone    {s.s_factorised.mean():.2f}")
print(f"S > 2               {(s.s > 2).mean():.0%} of members")

# %%
# S lies on a grid of 1/8, because a correlator is a mean over sixteen rows. Bars right of the line have S > 2.

values, members = np.unique(s.s, return_counts=True)
figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
axis.bar(values, members / members.sum(), 0.1, color="#56B4E9", label="S of a member")
axis.hist(
    s.s_factorised,
    np.arange(values.min() - 1 / 16, 3, 1 / 8),
    weights=np.full(s.s.size, 1 / s.s.size),
    histtype="step",
    color="#D55E00",
    label="accuracies alone",
)
axis.axvline(2, color="black", linestyle="--", linewidth=1)
axis.set(xlabel="S", ylabel="share of members")
axis.legend(frameon=False)
plt.show()

# %%
# S above 2 is no sign of anything non-classical here. The next line asks how many members are *contextual*: whether
# anything is left of S > 2 once direct influence is discounted.

contextual = int((s.contextuality > 0).sum())
print(f"contextual          {ncsim.clopper_pearson(contextual, s.s.size)} of members")
