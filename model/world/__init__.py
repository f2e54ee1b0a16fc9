"""Worlds: a state goes in, a camera segment goes in, the next state and its frames come out."""
