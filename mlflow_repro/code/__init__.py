"""The code of a run: the commit and what it does not hold, recorded and checked out again."""
