"""
S along training
================

A run can record its networks while they train. Recording changes no member.
"""

import matplotlib.pyplot as plt

import ncsim

recording = ncsim.Recording(points=30, spacing="logarithmic")
grid = ncsim.config_grid(hidden=[2, 3], members=1_000, steps=1_000)
run = ncsim.run_ensemble(grid, recording=recording)
curves = [
    ncsim.trajectory_statistics(run.trajectories(cell), rows=16)
    for cell in range(len(grid))
]
print(
    f"recorded at {curves[0].step.size} steps, from {curves[0].step[0]} to {curves[0].step[-1]}"
)

# %%
# Left: the mean of S over members. Right: the share of members with S > 2. Shades are 95 % intervals.

figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for config, curve, colour in zip(grid, curves, ("#0072B2", "#D55E00"), strict=True):
    for axis, series in zip(axes, (curve.s, curve.above_2), strict=True):
        axis.plot(curve.step, series.mean, color=colour, label=f"n = {config.hidden}")
        axis.fill_between(
            curve.step, series.low, series.high, color=colour, alpha=0.25, linewidth=0
        )
for axis, label in zip(axes, ("mean S", "P(S > 2)"), strict=True):
    axis.set(xlabel="optimiser step", ylabel=label, xscale="symlog", xlim=(0, None))
axes[0].axhline(2, color="black", linestyle="--", linewidth=1)
axes[0].legend(frameon=False)
plt.show()

# %%
# The heads' gradients in the shared layer conflict where their cosine is negative. ``observed`` has that, too, by context.

conflict = curves[1].observed["conflict"].mean
print(
    "share of networks in conflict at the last step, n = 3, by context 11, 12, 21, 22:",
    conflict[-1].round(2),
)
