"""Users, sign-in and tokens in Echo's own database."""
