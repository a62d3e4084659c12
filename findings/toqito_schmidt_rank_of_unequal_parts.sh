#!/usr/bin/env bash
# toqito 1.1.8: the Schmidt rank of a qubit and a qutrit is that of another state, and `is_separable` calls products entangled.
#
# Coefficients of a vector of C^2 x C^3 are a matrix of 2 rows and 3 columns, and its rank is the Schmidt rank. `schmidt_rank` takes 3
# rows and 2 columns of the same numbers in the same order: right for a language that stores columns, and in NumPy another matrix. With
# parts of equal dimension it is right, so all of the documentation's examples are. Else (|00> + |11>) / sqrt(2), as entangled as a qubit can be, has
# rank 1, "The state is separable", and |+>|0> has 2. For a density matrix the same happens within the operator's Schmidt rank, which is squared then:
# |+>|0> has 4, more than there can be of 2 x 3. `is_separable` believes that number of every pure state, without asking further, so that it
# calls most products of unequal parts entangled ("pure state with Schmidt rank 4 > 1"). No warning. `is_product`, `is_ppt`, `negativity`,
# `entanglement_of_formation` and `schmidt_decomposition` of the same states and dimensions are right, and disagree with it.
# What to do: numpy.linalg.matrix_rank(vector.reshape(dims)), or is_product of a pure state.
#
# Seen with toqito 1.1.8, numpy 2.4.1, which it pins (toqito 1.3.1 with Python 3.12 gives the same), dims [2, 3]:
#                                     (|00> + |11>) / sqrt(2)     |+>|0>
#   Schmidt rank, right               2                           1
#   schmidt_rank, vector              1                           2
#   schmidt_rank, density matrix      4 (right)                   4 (right: 1)
#   is_separable                      False                       False
#   is_product                        False                       True
#   of all 63 vectors of zeros and ones: rank wrong for 20; of the 21 products among them 14 "entangled" (12 with dims [3, 2])
#   product of two random vectors: "entangled" with dims [2, 3], [3, 2], [2, 5], [3, 4], [3, 5]; not with [2, 2] and [3, 3]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check toqito==1.1.8
cat > "$work/run.py" <<'PY'
import itertools
from importlib.metadata import version

import numpy as np
from toqito.state_ops import schmidt_decomposition
from toqito.state_props import is_ppt, is_product, is_separable, negativity, schmidt_rank

print("toqito", version("toqito"), "numpy", np.__version__)


def density(vector):
    return np.outer(vector, vector.conj())


def rank(vector, dims):
    """The Schmidt rank: the number of singular values of the coefficients that are not 0."""
    return int(np.linalg.matrix_rank(vector.reshape(dims)))


def separable(vector, dims):
    found = is_separable(density(vector), list(dims))
    return bool(found[0] if isinstance(found, tuple) else found)


def product(vector, dims):
    return bool(np.all(is_product(vector.reshape(-1, 1), list(dims))[0]))


bell, plus = np.zeros(6), np.zeros(6)
bell[[0, 4]] = plus[[0, 3]] = 1 / np.sqrt(2)  # |00> and |11>, |00> and |10>: |i>|j> of a qubit and a qutrit stands at 3 i + j
for name, state, right, vector_rank, matrix_rank in (("(|00> + |11>) / sqrt(2)", bell, 2, 1, 4), ("|+>|0>", plus, 1, 2, 4)):
    by_vector = int(schmidt_rank(state.reshape(-1, 1), [2, 3]))
    by_matrix = int(schmidt_rank(density(state), [2, 3]))
    shares = int(np.sum(schmidt_decomposition(state.reshape(-1, 1), [2, 3])[0] > 1e-12))
    answers = separable(state, (2, 3)), product(state, (2, 3)), bool(is_ppt(density(state), 2, [2, 3]))
    print(f"{name}: rank {right}, schmidt_rank {by_vector} and {by_matrix}, Schmidt coefficients {shares}")
    print("    is_separable, is_product, is_ppt:", *answers, f"negativity {abs(negativity(density(state), [2, 3])):.3f}")
    assert rank(state, (2, 3)) == shares == right
    assert (by_vector, by_matrix) == (vector_rank, matrix_rank), "another Schmidt rank"
    assert answers == (False, right == 1, right == 1)

for dims, expected in (((2, 3), (20, 14)), ((3, 2), (20, 12)), ((2, 2), (0, 0))):
    wrong = products = called_entangled = 0
    for bits in itertools.product((0.0, 1.0), repeat=int(np.prod(dims))):
        state = np.array(bits)
        if not state.any():
            continue
        state /= np.linalg.norm(state)
        right = rank(state, dims)
        wrong += int(schmidt_rank(state.reshape(-1, 1), list(dims))) != right
        assert product(state, dims) == (right == 1)
        if right == 1:
            products += 1
            called_entangled += not separable(state, dims)
    print(f"dims {dims}: rank wrong for {wrong}, {called_entangled} of {products} products entangled")
    assert (wrong, called_entangled) == expected

rng = np.random.default_rng(0)
for dims in ((2, 3), (3, 2), (2, 5), (3, 4), (3, 5), (2, 2), (3, 3)):
    parts = [rng.normal(size=n) + 1j * rng.normal(size=n) for n in dims]
    state = np.kron(*parts) / np.linalg.norm(parts[0]) / np.linalg.norm(parts[1])
    print(f"a product with dims {dims}: separable {separable(state, dims)}, product {product(state, dims)}")
    assert product(state, dims) and separable(state, dims) == (dims[0] == dims[1])
PY
"$work/venv/bin/python" -W ignore "$work/run.py"
echo "as recorded"
