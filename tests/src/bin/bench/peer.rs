//! The peers: the databases' own clients, which insert the same rows in one transaction.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hub_testkit::database::{DatabaseKind, TestDatabase};
use hub_tests::processes::binary;

/// The rows of VMs and disks as the client's own SQL.
pub(crate) struct Rows {
    kind: DatabaseKind,
    script: PathBuf,
}

/// The one row of the VMA comes along, because the VMs refer to it.
const TABLES: [&str; 3] = ["vma_nodes", "vm_replication_contexts", "vm_disks"];

impl Rows {
    /// Writes what a catalogue holds to a script.
    pub(crate) fn dump(kind: DatabaseKind, url: &str, folder: &Path) -> Result<Self> {
        let script = folder.join("rows.sql");
        let mut text = match kind {
            DatabaseKind::Sqlite => {
                let file = sqlite_file(url)?;
                let mut all = String::new();
                for table in TABLES {
                    // Not `*`: what the database generates cannot be inserted, and is not listed here.
                    let asked =
                        format!("SELECT group_concat(name) FROM pragma_table_info('{table}');\n");
                    let columns = piped("sqlite3", &[&file], &asked)?;
                    let columns = columns.trim();
                    let asked = format!(
                        ".headers on\n.mode insert {table}\nSELECT {columns} FROM {table};\n"
                    );
                    all.push_str(&piped("sqlite3", &[&file], &asked)?);
                }
                format!("BEGIN;\n{all}COMMIT;\n")
            }
            DatabaseKind::MariaDb => {
                let server = Server::parse(url)?;
                let mut arguments = server.arguments();
                arguments.extend(
                    ["--no-create-info", "--skip-triggers", "--compact", "--single-transaction"]
                        .map(str::to_owned),
                );
                arguments.push(server.database.clone());
                arguments.extend(TABLES.map(str::to_owned));
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let inserts = piped("mariadb-dump", &arguments, "")?;
                // The dump names values for what the server generates; only a lenient session passes over them.
                format!("SET sql_mode = '';\nSTART TRANSACTION;\n{inserts}COMMIT;\n")
            }
            DatabaseKind::Postgres => bail!("there is no peer for PostgreSQL here"),
        };
        text.push('\n');
        fs::write(&script, text)?;
        Ok(Self { kind, script })
    }

    /// Inserts them into a fresh catalogue by the database's own client, and takes the time.
    pub(crate) async fn insert(&self) -> Result<Duration> {
        let fresh = TestDatabase::create(self.kind).await?.context("no database server")?;
        let migrated = Command::new(binary("migration")?)
            .args(["up", "--database-url", &fresh.url])
            .output()?;
        ensure!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        let (program, arguments) = match self.kind {
            DatabaseKind::Sqlite => {
                let file = sqlite_file(&fresh.url)?;
                // The same durability as the hub's: write-ahead log, synced at checkpoints.
                let pragma = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;".to_owned();
                ("sqlite3", vec!["-cmd".to_owned(), pragma, file])
            }
            DatabaseKind::MariaDb | DatabaseKind::Postgres => {
                let server = Server::parse(&fresh.url)?;
                let mut arguments = server.arguments();
                arguments.push(server.database);
                ("mariadb", arguments)
            }
        };
        let started = Instant::now();
        let done = Command::new(program)
            .args(&arguments)
            .stdin(File::open(&self.script)?)
            .stdout(Stdio::null())
            .output()
            .with_context(|| format!("`{program}` cannot be started"))?;
        let took = started.elapsed();
        // A client quotes the statement that failed, which here is the whole inventory.
        let said = String::from_utf8_lossy(&done.stderr);
        let error =
            said.lines().rfind(|line| line.to_lowercase().contains("error")).unwrap_or_default();
        ensure!(done.status.success(), "{program} ended with {}: {error}", done.status);
        Ok(took)
    }
}

/// A MariaDB server and a database of it.
pub(crate) struct Server {
    user: String,
    password: String,
    host: String,
    port: String,
    database: String,
}

impl Server {
    /// Takes `mysql://user:password@host:port/database` apart.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let rest = url.split_once("://").context("a URL has a scheme")?.1;
        let (login, rest) = rest.split_once('@').unwrap_or(("root", rest));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (address, database) = rest.split_once('/').context("a URL names a database")?;
        let (host, port) = address.split_once(':').unwrap_or((address, "3306"));
        let own = str::to_owned;
        Ok(Self {
            user: own(user),
            password: own(password),
            host: own(host),
            port: own(port),
            database: own(database),
        })
    }

    /// How its clients are told to reach it.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--host={}", self.host),
            format!("--port={}", self.port),
            format!("--user={}", self.user),
            "--protocol=tcp".to_owned(),
            "--default-character-set=utf8mb4".to_owned(),
        ];
        if !self.password.is_empty() {
            arguments.push(format!("--password={}", self.password));
        }
        arguments
    }
}

/// The file behind an SQLite URL.
pub(crate) fn sqlite_file(url: &str) -> Result<String> {
    let rest = url.strip_prefix("sqlite://").context("an SQLite URL")?;
    Ok(rest.split('?').next().unwrap_or(rest).to_owned())
}

/// Runs a client with `input` on its standard input, and answers what it prints.
pub(crate) fn piped(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    use std::io::Write as _;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{program}` cannot be started"))?;
    child.stdin.take().context("its input")?.write_all(input.as_bytes())?;
    let done = child.wait_with_output()?;
    ensure!(done.status.success(), "{program} ended with {}", done.status);
    Ok(String::from_utf8(done.stdout)?)
}
