"""One network.

`network` has the mathematics, `initialization` what a network starts from, `losses`, `gradients` and `optimizers` what moves it,
`step` one step and a whole training, `observation` what is recorded of it. `flax_module` is the same network for Flax users.

Decisions
---------
Lanes. A layer of sixteen rows and three units is no matrix product worth the name, and small batched products are
what makes the obvious `vmap` slow. Every array in this package may carry trailing *lane* axes, one entry a
network, and every operation is elementwise over them: one network is the case without lanes, a block is sixty-four of
them. The code is written once, for one network; batching is in `executors/`. Elementwise operations give a lane the same
bits whatever stands in the others, which is what makes a member reproducible.

The gradient is written by hand (`network.backward`) because sums over rows as autodiff leaves them compile to loops
several times slower. Tests hold it to `jax.grad` and to a reference in plain Python. `optimization_barrier` after the
hidden layer, the residuals and the back-propagated gradient keeps XLA from recomputing them in every consumer.

Two logits are one. Cross-entropy of two logits is binary cross-entropy of their difference, so the step works on the
difference and hands the gradient on with both signs; both logits' parameters exist and move.

Keys. Member m, context c starts from `fold_in(fold_in(root, m), c)`, or from `fold_in(root, m)` with common
initialisation. `fold_in` takes 32 bits, so member ids are below 2^32. Variates are drawn in float32 in either precision.

Optimisers are optax's, by name. Elementwise ones run on all lanes' parameters at once; those that look at a layer's
norm are vmapped over lanes on the four tensors. A test compares every one of them with optax on a single network.
Both heads stand in one tensor, so such a norm joins them: these optimisers are refused where an option promises that the heads are
apart (`config.ensemble.isolating`), and tests train twins that differ in one party to see that the other party does not.

Squared error is of a linear output against -1 and +1, so that every loss decides at 0 and one tolerance serves all.

Interventions change the gradient, in one place. `training.gradients.gradient` sends each head's gradient into the shared layer, or
does not, or projects it (PCGrad), by the config's `intervention`; every executor runs that step, so none has code for it. With
`separate_trunks` a network has twice the hidden units, each half feeding one head: a head has as many units as it would share,
and both together twice as many. `training_rows` puts a 1 or 0 a row behind a network's parameters, in the same vector, which the
step reads and never changes: executors carry it as they carry parameters. Where these fields have their defaults the generated
C is the same text as before they came, and `config.ensemble.identity` leaves them out of what names a run (`LATER_FIELDS`).
"""
