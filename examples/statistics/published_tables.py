"""
A published table
=================

Any table of joint outcomes can be asked what an ensemble is asked. This one has 81 people in each of four contexts: which pair is the
best example of *The Animal Acts* (Aerts and Sozzo 2011)? ``ncsim table FILE`` prints the same.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import ncsim
from ncsim.tables import describe, lines

scratch = tempfile.TemporaryDirectory()  # gone when the script ends
file = Path(scratch.name) / "animal_acts.csv"
file.write_text("""alice,bob,++,+-,-+,--
Tiger/Cat,Snorts/Meows,12,7,8,54
Tiger/Cat,Growls/Whinnies,63,7,7,4
Horse/Bear,Snorts/Meows,48,2,24,7
Horse/Bear,Growls/Whinnies,4,51,21,5
""")
table = ncsim.read_table(file)
found = describe(table)
print("\n".join(lines(table, found)))

# %%
# S is above 2. But an answer about the animal depends on which acts were offered beside it: the people's choices *signal*. The bound
# with signalling is 2 plus the direct influence, and S is below it. Delta is the difference.

s_low, s_high = found["s_interval"]
figure, axis = plt.subplots(figsize=(7, 2.2), layout="constrained")
axis.plot([s_low, s_high], [0, 0], color="#0072B2", linewidth=2, label="95 % interval")
axis.plot(found["s"], 0, "o", color="#0072B2", label="S of the table")
for bound, words, style in (
    (2, "2: without signalling", "--"),
    (2 + found["influence"], "2 + direct influence", "-"),
):
    axis.axvline(bound, color="black", linestyle=style, linewidth=1, label=words)
axis.set(yticks=[], xlabel="S", xlim=(1.5, 6), ylim=(-1, 1))
axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()
