"""The random seeds and states of a program: observed as they are, and put back in a reproduction."""
