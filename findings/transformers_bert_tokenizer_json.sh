#!/usr/bin/env bash
# transformers 5.23.0: AutoTokenizer reads a BERT folder's tokenizer.json and does not run what it says.
#
# The folder holds a complete tokenizer.json, written by the tokenizers library: WordPiece, no lower-casing, digits one by one.
# AutoTokenizer takes the vocabulary from it and builds BERT's usual pipeline around it: letters are lower-cased, digits stay
# together. So a cased model gets other tokens than it was trained on, without a word. `tokenizers.Tokenizer.from_file` on the same file
# runs it as written. (do_lower_case in tokenizer_config.json is what the class goes by; the file beside it is right and
# complete, and says the opposite of what is run.)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 tokenizers==0.23.3
cat > "$work/run.py" <<'PY'
import json
import pathlib
import sys

import tokenizers
import transformers
from tokenizers import models, normalizers, pre_tokenizers, processors

folder = pathlib.Path(sys.argv[1])
folder.mkdir()
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Paris", "paris", "1", "2", "12"]
written = tokenizers.Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
written.normalizer = normalizers.BertNormalizer(lowercase=False)
written.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)])
written.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
written.save(str(folder / "tokenizer.json"))
(folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": len(words)}))

text = "Paris 12"
as_written = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).tokens
loaded = transformers.AutoTokenizer.from_pretrained(str(folder))
as_loaded = loaded.convert_ids_to_tokens(loaded(text)["input_ids"])
print("transformers", transformers.__version__)
print("tokenizer.json says ", as_written)
print("AutoTokenizer gives ", as_loaded)
assert as_written == ["[CLS]", "Paris", "1", "2", "[SEP]"]
assert as_loaded == ["[CLS]", "paris", "12", "[SEP]"], "AutoTokenizer runs the file as written now, or does something else"
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/run.py" "$work/model"
echo "as recorded"
