//! The catalogue schema, forwards and backwards, on SQLite, MariaDB and PostgreSQL.
