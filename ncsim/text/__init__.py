"""The same, with BERT on real text.

The folder has the rooms of the package itself: `config`, `records`, `run`, `run_folder`, `results`, and the folders `data`, `model`,
`training` and `report`.

Decisions
---------
Text: a tree frozen, a tree trained. Low-rank factors live in a variable collection of their own, so that adapters are
vmapped and the backbone is not, and every frozen product stays one matrix product. Ranks of a group are zero-padded to its
largest; the padding's gradient is zero. Each adapter is drawn at its own rank from its own key.

Text: Alice's and Bob's items are two passes, each as long as its party's longest item, not one of both: on the mixed
suite a fifth faster, since sentences of films are shorter than problems of arithmetic.

Text: own checkpoints, not orbax's. A group's state is one safetensors file with a checksum, written as every other file
here is: whole or not at all. A checkpoint is for one machine and one run, and needs nothing that a checkpoint library adds.
"""
