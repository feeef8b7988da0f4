"""One YAML file, strictly read: every mistake at once, each with its line."""
