"""PostgreSQL: the truth about videos, uploads, jobs and events. SQL is spoken here and in ``migrations`` alone."""
