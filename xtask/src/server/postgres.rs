//! A private PostgreSQL, run as the account `postgres` where we are root, because it refuses root.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use super::{Invocation, Site, free_port, password};
use crate::tools;
use crate::workspace::output;

/// A running PostgreSQL.
pub(crate) struct Postgres {
    /// `postgres://user:password@host:port/postgres`: a superuser.
    pub(crate) url: String,
}

impl Postgres {
    /// Lays a cluster and starts a server on it.
    pub(crate) fn start(site: &mut Site) -> anyhow::Result<Self> {
        let place = site.place("postgres")?;
        let password = password()?;
        let secret = place.join("password");
        fs::write(&secret, &password)?;
        let account = Account::choose()?;
        account.own(&[place.clone(), secret.clone()])?;

        let data = place.join("data");
        let mut install = Command::new("setpriv");
        install.args(&account.options).arg("--").arg(tools::find("initdb")?);
        // The clear-text method costs a debug build nothing per connection, and never leaves loopback.
        install.args([
            "--username=hub",
            "--auth=password",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        install.arg(format!("--pwfile={}", secret.display())).arg(&data).current_dir(&place);
        output(&mut install)?;

        let port = free_port()?;
        let mut arguments = vec![String::from("-D"), data.display().to_string()];
        for setting in SETTINGS.iter().map(|it| String::from(*it)).chain([format!("port={port}")]) {
            arguments.extend([String::from("-c"), setting]);
        }
        let server = Invocation {
            program: tools::find("postgres")?,
            arguments,
            account: account.options,
            stop_signal: "QUIT",
            log: place.join("log"),
        };
        let client = tools::find("psql")?;
        let url = format!("postgres://hub:{password}@127.0.0.1:{port}/postgres");
        site.start(server, || {
            let mut probe = Command::new(&client);
            probe.args(["--no-psqlrc", "--command=SELECT 1"]).arg(&url);
            probe
        })?;
        Ok(Self { url })
    }
}

/// Who runs the server.
struct Account {
    options: Vec<String>,
    ids: Option<(u32, u32)>,
}

impl Account {
    /// Ourselves, unless we are root.
    fn choose() -> anyhow::Result<Self> {
        if !tools::is_root() {
            return Ok(Self { options: Vec::new(), ids: None });
        }
        let id = |flag: &str| -> anyhow::Result<u32> {
            let text = output(Command::new("id").args([flag, "postgres"]))?;
            text.trim().parse().context("`id` printed no number")
        };
        let (user, group) = (id("-u")?, id("-g")?);
        let options = vec![
            format!("--reuid={user}"),
            format!("--regid={group}"),
            String::from("--clear-groups"),
        ];
        Ok(Self { options, ids: Some((user, group)) })
    }

    fn own(&self, paths: &[PathBuf]) -> anyhow::Result<()> {
        if let Some((user, group)) = self.ids {
            for path in paths {
                chown(path, Some(user), Some(group))?;
            }
        }
        Ok(())
    }
}

/// Fast because nothing here outlives the run; the order and atomicity of transactions are untouched.
const SETTINGS: [&str; 7] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=400",
    "shared_buffers=128MB",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
];
