"""Training data in LLaVA-CoT-100k's shape: read as a stream, checked, counted, looked at, made from the demo tasks."""
