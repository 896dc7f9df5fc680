"""PostgreSQL: tables, row level security, repositories, units of work."""
