"""The training loop as one CUDA kernel, made from the one definition of the step: a network a thread, or a wide one a team of
threads, its state in registers."""
