"""
Interventions
=============

If the two heads influence each other through the shared layer, S must change when that way is cut. Each intervention changes the
gradient that a head sends into the shared layer, and nothing else.
"""

import matplotlib.pyplot as plt
import numpy as np

import ncsim

names = ["none", "pcgrad", "separate_trunks"]
run = ncsim.run_ensemble(
    ncsim.config_grid(intervention=names, hidden=3, members=1_000, steps=800)
)
s = run.statistics()  # [cell, member]
for name, values, influence in zip(names, s.s, s.influence, strict=True):
    print(
        f"{name:<20} mean S {values.mean():.2f}   S > 2 {(values > 2).mean():4.0%}   influence {influence.mean():.2f}"
    )

# %%
# Bars are shares of members with S > 2, with their 95 % intervals.

shares = [ncsim.clopper_pearson(int((values > 2).sum()), values.size) for values in s.s]
middle = np.array([share.value for share in shares])
reach = np.abs(np.array([[share.low, share.high] for share in shares]).T - middle)
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
axis.barh(
    names[::-1],
    middle[::-1],
    xerr=reach[:, ::-1],
    color="#56B4E9",
    ecolor="black",
    capsize=3,
)
axis.set(xlabel="P(S > 2)", xlim=(0, None))
plt.show()

# %%
# With ``separate_trunks`` nothing that one head does can reach the other: each has a layer of its own. What is left of influence
# there is chance. A member has four networks that start apart, and two networks differ.
