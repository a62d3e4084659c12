"""How a block of members is run. Every executor calls the same step, `ncsim.training.step`."""
