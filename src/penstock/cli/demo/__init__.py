"""The demonstration: the whole loop, unattended, with the real processes."""
