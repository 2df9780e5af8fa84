//! The history of the schema on real databases, with rows in place.

#[path = "history/audits.rs"]
mod audits;
#[path = "history/catalogue.rs"]
mod catalogue;
#[path = "history/command.rs"]
mod command;
#[path = "history/foreign_keys.rs"]
mod foreign_keys;
#[path = "history/identity.rs"]
mod identity;
#[path = "history/interruptions.rs"]
mod interruptions;
#[path = "history/quiescence.rs"]
mod quiescence;
#[path = "history/remarks.rs"]
mod remarks;
#[path = "history/ways.rs"]
mod ways;

/// Makes one test per database of a function that takes a [`catalogue::Catalogue`].
macro_rules! on_each_database {
    ($($name:ident),+ $(,)?) => {
        mod sqlite { $(#[tokio::test] async fn $name() -> anyhow::Result<()> {
            crate::catalogue::with(hub_testkit::database::DatabaseKind::Sqlite, super::$name).await
        })+ }
        mod mariadb { $(#[tokio::test] async fn $name() -> anyhow::Result<()> {
            crate::catalogue::with(hub_testkit::database::DatabaseKind::MariaDb, super::$name).await
        })+ }
        mod postgres { $(#[tokio::test] async fn $name() -> anyhow::Result<()> {
            crate::catalogue::with(hub_testkit::database::DatabaseKind::Postgres, super::$name).await
        })+ }
    };
}
pub(crate) use on_each_database;
