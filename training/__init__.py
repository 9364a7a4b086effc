"""Makes the checkpoints that the server loads."""
