"""The shell around the search: HTTP in and out, engines and scorers, settings, metrics."""

__version__ = "0.1.0"
