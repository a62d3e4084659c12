"""A run as others follow it: listeners that are told its numbers while it trains, and trackers of experiments among them."""
