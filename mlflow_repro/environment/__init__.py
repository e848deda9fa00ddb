"""The environment of a run: Python and packages, recorded, locked and built again."""
