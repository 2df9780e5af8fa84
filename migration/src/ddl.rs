//! Statements of a step: one template, three dialects, and questions about what is there already.
//!
//! The query builder is not used for DDL: on SQLite it panics for much of what it cannot say, and it has no
//! `IF NOT EXISTS` for MariaDB's indexes.

use sea_orm_migration::SchemaManagerConnection;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbErr, Statement};

use crate::dialect::Dialect;

/// The connection of a step, inside its transaction where the database has such for DDL.
pub(crate) struct Ddl<'a> {
    connection: &'a SchemaManagerConnection<'a>,
}

impl<'a> Ddl<'a> {
    pub(crate) fn new(connection: &'a SchemaManagerConnection<'a>) -> Self {
        Self { connection }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        Dialect::of(self.connection)
    }

    /// Whether a transaction is open.
    pub(crate) fn is_transaction(&self) -> bool {
        self.connection.is_transaction()
    }

    /// Runs a template.
    pub(crate) async fn run(&self, template: &str) -> Result<(), DbErr> {
        self.connection.execute_unprepared(&self.dialect().spell(template)).await?;
        Ok(())
    }

    /// Runs the template of the database at hand.
    pub(crate) async fn run_each(
        &self,
        sqlite: &[&str],
        mariadb: &[&str],
        postgres: &[&str],
    ) -> Result<(), DbErr> {
        let statements = match self.dialect() {
            Dialect::MariaDb => mariadb,
            Dialect::Postgres => postgres,
            Dialect::Sqlite => sqlite,
        };
        for statement in statements {
            self.run(statement).await?;
        }
        Ok(())
    }

    /// The number that a query answers.
    pub(crate) async fn number(&self, template: &str) -> Result<i64, DbErr> {
        number(self.connection, template).await
    }

    /// Whether a table exists.
    pub(crate) async fn has_table(&self, table: &str) -> Result<bool, DbErr> {
        has_table(self.connection, table).await
    }

    /// Whether a column exists.
    pub(crate) async fn has_column(&self, table: &str, column: &str) -> Result<bool, DbErr> {
        let query = match self.dialect() {
            Dialect::Sqlite => {
                format!("SELECT COUNT(*) FROM pragma_table_info('{table}') WHERE name = '{column}'")
            }
            Dialect::MariaDb | Dialect::Postgres => format!(
                "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = <schema> \
                 AND table_name = '{table}' AND column_name = '{column}'"
            ),
        };
        Ok(self.number(&query).await? > 0)
    }

    /// Whether a named constraint exists; only asked where DDL is not rolled back.
    pub(crate) async fn has_constraint(&self, name: &str) -> Result<bool, DbErr> {
        let query = format!(
            "SELECT COUNT(*) FROM information_schema.table_constraints \
             WHERE constraint_schema = <schema> AND constraint_name = '{name}'"
        );
        Ok(self.number(&query).await? > 0)
    }

    /// Makes an index where there is none of that name.
    pub(crate) async fn index(&self, definition: &Index) -> Result<(), DbErr> {
        if self.has_index(definition).await? {
            return Ok(());
        }
        let Index { name, table, columns, unique } = definition;
        let unique = if *unique { "UNIQUE " } else { "" };
        self.run(&format!("CREATE {unique}INDEX {name} ON {table} ({columns})")).await
    }

    /// Drops an index if it is there.
    pub(crate) async fn drop_index(&self, definition: &Index) -> Result<(), DbErr> {
        if !self.has_index(definition).await? {
            return Ok(());
        }
        let Index { name, table, .. } = definition;
        match self.dialect() {
            Dialect::MariaDb => self.run(&format!("DROP INDEX {name} ON {table}")).await,
            Dialect::Sqlite | Dialect::Postgres => self.run(&format!("DROP INDEX {name}")).await,
        }
    }

    async fn has_index(&self, Index { name, table, .. }: &Index) -> Result<bool, DbErr> {
        let query = match self.dialect() {
            Dialect::MariaDb => format!(
                "SELECT COUNT(*) FROM information_schema.statistics WHERE table_schema = <schema> \
                 AND table_name = '{table}' AND index_name = '{name}'"
            ),
            Dialect::Postgres => format!(
                "SELECT COUNT(*) FROM pg_indexes WHERE schemaname = <schema> AND indexname = '{name}'"
            ),
            Dialect::Sqlite => format!(
                "SELECT COUNT(*) FROM sqlite_master WHERE type = 'index' AND name = '{name}'"
            ),
        };
        Ok(self.number(&query).await? > 0)
    }

    /// Adds columns that are not there, all in one statement where the database can.
    pub(crate) async fn add_columns(
        &self,
        table: &str,
        columns: &[(&str, &str)],
    ) -> Result<(), DbErr> {
        let mut missing = Vec::new();
        for (name, definition) in columns {
            if !self.has_column(table, name).await? {
                missing.push(format!("ADD COLUMN {name} {definition}"));
            }
        }
        self.alter(table, &missing).await
    }

    /// Drops columns that are there, all in one statement where the database can.
    pub(crate) async fn drop_columns(
        &self,
        table: &str,
        columns: &[(&str, &str)],
    ) -> Result<(), DbErr> {
        let mut present = Vec::new();
        for (name, _) in columns {
            if self.has_column(table, name).await? {
                present.push(format!("DROP COLUMN {name}"));
            }
        }
        self.alter(table, &present).await
    }

    async fn alter(&self, table: &str, changes: &[String]) -> Result<(), DbErr> {
        if changes.is_empty() {
            return Ok(());
        }
        if self.dialect() == Dialect::Sqlite {
            for change in changes {
                self.run(&format!("ALTER TABLE {table} {change}")).await?;
            }
            return Ok(());
        }
        self.run(&format!("ALTER TABLE {table} {}", changes.join(", "))).await
    }
}

/// An index by its parts.
pub(crate) struct Index {
    pub(crate) name: &'static str,
    pub(crate) table: &'static str,
    pub(crate) columns: &'static str,
    pub(crate) unique: bool,
}

/// The number that a query answers, on any connection.
pub(crate) async fn number(db: &impl ConnectionTrait, template: &str) -> Result<i64, DbErr> {
    let sql = Dialect::of(db).spell(template);
    let row = db
        .query_one_raw(Statement::from_string(db.get_database_backend(), sql))
        .await?
        .ok_or_else(|| DbErr::RecordNotFound(template.to_owned()))?;
    row.try_get_by_index(0)
}

/// Whether a table exists, on any connection.
pub(crate) async fn has_table(db: &impl ConnectionTrait, table: &str) -> Result<bool, DbErr> {
    let query = match Dialect::of(db) {
        Dialect::Sqlite => {
            format!("SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = '{table}'")
        }
        Dialect::MariaDb | Dialect::Postgres => format!(
            "SELECT COUNT(*) FROM information_schema.tables \
             WHERE table_schema = <schema> AND table_name = '{table}'"
        ),
    };
    Ok(number(db, &query).await? > 0)
}
