"""Slow, obvious references in NumPy and plain Python, written from the paper and not from ncsim.

One network, one row and one parameter at a time; the gradient is the chain rule on paper. Nothing here imports ncsim.
"""

import itertools
import math

import numpy as np


class Network:
    """Float64 parameters of one NCnet, of two heads or any number. `logits` is 1 or 2 a head."""

    def __init__(self, w, b, v, c):
        self.w = np.array(w, float)  # [features, hidden]
        self.b = np.array(b, float)  # [hidden]
        self.v = np.array(v, float)  # [heads, logits, hidden]
        self.c = np.array(c, float)  # [heads, logits]

    def forward(self, x):
        hidden = []
        for unit in range(len(self.b)):
            total = self.b[unit]
            for feature, value in enumerate(x):
                total += value * self.w[feature, unit]
            hidden.append(max(total, 0.0))
        outputs = []
        for head in range(len(self.v)):
            outputs.append(
                [
                    sum(self.v[head, k, unit] * hidden[unit] for unit in range(len(hidden))) + self.c[head, k]
                    for k in range(self.v.shape[1])
                ]
            )
        return hidden, outputs


def loss_and_slope(name, outputs, answer):
    """Loss of one head on one row, and its derivative by each of the head's outputs."""
    if name == "bce":
        p = 1 / (1 + math.exp(-outputs[0]))
        return -(answer * math.log(p) + (1 - answer) * math.log(1 - p)), [p - answer]
    if name == "squared_error":
        wanted = 1.0 if answer else -1.0
        return (outputs[0] - wanted) ** 2, [2 * (outputs[0] - wanted)]
    exponentials = [math.exp(z) for z in outputs]
    probabilities = [e / sum(exponentials) for e in exponentials]
    return -math.log(probabilities[answer]), [p - (1.0 if k == answer else 0.0) for k, p in enumerate(probabilities)]


def loss_and_gradient(network, name, inputs, answers):
    """Mean over rows of the heads' summed losses, and its gradient in the shapes of the network."""
    grad = Network(0 * network.w, 0 * network.b, 0 * network.v, 0 * network.c)
    total = 0.0
    for x, row_answers in zip(inputs, answers, strict=True):
        hidden, outputs = network.forward(x)
        upstream = [0.0] * len(hidden)
        for head in range(len(network.v)):
            loss, slopes = loss_and_slope(name, outputs[head], int(row_answers[head]))
            total += loss / len(inputs)
            for k, slope in enumerate(slopes):
                slope /= len(inputs)
                grad.c[head, k] += slope
                for unit, activation in enumerate(hidden):
                    grad.v[head, k, unit] += slope * activation
                    upstream[unit] += slope * network.v[head, k, unit]
        for unit, activation in enumerate(hidden):
            if activation > 0:
                grad.b[unit] += upstream[unit]
                for feature, value in enumerate(x):
                    grad.w[feature, unit] += upstream[unit] * value
    return total, grad


def train_adam(network, name, inputs, answers, rate, steps, b1=0.9, b2=0.999, eps=1e-8):
    """Adam as in Kingma and Ba 2015, algorithm 1."""
    first = [0 * t for t in (network.w, network.b, network.v, network.c)]
    second = [0 * t for t in first]
    for step in range(1, steps + 1):
        _, grad = loss_and_gradient(network, name, inputs, answers)
        for n, (tensor, g) in enumerate(
            zip((network.w, network.b, network.v, network.c), (grad.w, grad.b, grad.v, grad.c), strict=True)
        ):
            first[n] = b1 * first[n] + (1 - b1) * g
            second[n] = b2 * second[n] + (1 - b2) * g * g
            tensor -= rate * (first[n] / (1 - b1**step)) / (np.sqrt(second[n] / (1 - b2**step)) + eps)
    return network


def chsh(counts):
    """S and its relatives of one table [2, 2, 2, 2] in plain Python, by name."""
    a, b, c = {}, {}, {}
    for i, j in itertools.product((0, 1), repeat=2):
        items = sum(counts[i][j][x][y] for x in (0, 1) for y in (0, 1))
        mean = {"a": 0.0, "b": 0.0, "c": 0.0}
        for x, y in itertools.product((0, 1), repeat=2):
            share = counts[i][j][x][y] / items
            alice, bob = 2 * x - 1, 2 * y - 1
            mean["a"] += share * alice
            mean["b"] += share * bob
            mean["c"] += share * alice * bob
        a[i, j], b[i, j], c[i, j] = mean["a"], mean["b"], mean["c"]

    def signed(t, s):
        return sum(s[n] * t[place] for n, place in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]))

    odd = [s for s in itertools.product((1, -1), repeat=4) if s[0] * s[1] * s[2] * s[3] == -1]
    influence = abs(a[0, 0] - a[0, 1]) + abs(a[1, 0] - a[1, 1]) + abs(b[0, 0] - b[1, 0]) + abs(b[0, 1] - b[1, 1])
    s_odd = max(signed(c, s) for s in odd)

    def rho(place):
        spread = (1 - a[place] ** 2) * (1 - b[place] ** 2)
        return 0.0 if spread < 1e-15 else (c[place] - a[place] * b[place]) / math.sqrt(spread)

    return {
        "s": signed(c, (1, 1, 1, -1)),
        "s_odd": s_odd,
        "s_factorised": signed({p: a[p] * b[p] for p in a}, (1, 1, 1, -1)),
        "influence": influence,
        "contextuality": s_odd - 2 - influence,
        "s_pearson": signed({p: rho(p) for p in a}, (1, 1, 1, -1)),
    }


