"""The shell around the search: HTTP in and out, engines and scorers, settings, metrics."""
