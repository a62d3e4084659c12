"""
A grid, and pandas
==================

An option with several values is an axis of a grid. The whole grid is one run, and one data frame.
"""

import matplotlib.pyplot as plt

import ncsim

grid = ncsim.config_grid(
    hidden=[2, 3, 4], learning_rate=[0.003, 0.01, 0.03], members=1_000, steps=1_000
)
run = ncsim.run_ensemble(grid)
print(run.swept, run.counts.shape)

# %%
# A row of the data frame is a member. Axes of the grid are columns in their own types.

frame = run.to_pandas().dropna(
    subset="S"
)  # a network that diverged leaves its member without S
frame["above_2"] = frame["S"] > 2
print(
    frame[["hidden", "learning_rate", "member", "S", "influence", "Delta"]]
    .head(3)
    .to_string(index=False)
)

# %%
# One line of pandas makes the table, and four of matplotlib the map. For xarray, use ``run.to_xarray()``.

share = frame.pivot_table(index="hidden", columns="learning_rate", values="above_2")
print(share.round(3))

figure, axis = plt.subplots(figsize=(5.4, 3.4), layout="constrained")
image = axis.imshow(share, cmap="cividis", vmin=0, aspect="auto")
for row, line in enumerate(share.to_numpy()):
    for column, value in enumerate(line):
        shade = "black" if value > share.to_numpy().max() / 2 else "white"
        axis.text(column, row, f"{value:.0%}", ha="center", va="center", color=shade)
axis.set_xticks(range(len(share.columns)), share.columns)
axis.set_yticks(range(len(share.index)), share.index)
axis.set(xlabel="learning rate", ylabel="hidden units", title="members with S > 2")
plt.show()
