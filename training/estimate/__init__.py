"""What a run takes on H100s, on paper: the memory of each GPU and hours, with the arithmetic."""
