"""Videos on local disk, for Echo."""
