"""YAML values only, one file for each main; found as `pkg://configs`."""
