#!/usr/bin/env bash
# PEFT 0.21.2: an adapter with two patterns that both fit a layer comes back from disk with another scale.
#
# `alpha_pattern` and `rank_pattern` are dicts from patterns to numbers, and of several that fit a module the first one in the
# dict's order counts. `save_pretrained` writes adapter_config.json with its keys sorted, dicts within it as well, so that after
# `from_pretrained` another pattern may be the first. "layer.1.attention.self.query" sorts before "query", so the natural way to write
# it, the rule and then the exception, has the rule alone while training and the exception after loading. Weights are the same and no
# word is said: outputs differ. With `rank_pattern` the loaded shapes do not fit, which is an error. The remedy: write patterns so
# that one alone fits each layer ("layer.0.attention.self.query"), or the exception first, and look at `scaling` once.
#
# Seen with peft 0.21.2, transformers 5.23.0, torch 2.13.0 on a CPU; scales of layers 0 and 1 before and after a save and a load, rank 4:
#   {"query": 2, "layer.1.attention.self.query": 20}   0.5, 0.5   then   0.5, 5.0   outputs apart
#   {"layer.1.attention.self.query": 20, "query": 2}   0.5, 5.0   then   0.5, 5.0   outputs equal
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 peft==0.21.2 transformers==5.23.0 numpy==2.4.0
cat > "$work/run.py" <<'PY'
import sys

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import BertConfig, BertModel

print("peft", peft.__version__, "transformers", transformers.__version__, "torch", torch.__version__)
SMALL = BertConfig(
    vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=16
)
IDS = torch.arange(12).reshape(1, 12)


def backbone():
    torch.manual_seed(0)
    return BertModel(SMALL).eval()


def scales(model):
    layers = model.base_model.model.encoder.layer
    return [layers[n].attention.self.query.scaling["default"] for n in (0, 1)]


def looked_at(pattern, folder):
    config = LoraConfig(r=4, lora_alpha=4, target_modules=["query"], alpha_pattern=pattern, init_lora_weights=False)
    torch.manual_seed(1)
    one = get_peft_model(backbone(), config).eval()
    one.save_pretrained(folder)
    other = PeftModel.from_pretrained(backbone(), folder).eval()
    with torch.no_grad():
        apart = float((one(IDS).last_hidden_state - other(IDS).last_hidden_state).abs().max())
    print(list(pattern), scales(one), scales(other), f"outputs apart by {apart:.1e}")
    return scales(one), scales(other), apart


rule, exception = {"query": 2}, {"layer.1.attention.self.query": 20}
before, after, apart = looked_at(rule | exception, f"{sys.argv[1]}/one")
assert (before, after) == ([0.5, 0.5], [0.5, 5.0]), "the order of patterns is kept now, or another one counts"
assert apart > 1e-4
before, after, apart = looked_at(exception | rule, f"{sys.argv[1]}/other")
assert before == after == [0.5, 5.0]
assert apart == 0
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" -W ignore "$work/run.py" "$work"
echo "as recorded"
