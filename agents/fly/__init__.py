"""`python -m agents.fly`: a person flies through a generated world in the browser."""

from agents.fly.command import main

__all__ = ["main"]
