"""One thin main per verb: train_vae, train, evaluate."""
