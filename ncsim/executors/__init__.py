"""Many networks at once.

`choice` says which executor trains a run: `xla`, `native`, `cuda` or `pallas`. `scalarise` turns the step into operations on single
elements, for the last three; `lane_program` has them as operations on lane arrays, for `pallas`. `devices` starts devices, and names
those that fail.

Decisions
---------
XLA switches. `xla_cpu_small_while_loop_byte_threshold` compiles a whole training loop into one function instead of
dispatching its operations at every step (about twice as fast). It is an *extra* option, which a version of XLA that does
not know it ignores, and it goes into `XLA_FLAGS` before JAX starts unless the user has set extra options. The vector
width is given to the compiler with the program, where an unknown name is an error and not an abort.

One step, four executors. A kernel that keeps the state in registers has no small arrays: neither `stack` nor an array of 23
parameters. The Pallas executor therefore has no mathematics: `training.step.make_step` is traced for
one network and evaluated element by element (`executors/scalarise.py`), where slices and stacks happen while tracing and
only elementwise operations reach the kernel. An optimiser with another operation is refused by the operation's name.
What is the same for all networks, as Adam's bias corrections, comes from outside the kernel as a table with a row per step,
1,024 steps per call: a TPU's compiler has no power of scalars. The graph and its order are those of generated C
(`executors/lane_program.py`), which spills a third (n = 3) to a half (n = 8) fewer registers. Interpreted, the kernel agrees with the scan to
5e-7 after one step and 5e-6 after ten. It is for TPUs: libtpu compiles it for one that is not there
(`make test-tpu-static`, `benchmarks/results/tpu-static.md`); none has run it yet: rates are not measured, lanes not tuned
(`benchmarks/tune_pallas.py` does both). It was for GPUs, too, through Triton, at a third to a half of the CUDA kernel's modelled
rate and up to eight units; JAX has announced the end of that.

A cell has one executor. Members that sit where an answer is undecided differ between two programs of one mathematics,
so each cell's executor stands in config.json and a stored run keeps it. It is chosen cell by cell, because a member must not depend on the grid that its config stands in. `auto` tries
XLA and the other executor that the device has; both must agree on losses after ten steps. On CPUs the other takes the run then, elsewhere the faster.
Where the other fails, XLA does it.

Generated C on CPUs. XLA's code for a step is bound by loads and stores: every operation's result goes through memory.
`executors/native/` makes C from the same step (`training.step.make_step`, scalarised), with temporaries in registers and an order
that takes one row from its inputs to its share of every gradient; the system's compiler builds it in about half a second,
once a shape of network, into the user's cache, and XLA calls it (`jax.ffi`) in place of its own loop. There is no second
definition of the network. "auto" takes it where it builds and has XLA's losses after ten steps; that is kept beside the code. It was 1.6 times as fast or more wherever
it was measured, so that no clock decides: by one, two runs of the same command could go by two executors. Where it cannot be compiled, one line says why. Many members are drawn and recorded in C as well (`native/whole.py`), in one call per device, without any operation of
XLA's around it, where a device that is through takes pieces of the others: they wait for one another, and what stores beside them takes one's core. That code has no sums regrouped: it has XLA's bits, which is tried once per machine, so that a stored run
goes on to the same bytes. All NaN are recorded as one (`training/observation.py`), since whose NaN a sum has is the compiler's choice.
What is recorded along training is C as well (`native/observed.py`), in that same call, or where XLA draws, called in its program after the
steps: XLA makes a loop of every few operations of it, and copies what they give.
From jaxlib 0.11 on `exp` takes ln 2 apart in another way: C asks XLA which it is. Few networks show such a bit, so that functions
are tried by themselves, on millions of numbers. With jax 0.10.2 and 0.12.0.1 all bits agree.
Few members are not worth a second compilation. The cache's key has the compiler, the processor and jaxlib's header,
since a library of another header may not fit. No flag lets the compiler assume NaN away, and division and roots are IEEE's. Measured: `benchmarks/notes-native.md`.

A generated kernel on NVIDIA's GPUs. `executors/cuda/` makes CUDA C by native's generator. Machine code says what binds: issue
slots, then special functions. So targets are literals in a kernel per context; constant factors go outwards to where Adam has its
own; what is the same for all networks (Adam's corrections, by optax's float32 powers) is a table of a row per step, by XLA; a
ReLU is a predicate on multiply-adds; rows are taken in an order in which few predicates live; logits are exponents of two;
two denominators of an optimiser share a reciprocal. Functions are the hardware's approximations, each as exact as a rounding
or two. CUDA C and not PTX, though XLA takes only that: NVRTC comes with jax[cuda13], and a C compiler can test the same
text. XLA launches the kernel by `__gpu$xla.gpu.ptx`, a call that is internal to it: `choice` tries it once and falls back. XLA does not assemble
the PTX, so that ptxas in `make test-gpu-static` is what says that it can be. State goes through memory every 4,096 steps,
so that recording needs nothing more: at a recorded step a launch ends, and what it leaves is observed by XLA. XLA draws initial
parameters on the device, too. The state of more than 8 units does not fit a thread's registers: a team of 4 to 32 threads has one network
(`cuda/teams.py`), up to four units each. The step is taken apart as native's loops over units are; each sum over units (of a logit, mostly)
goes through a team by shuffles, and what follows from it each thread does for itself, which needs no memory and no barrier. State in
shared memory was not tried: at n = 64 it is 5.4 kB of a network, so that a multiprocessor would have some forty of them. Sums of all rows are
registers, up to 16 rows. More are taken in blocks of eight (`cuda/blocks.py`): a loop over units adds one block to the gradients and makes
the next block's logits.

One program for any number of members. A device has a buffer of blocks and is told how many of them to train; learning
rate and steps are arguments. Configs that differ only in those, the seed or the members share a compiled program. A call
is sized to take about half a second.
"""
