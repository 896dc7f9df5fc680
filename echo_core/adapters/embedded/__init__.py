"""PostgreSQL and Valkey as child processes, for an instance that needs nothing else."""
