"""The values that the pipeline hands on. Importing this costs nothing."""
