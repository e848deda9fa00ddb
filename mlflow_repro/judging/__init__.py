"""Fetch what two runs left, compare it, and look for causes."""
