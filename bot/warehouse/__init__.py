"""The only code that knows where years of Reddit lie: monthly dump files, read through DuckDB."""
