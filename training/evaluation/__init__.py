"""Accuracy and cost of policies on a task, asked of a running server over HTTP."""
