"""The contexts are named, and the signs of S stand, in one place."""

import numpy as np

from ncsim.config.tasks import CONTEXTS, S_SIGNS, context_names
from ncsim.statistics.chsh import SIGNS


def test_names_are_in_the_order_of_the_contexts():
    assert context_names() == ("11", "12", "21", "22")
    assert context_names("A{i} B{j}") == ("A1 B1", "A1 B2", "A2 B1", "A2 B2")
    assert len(CONTEXTS) == len(S_SIGNS)


def test_the_kernel_has_the_same_signs():
    assert np.array_equal(np.asarray(SIGNS)[0].reshape(-1), S_SIGNS)
