"""BERT, its checkpoints, and low-rank adapters in PEFT's format."""
