"""The part that works inside a training. Importing it costs nothing."""
