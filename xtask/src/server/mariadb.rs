//! A private MariaDB with its own defaults for character set and SQL mode, which is what the product has to cope with.

use std::fs;
use std::process::Command;

use super::{Invocation, Site, free_port, password};
use crate::tools;
use crate::workspace::output;

/// A running MariaDB.
pub(crate) struct MariaDb {
    /// `mysql://user:password@host:port/`: an account that may create databases.
    pub(crate) url: String,
}

impl MariaDb {
    /// Lays a data directory and starts a server on it.
    pub(crate) fn start(site: &mut Site) -> anyhow::Result<Self> {
        let place = site.place("mariadb")?;
        let data = place.join("data");
        // MariaDB refuses to run as root unless it is told to.
        let account = if tools::is_root() { vec![String::from("--user=root")] } else { Vec::new() };
        let mut install = Command::new(tools::find("mariadb-install-db")?);
        install.args([
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]);
        output(install.arg(format!("--datadir={}", data.display())).args(&account))?;

        let (port, password) = (free_port()?, password()?);
        let accounts = place.join("accounts.sql");
        let grant = format!(
            "CREATE USER 'hub'@'127.0.0.1' IDENTIFIED BY '{password}';\n\
             GRANT ALL ON *.* TO 'hub'@'127.0.0.1' WITH GRANT OPTION;\n"
        );
        fs::write(&accounts, grant)?;
        let mut arguments: Vec<_> = SETTINGS.iter().map(|it| String::from(*it)).collect();
        arguments.extend(account);
        arguments.extend([
            format!("--datadir={}", data.display()),
            format!("--socket={}", place.join("socket").display()),
            format!("--pid-file={}", place.join("pid").display()),
            format!("--init-file={}", accounts.display()),
            format!("--port={port}"),
        ]);
        let server = Invocation {
            program: tools::find("mariadbd")?,
            arguments,
            account: Vec::new(),
            stop_signal: "KILL",
            log: place.join("log"),
        };
        let client = tools::find("mariadb")?;
        site.start(server, || {
            let mut probe = Command::new(&client);
            probe.args(["--no-defaults", "--host=127.0.0.1", "--user=hub", "--execute=SELECT 1"]);
            probe.arg(format!("--port={port}")).env("MYSQL_PWD", &password);
            probe
        })?;
        Ok(Self { url: format!("mysql://hub:{password}@127.0.0.1:{port}/") })
    }
}

/// Fast because nothing here outlives the run; the order and atomicity of transactions are untouched.
const SETTINGS: [&str; 10] = [
    "--no-defaults",
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--max-connections=400",
    "--innodb-buffer-pool-size=128M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-flush-method=nosync",
    "--innodb-doublewrite=0",
    "--sync-frm=0",
];
