//! Which databases a run uses, their servers, and `db`: the same servers for a shell.

use std::io::Read as _;

use clap::{Args, ValueEnum};

use crate::server::{MariaDb, Postgres, Site};
use crate::tools::{self, Tool};

/// Options of `db`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Which servers to run.
    #[arg(long, value_enum, default_value = "all")]
    db: Choice,
    /// Never install a package; say what is missing instead.
    #[arg(long)]
    no_install: bool,
}

/// A database, or all of them.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// A file; needs no server.
    Sqlite,
    /// MariaDB beside SQLite.
    Mariadb,
    /// PostgreSQL beside SQLite.
    Postgres,
    /// Every database.
    All,
}

impl Choice {
    fn wants(self, other: Self) -> bool {
        self == other || self == Self::All
    }

    /// The tools that its servers need.
    pub(crate) fn tools(self) -> Vec<&'static Tool> {
        let mut all = Vec::new();
        if self.wants(Self::Mariadb) {
            all.extend(&tools::MARIADB);
        }
        if self.wants(Self::Postgres) {
            all.extend(&tools::POSTGRES);
        }
        all
    }
}

/// Running servers and how the tests find them.
pub(crate) struct Databases {
    /// Environment variables, by name.
    pub(crate) variables: Vec<(&'static str, String)>,
    _site: Option<Site>,
}

impl Databases {
    /// Starts the servers of a choice; they stop when the value is dropped.
    pub(crate) fn start(choice: Choice) -> anyhow::Result<Self> {
        if choice == Choice::Sqlite {
            return Ok(Self { variables: Vec::new(), _site: None });
        }
        let mut site = Site::open()?;
        let mut variables = Vec::new();
        if choice.wants(Choice::Mariadb) {
            variables.push(("HUB_TEST_MARIADB_URL", MariaDb::start(&mut site)?.url));
        }
        if choice.wants(Choice::Postgres) {
            variables.push(("HUB_TEST_POSTGRES_URL", Postgres::start(&mut site)?.url));
        }
        Ok(Self { variables, _site: Some(site) })
    }
}

/// Starts the servers, prints how to reach them, and keeps them until its input ends or it is interrupted.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    tools::ensure(arguments.db.tools(), !arguments.no_install)?;
    let databases = Databases::start(arguments.db)?;
    for (name, value) in &databases.variables {
        println!("export {name}='{value}'");
    }
    eprintln!("the servers run until Ctrl-C or the end of input, and take their data with them");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
