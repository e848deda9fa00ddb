"""Folders and search paths of this machine."""
