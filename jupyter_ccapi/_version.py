"""The version of the package: the one place where it is written on the Python side."""

__version__ = "0.1.0"
