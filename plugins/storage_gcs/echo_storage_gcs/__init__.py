"""Videos in Google Cloud Storage, for Echo."""
