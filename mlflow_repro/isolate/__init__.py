"""Prove a cause by launching the run without it: which factors there are, and in what order they are tried."""