def trunk_gradients(network, name, inputs, answers, rows=None):
    """Each head's own gradient in the shared layer, a list of (w, b), by the chain rule one row at a time: its mean loss
    over `rows`, or over all."""
    rows = range(len(inputs)) if rows is None else rows
    result = []
    for head in range(2):
        w, b = 0 * network.w, 0 * network.b
        for row in rows:
            hidden, outputs = network.forward(inputs[row])
            _, slopes = loss_and_slope(name, outputs[head], int(answers[row][head]))
            for unit, activation in enumerate(hidden):
                if activation > 0:
                    sent = sum(slope * network.v[head, k, unit] for k, slope in enumerate(slopes)) / len(rows)
                    b[unit] += sent
                    for feature, value in enumerate(inputs[row]):
                        w[feature, unit] += sent * value
        result.append((w, b))
    return result


def angle(one, other):
    """Norms, cosine and magnitude similarity of two flat vectors; 0 for both where either is zero."""
    p, q = math.sqrt(sum(x * x for x in one)), math.sqrt(sum(x * x for x in other))
    if p == 0 or q == 0:
        return p, q, 0.0, 0.0
    return p, q, sum(x * y for x, y in zip(one, other, strict=True)) / (p * q), 2 * p * q / (p * p + q * q)


def intervened_gradient(network, name, inputs, answers, intervention="none", weights=(1.0, 1.0), rows=None):
    """What training follows: each head's gradient of its own weighted mean loss, and in the shared layer what the
    intervention leaves of what the heads send there."""
    rows = range(len(inputs)) if rows is None else list(rows)
    grad = Network(0 * network.w, 0 * network.b, 0 * network.v, 0 * network.c)
    sent = []
    for head, weight in enumerate(weights):
        w, b = 0 * network.w, 0 * network.b
        for row in rows:
            x = np.asarray(inputs[row], float)
            hidden = np.maximum(x @ network.w + network.b, 0)
            outputs = network.v[head] @ hidden + network.c[head]
            _, slopes = loss_and_slope(name, list(outputs), int(answers[row][head]))
            slopes = weight * np.array(slopes) / len(rows)
            grad.c[head] += slopes
            grad.v[head] += np.outer(slopes, hidden)
            back = (slopes @ network.v[head]) * (hidden > 0)
            w += np.outer(x, back)
            b += back
        sent.append(np.append(w, b))
    alice, bob = sent
    if intervention == "stop_gradient_alice":
        alice = 0 * alice
    elif intervention == "stop_gradient_bob":
        bob = 0 * bob
    elif intervention == "frozen_trunk":
        alice, bob = 0 * alice, 0 * bob
    elif intervention == "pcgrad" and alice @ bob < 0:
        alice, bob = alice - (alice @ bob) / (bob @ bob) * bob, bob - (alice @ bob) / (alice @ alice) * alice
    total = alice + bob
    grad.w[:], grad.b[:] = total[: network.w.size].reshape(network.w.shape), total[network.w.size :]
    return grad


def train_intervened(network, steps, rate, *arguments, b1=0.9, b2=0.999, eps=1e-8, **options):
    """Adam on `intervened_gradient`."""
    tensors = (network.w, network.b, network.v, network.c)
    first, second = [0 * t for t in tensors], [0 * t for t in tensors]
    for step in range(1, steps + 1):
        grad = intervened_gradient(network, *arguments, **options)
        for n, (tensor, g) in enumerate(zip(tensors, (grad.w, grad.b, grad.v, grad.c), strict=True)):
            first[n] = b1 * first[n] + (1 - b1) * g
            second[n] = b2 * second[n] + (1 - b2) * g * g
            tensor -= rate * (first[n] / (1 - b1**step)) / (np.sqrt(second[n] / (1 - b2**step)) + eps)
    return network
