"""What samples: vLLM in production, a deterministic fake in tests; both keep swires' Engine protocol."""
