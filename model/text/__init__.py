"""Prompts to token embeddings: the protocol, the tiny closed-vocabulary encoder, and an adapter round UMT5."""
