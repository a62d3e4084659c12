"""
S along training
================

A run can record its networks while they train. Recording changes no member.
"""

import matplotlib.pyplot as plt

import ncsim

recording = ncsim.Recording(points=30, spacing="logarithmic")
config = ncsim.EnsembleConfig(hidden=3, members=1_000, steps=1_000)
run = ncsim.run_ensemble(config, recording=recording)
curve = run.trajectory_statistics()
print(f"recorded at {curve.step.size} steps, from {curve.step[0]} to {curve.step[-1]}")

# %%
# Left: the mean of S over members, with its 95 % interval. Right: the share of networks that are right on every row, by context.

figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
axes[0].plot(curve.step, curve.s.mean, color="#0072B2")
axes[0].fill_between(curve.step, curve.s.low, curve.s.high, color="#0072B2", alpha=0.25)
axes[0].axhline(2, color="black", linestyle="--", linewidth=1)
axes[1].plot(curve.step, curve.solved.mean, label=["11", "12", "21", "22"])
axes[1].legend(frameon=False, title="context")
for axis, label in zip(axes, ("mean S", "share solved"), strict=True):
    axis.set(xlabel="optimiser step", ylabel=label, xscale="symlog", xlim=(0, None))
plt.show()

# %%
# The heads' gradients in the shared layer conflict where their cosine is negative. ``observed`` has that, too, by context.

conflict = curve.observed["conflict"].mean
print("share of networks in conflict at the last step, by context:", conflict[-1].round(2))
