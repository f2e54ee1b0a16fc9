"""Outside tools behind protocols: optical flow, motion masks, metric depth, structure from motion."""
