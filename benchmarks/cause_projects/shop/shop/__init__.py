"""The shop's model of prices."""
