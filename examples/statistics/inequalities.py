"""
Bell inequalities and their bounds
==================================

CHSH is the first of many. The bounds of the chained inequality are computed for two to six settings per party: of local
models, of quantum states, and without signalling.
"""

import matplotlib.pyplot as plt
import numpy as np

import ncsim

settings = range(2, 7)
chained = [ncsim.chained_inequality(m) for m in settings]
bounds = {
    "local": [inequality.classical_bound for inequality in chained],
    "quantum": [inequality.quantum_bound for inequality in chained],
    "no signalling": [inequality.no_signalling_bound for inequality in chained],
}
for name, values in bounds.items():
    print(f"{name:<15}", np.round(np.array(values, float), 3))

# %%
# With more settings the quantum bound comes closer to what no-signalling allows.

figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
for (name, values), colour, mark in zip(
    bounds.items(), ("#56B4E9", "#009E73", "#E69F00"), "os^", strict=True
):
    axis.plot(settings, values, mark + "-", color=colour, label=name)
axis.set(xlabel="settings per party", ylabel="largest value", xticks=list(settings))
axis.legend(frameon=False)
plt.show()

# %%
# An inequality has a value on any table of counts. Three heads at once take Mermin's.

table = np.random.default_rng(0).integers(
    1, 9, (2, 2, 2, 2, 2, 2)
)  # three parties: settings, then outcomes
mermin = ncsim.mermin_inequality()
print(
    f"Mermin on a table of coin tosses {float(mermin.value(table)):.2f}, local bound {mermin.classical_bound}"
)
