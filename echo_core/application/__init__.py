"""One function per use case, against ports."""
