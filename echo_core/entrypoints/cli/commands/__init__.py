"""The commands of ``echoctl``, a module for each subject; ``register`` mounts them."""
