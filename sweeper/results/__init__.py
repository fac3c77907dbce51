"""What came of a sweep, as plain values."""
