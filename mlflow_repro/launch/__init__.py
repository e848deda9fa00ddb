"""How a run was started, and how it is started again."""
