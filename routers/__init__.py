"""Query > Scores. One file, one class, one method each."""
