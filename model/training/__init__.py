"""Training: one loop, and a step function for each stage."""
