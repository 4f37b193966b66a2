"""What runs inside a cell's environment; see README.md. Standard library only at import, Python 3.6 to 3.14."""
