"""Real text: BERT with low-rank adapters, trained on pairs of tasks. What reads files and hubs needs `ncsim[text]`."""
