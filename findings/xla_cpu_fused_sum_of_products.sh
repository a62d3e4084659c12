#!/usr/bin/env bash
# jaxlib 0.10.2 on CPUs: a jitted sum of products, with anything elementwise after it, is wrong on some rows, without a word.
#
# `jnp.sum(k * h[:, None], axis=2) + 1` with k [2, 4, 1600] and h [16, 4, 1600], float32, is a head's logits for 1,600 networks at
# once. Compiled, rows 10 to 15 of 16 are other numbers, off by up to 18 where values are of order 1. The same without `jit`, without
# the `+ 1`, with the factors exchanged, as an einsum, with 1,024 in place of 1,600, or with three units in place of four, is right.
# Nothing warns. A training program that was built on it had right gradients, and wrong losses and answers in its reports.
#
# The compiled program has one fusion for all of it, `"kind":"__ynn_fusion"`: a sum that is fused with what follows goes to the
# library YNNPACK. With jaxlib 0.11.0, 0.11.2 and 0.12.0.1 (Python 3.12) the same is right. A sum that is written out term by term is
# right everywhere.
#
# Seen with jax and jaxlib 0.10.2, numpy 2.4.6, Linux x86_64 (an Intel Xeon with AVX-512), with one core and with two:
#   sum + 1, compiled              largest error 18.2, share of wrong values 0.375
#   sum + 1, not compiled          largest error 0.0 to 2e-06
#   sum alone, compiled            largest error about 1e-06
#   terms written out, compiled    largest error about 1e-06
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat > "$work/sums.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np

draw = np.random.default_rng(0).normal
h, k = draw(size=(16, 4, 1600)).astype(np.float32), draw(size=(2, 4, 1600)).astype(np.float32)
right = (k.astype(np.float64) * h[:, None]).sum(axis=2)


def one_more(k, h):
    return jnp.sum(k * h[:, None], axis=2) + 1


def alone(k, h):
    return jnp.sum(k * h[:, None], axis=2)


def written_out(k, h):
    return sum(k[:, unit] * h[:, None, unit] for unit in range(4)) + 1


def errors(name, found, expected):
    wrong = np.abs(found - expected)
    print(f"{name:<30} largest error {wrong.max():.1e}, share of wrong values {np.mean(wrong > 1e-3):.3f}")
    return wrong


compiled = errors("sum + 1, compiled", jax.jit(one_more)(k, h), right + 1)
rows = np.unique(np.argwhere(compiled > 1e-3)[:, 0])
print("rows that are wrong:", *rows)
plain = errors("sum + 1, not compiled", one_more(k, h), right + 1)
without = errors("sum alone, compiled", jax.jit(alone)(k, h), right)
terms = errors("terms written out, compiled", jax.jit(written_out)(k, h), right + 1)
text = jax.jit(one_more).lower(k, h).compile().as_text()
print("fused by YNNPACK:", "__ynn_fusion" in text)
assert compiled.max() > 1 and np.mean(compiled > 1e-3) > 0.1
assert max(each.max() for each in (plain, without, terms)) < 1e-4
assert "__ynn_fusion" in text
PYTHON
"$work/venv/bin/python" "$work/sums.py"
echo "as recorded"
