//! One child process with what it says kept in files, so that a failed test can show it.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long a program may take to say a line or to stop; generous, because test machines are busy.
const PATIENCE: Duration = Duration::from_secs(180);

/// Lines of each stream that a failure shows.
const SHOWN: usize = 60;

/// How long a process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is dropped, and never longer than the thread that started it.
    Owned,
    /// Until it is dropped, or beyond that and the end of this program once it is released.
    Detached,
}

/// A running program.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    released: bool,
    ended: Option<ExitStatus>,
    stdout: PathBuf,
    stderr: PathBuf,
    /// Where the output of this start begins; a restarted program goes on in the same files.
    said_before: usize,
}

impl Program {
    /// Starts a program whose output goes to `<logs>/<name>.out` and `<logs>/<name>.log`.
    pub fn start(
        name: &str,
        path: &Path,
        arguments: &[String],
        environment: &[(String, String)],
        logs: &Path,
        lifetime: Lifetime,
    ) -> Result<Self> {
        fs::create_dir_all(logs)?;
        let (stdout, stderr) = (logs.join(format!("{name}.out")), logs.join(format!("{name}.log")));
        let append = |path: &Path| File::options().create(true).append(true).open(path);
        let said_before = fs::read(&stdout).map_or(0, |bytes| bytes.len());
        let mut command = match lifetime {
            Lifetime::Owned => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL", "--"]).arg(path);
                command
            }
            Lifetime::Detached => {
                let mut command = Command::new(path);
                std::os::unix::process::CommandExt::process_group(&mut command, 0);
                command
            }
        };
        command.args(arguments).envs(environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(append(&stdout)?).stderr(append(&stderr)?);
        let child = command.spawn().with_context(|| format!("`{name}` cannot be started"))?;
        let name = name.to_owned();
        Ok(Self { name, child, released: false, ended: None, stdout, stderr, said_before })
    }

    /// Waits until it says a line with `marker` on stdout, and answers what follows the marker.
    pub async fn said(&mut self, marker: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.has_ended()?;
            if let Some(rest) = self.line_after(marker)? {
                return Ok(rest);
            }
            if let Some(status) = ended {
                bail!(
                    "`{}` ended with {status} instead of saying `{marker}`\n{}",
                    self.name,
                    self.tail()
                );
            }
            ensure!(
                Instant::now() < deadline,
                "`{}` does not say `{marker}`\n{}",
                self.name,
                self.tail()
            );
            sleep(LOOK_EVERY).await;
        }
    }

    /// What it has said behind a marker by now.
    pub fn line(&self, marker: &str) -> Result<String> {
        self.line_after(marker)?.with_context(|| format!("`{}` never said `{marker}`", self.name))
    }

    fn line_after(&self, marker: &str) -> Result<Option<String>> {
        let bytes = fs::read(&self.stdout)?;
        let text = String::from_utf8_lossy(bytes.get(self.said_before..).unwrap_or_default());
        // A line counts once it is whole.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let rest = whole.lines().find_map(|line| line.split_once(marker).map(|(_, rest)| rest));
        Ok(rest.map(|rest| rest.trim().to_owned()))
    }

    /// Lets a detached program live on when this value is dropped.
    pub fn release(&mut self) {
        self.released = true;
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn has_ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Ends it at once, as a crash or `kill -9` does.
    pub fn kill(&mut self) -> Result<()> {
        if self.has_ended()?.is_none() {
            self.child.kill()?;
            self.ended = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// Asks it to end in order, and fails when it does not or complains.
    pub async fn stop(&mut self) -> Result<()> {
        if self.has_ended()?.is_none() {
            self.signal("TERM")?;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.has_ended()? {
                ensure!(status.success(), "`{}` ended with {status}\n{}", self.name, self.tail());
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "`{}` does not stop\n{}", self.name, self.tail());
            sleep(LOOK_EVERY).await;
        }
    }

    /// Sends a signal by its name, such as `STOP` and `CONT` to freeze and wake it.
    pub fn signal(&self, signal: &str) -> Result<()> {
        ensure!(self.ended.is_none(), "`{}` has ended", self.name);
        // Without a process in between: a test that freezes this one is in a hurry.
        let signal = match signal {
            "STOP" => Signal::STOP,
            "CONT" => Signal::CONT,
            "TERM" => Signal::TERM,
            other => bail!("no test sends {other}"),
        };
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(id, signal)
            .with_context(|| format!("the signal did not reach `{}`", self.name))
    }

    /// Everything that it has logged.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.stderr)?).into_owned())
    }

    /// Its warnings and errors, but for one that tells of the machine and not of the program: that a connection to the
    /// catalogue was waited for, which nothing comes of.
    pub fn loud(&self) -> Result<Vec<String>> {
        let log = self.log()?;
        let is_loud = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
        let loud = log.lines().filter(is_loud);
        Ok(loud.filter(|line| !line.contains("sqlx::pool::acquire")).map(str::to_owned).collect())
    }

    /// The end of what it has said and logged.
    pub fn tail(&self) -> String {
        let shown = [&self.stdout, &self.stderr].map(|path| {
            let text = fs::read(path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<_> = text.lines().collect();
            lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default().join("\n")
        });
        let [said, logged] = shown;
        format!("--- {} said\n{said}\n--- {} logged\n{logged}\n---", self.name, self.name)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A test that fails shows what its processes had to say; nobody can be told that this failed too.
            drop(writeln!(std::io::stderr(), "{}", self.tail()));
        }
        if !self.released {
            drop(self.kill());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, logs: &Path) -> Result<Program> {
        let arguments = ["-c".to_owned(), script.to_owned()];
        Program::start("shell", Path::new("/bin/sh"), &arguments, &[], logs, Lifetime::Owned)
    }

    #[tokio::test]
    async fn a_line_is_awaited_and_the_process_dies_with_its_owner() {
        let logs = tempfile::tempdir().unwrap();
        let mut program = shell("echo 'listening on here'; exec sleep 600", logs.path()).unwrap();
        assert_eq!(program.said("listening on ").await.unwrap(), "here");
        let process = format!("/proc/{}", program.id());
        assert!(Path::new(&process).exists());
        drop(program);
        assert!(!Path::new(&process).exists());
    }

    #[tokio::test]
    async fn a_program_that_ends_instead_is_reported_with_its_log() {
        let logs = tempfile::tempdir().unwrap();
        let mut program = shell("echo the port is taken >&2; exit 4", logs.path()).unwrap();
        let error = program.said("listening on ").await.unwrap_err().to_string();
        assert!(error.contains("the port is taken") && error.contains('4'), "{error}");
        assert!(program.stop().await.is_err());
    }

    #[tokio::test]
    async fn a_restarted_program_is_not_taken_for_the_one_before() {
        let logs = tempfile::tempdir().unwrap();
        for port in ["1", "2"] {
            let script = format!("echo listening on {port}; exec sleep 600");
            let mut program = shell(&script, logs.path()).unwrap();
            assert_eq!(program.said("listening on ").await.unwrap(), port);
            program.kill().unwrap();
        }
    }
}
