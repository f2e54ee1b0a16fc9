"""Rectified flow as free functions: path, timesteps, objective, guidance (Eq. 3), solvers of a callable (x, t) -> v.

Time t runs from 0 (data) to 1 (noise): x_t = (1 - t) x_0 + t noise, velocity = noise - x_0.
"""
