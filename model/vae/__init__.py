"""Causal video autoencoder: video `b 3 1+4k h w` to latents `b c 1+k h/8 w/8` and back, also chunk by chunk; depth."""
