"""
Your own task
=============

Any two binary tasks per party over the same binary inputs will do. Here there are eight rows of three features.
"""

import matplotlib.pyplot as plt

import ncsim

tasks = ncsim.truth_tables(
    features=3,
    alice=[lambda x, y, z: x & y, lambda x, y, z: x ^ y],
    bob=[lambda x, y, z: y | z, lambda x, y, z: x ^ y ^ z],
    name="my tasks",
)
run = ncsim.run_ensemble(
    ncsim.EnsembleConfig(tasks=tasks, hidden=3, members=2_000, steps=1_000)
)
s = run.statistics()
print(f"{tasks.rows} rows, {tasks.features} features")
print(f"mean S {s.s.mean():.2f}, S > 2 in {(s.s > 2).mean():.0%} of members")

# %%
# In the mean, how often is each head right? A head's accuracy on one and the same task changes with the other head's
# task. That is *direct influence*, and it is what raises S here.

figure, axes = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
for axis, who, accuracy in zip(
    axes, ("Alice", "Bob"), (s.accuracy_alice, s.accuracy_bob), strict=True
):
    mean = accuracy.mean(axis=0)  # by Alice's task and Bob's
    image = axis.imshow(mean, vmin=0.6, vmax=1, cmap="cividis")
    for i in (0, 1):
        for j in (0, 1):
            axis.text(
                j,
                i,
                f"{mean[i, j]:.3f}",
                ha="center",
                va="center",
                color="black" if mean[i, j] > 0.8 else "white",
            )
    axis.set_xticks([0, 1], ["y or z", "x ^ y ^ z"])
    axis.set_yticks([0, 1], ["x and y", "x ^ y"])
    axis.set(title=f"accuracy of {who}", xlabel="Bob's task", ylabel="Alice's task")
figure.colorbar(image, ax=axes, shrink=0.8)
plt.show()

print(f"direct influence, mean over members: {s.influence.mean():.2f}")
