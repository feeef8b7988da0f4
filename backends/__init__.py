"""Call > Chunk*. One file, one class, one method each."""
