"""The losses of a parameter vector, as `ncsim.training.losses` has them of logits: what tests differentiate and compare."""

from ncsim.training.initialization import row_tuples, row_weights
from ncsim.training.losses import head_losses, mean_loss
from ncsim.training.network import Architecture, forward


def loss_value(config, vector, targets):
    """The training loss [*L] at `vector` [P, *L]."""
    return mean_loss(config, *_at(config, vector, targets))


def loss_of_heads(config, vector, targets):
    """Each head's own mean loss [2, *L] at `vector` [P, *L]."""
    return head_losses(config, *_at(config, vector, targets))


def _at(config, vector, targets):
    _, logits = forward(Architecture.of(config).split(vector), row_tuples(config))
    return logits, targets, row_weights(config, vector)
