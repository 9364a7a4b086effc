"""The demo tasks: pictures, questions, and the four stages of their answers."""
