"""Echo: a self-hostable, plugin-first video platform. This package is its kernel."""

__version__ = "0.1.0"
