"""models/snips: a generative specialist of our own. `data` reads and splits, `words` is the tokenizer, `train` trains, `score` scores."""
