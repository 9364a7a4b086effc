"""A verifier of stages: sampled from a running server, labelled by where the samples end, trained, and measured."""
