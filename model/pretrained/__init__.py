"""Open weights and ours: reading and writing of the folder formats that others use."""
