"""A report over many runs, made from what they stored alone."""
