"""A run as a folder for the Hugging Face hub: flat Parquet, a card, and Croissant metadata. Nothing is uploaded."""
