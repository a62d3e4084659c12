"""The training loop as one CUDA kernel, made from the one definition of the step: a network a thread, its state in registers."""
