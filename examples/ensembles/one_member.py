"""
The weights of one member
=========================

A run keeps counts and no weights. A member's id decides how it trains, so chosen members are trained again and compared
bit for bit with what is stored.
"""

import contextlib
import io
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import ncsim
from ncsim.cli import main

# Tasks of two features, so that a network can be drawn in the plane.
tasks = ncsim.truth_tables(
    features=2,
    alice=[lambda x, y: x & y, lambda x, y: x ^ y],
    bob=[lambda x, y: x | y, lambda x, y: 1 - (x ^ y)],
)
scratch = tempfile.TemporaryDirectory()  # gone when the script ends
folder = Path(scratch.name) / "run"
run = ncsim.run_ensemble(
    ncsim.EnsembleConfig(tasks=tasks, hidden=3, members=300, steps=1_000), out=folder
)
s = run.statistics().s
member = int(np.argmax(s))
networks = ncsim.parameters(run, [member])
print(f"member {member} has S = {s[member]:.2f}")
print(
    f"weights of its shared layers, [member, i, j, features, units]: {networks.hidden_kernel.shape}"
)

# %%
# The weights fit the Flax module ``ncsim.NCnet``. Each panel shows one network: the line of each hidden unit, with its active side
# shaded, and the four rows. A circle is filled where a head answers 1: Alice's is the inner one, Bob's the outer.

figure, axes = plt.subplots(
    2, 2, figsize=(6.4, 6.4), layout="constrained", sharex=True, sharey=True
)
inputs = np.array(tasks.inputs, np.float32)
plane = np.stack(
    np.meshgrid(np.linspace(-0.6, 1.6, 200), np.linspace(-0.6, 1.6, 200)), axis=-1
)
for (i, j), axis in np.ndenumerate(axes):
    kernel, bias = networks.hidden_kernel[0, i, j], networks.hidden_bias[0, i, j]
    for unit, colour in enumerate(("#0072B2", "#009E73", "#E69F00")):
        before = plane @ kernel[:, unit] + bias[unit]
        axis.contour(plane[..., 0], plane[..., 1], before, levels=[0], colors=[colour])
        axis.contourf(
            plane[..., 0],
            plane[..., 1],
            before,
            levels=[0, np.inf],
            colors=[colour],
            alpha=0.12,
        )
    answers = (
        np.asarray(
            ncsim.NCnet(networks.config).apply(networks.variables(0, i=i, j=j), inputs)
        )
        > 0
    )
    right = [
        int((answers[:, 0] == tasks.alice[i]).sum()),
        int((answers[:, 1] == tasks.bob[j]).sum()),
    ]
    for row, (alice, bob) in zip(inputs, answers, strict=True):
        axis.plot(
            *row, "o", markersize=16, color="#444444", fillstyle="full" if bob else "none"
        )
        axis.plot(
            *row,
            "o",
            markersize=8,
            color="white" if bob else "#444444",
            fillstyle="full" if alice else "none",
        )
    axis.set_title(
        f"Alice {i + 1} with Bob {j + 1}: right {right[0]} and {right[1]} of 4", fontsize=9
    )
    axis.set(xticks=[0, 1], yticks=[0, 1], aspect="equal")
figure.supxlabel("x")
figure.supylabel("y")
plt.show()

# %%
# ``ncsim show FOLDER MEMBER`` draws the networks of any tasks: a line per unit, with a square where a row lies on its active
# side. Below it are the logits of both heads, with a dot for a right answer and a cross for a wrong one, and at the bottom the
# losses along training.

with contextlib.redirect_stdout(io.StringIO()):
    main(["show", str(folder), str(member), "--out", str(folder / "member")])

image = plt.imread(folder / "member.png")
figure = plt.figure(figsize=(9, 9 * image.shape[0] / image.shape[1]))
figure.add_axes((0, 0, 1, 1)).imshow(image)
plt.axis("off")
plt.show()
