"""A generated world and what it takes to make one: geometry, data, networks, training, evaluation."""
