"""
Contextuality and the protocols
===============================

A *protocol* is a rule by which a run chooses one trained network per context. It needs no new training. Each protocol makes some of
the stored networks more likely, and the law of S follows exactly.
"""

import matplotlib.pyplot as plt
import numpy as np

import ncsim
from ncsim.report.summary import summarise  # what `ncsim report` stores in summary.json

run = ncsim.run_ensemble(ncsim.EnsembleConfig(hidden=3, members=2_000, steps=1_000))
protocols = summarise(run).numbers["cells"][0]["protocols"]
for protocol in protocols:
    above, contextual = protocol["s_above_2"], protocol["sampled_runs_contextual"]
    print(
        f"{protocol['protocol']:<32} mean S {protocol['mean_s']['value']:.2f}   "
        f"P(S > 2) {above['value']:.2f}   contextual {contextual['value']:.3f}, at most {contextual['high']:.3f}"
    )

# %%
# Bars are the exact laws of S. "Retry until solved" trains until both heads are right on all rows. It favours the contexts
# that can be solved, and S goes up. No run is contextual: once direct influence is discounted nothing is left.

figure, axes = plt.subplots(
    len(protocols), 1, figsize=(7, 6.4), sharex=True, layout="constrained"
)
for axis, protocol in zip(axes, protocols, strict=True):
    values = np.array(protocol["law"]["s"])
    axis.bar(
        values,
        protocol["law"]["probability"],
        0.1,
        color=np.where(values > 2, "#D55E00", "#56B4E9"),
    )
    axis.axvline(2, color="black", linestyle="--", linewidth=1)
    axis.set(xlim=(0.4, 3.4), yticks=[])
    axis.set_title(protocol["protocol"], loc="left", fontsize=9)
axes[-1].set_xlabel("S")
plt.show()
