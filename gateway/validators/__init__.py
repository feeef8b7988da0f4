"""Draft > Verdict. One file, one class, one method each; pure."""
