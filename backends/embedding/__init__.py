"""Who computes embeddings. An extension point of its own: an answer is a matrix, not a stream, and nothing of it can escalate."""
