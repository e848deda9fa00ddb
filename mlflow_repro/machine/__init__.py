"""The machine of a run: processor, numeric libraries, GPUs."""
