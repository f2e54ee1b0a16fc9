"""One thin main per verb: train_vae, train, distill, train_depth, evaluate, curate."""

try:
    import configs.command_line
except ModuleNotFoundError as error:
    import configs

    raise ImportError(
        "model.cli: expected its own package 'configs', but "
        f"{configs.__file__ or list(configs.__path__)} is in the way; rename that one, or start the command elsewhere"
    ) from error
