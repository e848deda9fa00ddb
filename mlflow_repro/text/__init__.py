"""Text that is only text: secrets, git URLs, command lines, pins, variables, file names."""
