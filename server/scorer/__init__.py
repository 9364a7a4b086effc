"""What tells a good stage from a bad one, in standard deviations from what is usual for the stage."""
