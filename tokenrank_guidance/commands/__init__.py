"""The commands of `tokenrank`: a module each, with `add_arguments(parser)` and `run(arguments) -> result`."""
