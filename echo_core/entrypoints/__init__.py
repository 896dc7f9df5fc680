"""Where requests come in: HTTP, the worker, the command line."""
