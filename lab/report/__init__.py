"""Results in, pages out. Knows no engine and no broker."""
