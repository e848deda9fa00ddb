"""How a run is brought back, and whether it will be: decisions over values."""
