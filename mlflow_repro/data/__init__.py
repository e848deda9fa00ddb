"""The data of a run: files by their digest, recorded as they are opened and found again."""
