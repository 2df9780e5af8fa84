//! The program as its users meet it: what it prints, what it leaves on disk, how it starts again and how it ends.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hub-server");

/// A running hub; it ends with the test.
struct Hub {
    child: Child,
    output: BufReader<ChildStdout>,
    /// Everything it has said so far.
    said: Vec<String>,
}

impl Hub {
    fn start(data_dir: &Path, more: &[&str]) -> Result<Self> {
        Self::start_by(&mut Command::new(PROGRAM), data_dir, more)
    }

    /// The same by way of another program, which is handed the hub's arguments.
    fn start_by(command: &mut Command, data_dir: &Path, more: &[&str]) -> Result<Self> {
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--nbd-listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let output = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut hub = Self { child, output, said: Vec::new() };
        while hub.line("NBD listening on ").is_none() {
            let mut line = String::new();
            ensure!(hub.output.read_line(&mut line)? > 0, "it ended: {:?}", hub.said);
            hub.said.push(line.trim_end().to_owned());
        }
        Ok(hub)
    }

    /// The rest of the line that begins so.
    fn line(&self, beginning: &str) -> Option<&str> {
        self.said.iter().find_map(|line| line.strip_prefix(beginning))
    }

    fn call(&self, method: &str, path: &str, token: &str, body: &str) -> Result<(u16, Value)> {
        let address = self.line("API listening on http://").context("no address")?;
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: hub\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.context("no pid")?, signal)?)
    }

    /// Sends SIGTERM and waits; whether it ended well.
    fn stop(mut self) -> Result<bool> {
        self.signal(Signal::TERM)?;
        Ok(self.child.wait()?.success())
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Soft and hard limit of open files.
fn limits_of(hub: &Hub) -> Result<[String; 2]> {
    let limits = fs::read_to_string(format!("/proc/{}/limits", hub.child.id()))?;
    let line = limits.lines().find_map(|it| it.strip_prefix("Max open files"));
    let mut words = line.context("no limit of files")?.split_whitespace().map(str::to_owned);
    Ok([words.next().context("no soft limit")?, words.next().context("no hard limit")?])
}

fn once(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(PROGRAM).args(arguments).output()?)
}

#[test]
fn it_starts_twice_on_one_directory_and_shows_its_token_once() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("hub data");
    let token_file = folder.path().join("token");
    let hub =
        Hub::start(&data_dir, &["--initial-token-file", token_file.to_str().unwrap()]).unwrap();
    let token = hub.line("API token (shown once): ").unwrap().to_owned();
    assert_eq!(fs::read_to_string(&token_file).unwrap().trim(), token);
    for private in [token_file.clone(), data_dir.join("secret.key")] {
        let mode = fs::metadata(&private).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", private.display());
    }
    assert_eq!(hub.call("GET", "/health", "", "").unwrap().0, 200);
    assert_eq!(hub.call("GET", "/api/v1/repositories", "hub_wrong", "").unwrap().0, 401);
    let (status, list) = hub.call("GET", "/api/v1/repositories", &token, "").unwrap();
    assert_eq!((status, list["items"][0]["name"].as_str()), (200, Some("default")));
    let place = data_dir.join("repository");
    assert_eq!(list["items"][0]["path"].as_str(), place.to_str());
    let (_, health) = hub.call("GET", "/api/v1/debug/health", &token, "").unwrap();
    assert_eq!(health["system_info"]["database"]["kind"], "sqlite");
    assert!(hub.stop().unwrap());
    assert!(!data_dir.join("catalogue.sqlite-wal").exists(), "the catalogue is closed");

    let again = Hub::start(&data_dir, &[]).unwrap();
    assert_eq!(again.line("API token"), None);
    let (status, list) = again.call("GET", "/api/v1/repositories", &token, "").unwrap();
    assert_eq!((status, list["items"].as_array().map(Vec::len)), (200, Some(1)));
    assert!(again.stop().unwrap());
}

/// Systems start programs with a low limit, and let them raise it themselves.
#[test]
fn it_may_have_as_many_files_open_as_the_system_allows() {
    let folder = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -Sn 100; ulimit -Hn 777; exec \"$0\" \"$@\"", PROGRAM]);
    let hub = Hub::start_by(&mut shell, folder.path(), &[]).unwrap();
    assert_eq!(limits_of(&hub).unwrap(), ["777", "777"]);
}

/// Images are a company's disks, and not every directory for them is the hub's own (trap C12).
#[test]
fn what_the_hub_makes_is_for_its_own_user_only() {
    let folder = tempfile::tempdir().unwrap();
    let (data_dir, elsewhere) = (folder.path().join("data"), folder.path().join("elsewhere"));
    for open in [&data_dir, &elsewhere] {
        fs::create_dir(open).unwrap();
        fs::set_permissions(open, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let repository = elsewhere.join("backups");
    let settings = folder.path().join("hub.toml");
    fs::write(&settings, format!("[storage]\nrepository_dir = {repository:?}\n")).unwrap();
    let hub = Hub::start(&data_dir, &["--config", settings.to_str().unwrap()]).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&repository), 0o700);
    for entry in fs::read_dir(&data_dir).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
    }
    assert!(hub.stop().unwrap());
}

#[test]
fn a_killed_hub_starts_again_and_a_second_one_beside_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path(), &[]).unwrap();
    let token = hub.line("API token (shown once): ").unwrap().to_owned();
    let beside = once(&["--data-dir", folder.path().to_str().unwrap()]).unwrap();
    assert!(!beside.status.success());
    let said = String::from_utf8_lossy(&beside.stderr).into_owned();
    assert!(said.contains("another hub runs"), "{said}");
    hub.signal(Signal::KILL).unwrap();
    drop(hub);
    let again = Hub::start(folder.path(), &[]).unwrap();
    assert_eq!(again.call("GET", "/api/v1/backups/stats", &token, "").unwrap().0, 200);
}

/// Promise P2, at the very first steps: the authority is there whole or not at all, and stays the same.
#[test]
fn p2_a_hub_killed_while_it_makes_its_authority_leaves_all_of_it_or_nothing() {
    const AUTHORITY: &str = "NBD authority (SHA-256): ";
    for round in 0..6 {
        let folder = tempfile::tempdir().unwrap();
        let (place, partial) =
            (folder.path().join("nbd-tls"), folder.path().join("nbd-tls.partial"));
        let mut child = Command::new(PROGRAM)
            .args(["--listen", "127.0.0.1:0", "--nbd-listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(120);
        // The moment of the kill differs from round to round by what is looked for.
        let sights = [&partial, &partial.join("ca.key"), &partial.join("ca.pem"), &place];
        while !sights[round % sights.len()].exists() && !place.exists() {
            assert!(Instant::now() < deadline, "no authority is made");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if place.exists() {
            for name in ["ca.pem", "ca.key"] {
                let text = fs::read_to_string(place.join(name)).unwrap();
                assert!(text.trim_end().ends_with("-----"), "{name} is torn");
            }
        }
        let kept = fs::read_to_string(place.join("ca.pem")).ok();
        let hub = Hub::start(folder.path(), &[]).unwrap();
        let authority = hub.line(AUTHORITY).unwrap().to_owned();
        assert!(!partial.exists());
        if let Some(kept) = kept {
            assert_eq!(fs::read_to_string(place.join("ca.pem")).unwrap(), kept);
        }
        assert!(hub.stop().unwrap());
        let again = Hub::start(folder.path(), &[]).unwrap();
        assert_eq!(again.line(AUTHORITY), Some(authority.as_str()));
    }
}

#[test]
fn a_lost_key_is_told_before_anything_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path(), &[]).unwrap();
    let token = hub.line("API token (shown once): ").unwrap().to_owned();
    let login = r#"{"name":"lab","vcenter_host":"vc","username":"u","password":"p"}"#;
    let (status, made) = hub.call("POST", "/api/v1/vmware-credentials", &token, login).unwrap();
    assert_eq!(status, 201, "{made}");
    assert!(hub.stop().unwrap());
    let (key, kept) = (folder.path().join("secret.key"), folder.path().join("kept"));
    fs::rename(&key, &kept).unwrap();
    let arguments = ["--listen", "127.0.0.1:0", "--nbd-listen", "127.0.0.1:0", "--data-dir"];
    let arguments = [&arguments[..], &[folder.path().to_str().unwrap()]].concat();
    let refused = once(&arguments).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("secret.key is missing"), "{said}");
    assert!(!key.exists(), "no new key is made over the old one's secrets");
    fs::rename(&kept, &key).unwrap();
    assert!(Hub::start(folder.path(), &[]).unwrap().stop().unwrap());
}

#[test]
fn settings_and_document_are_printed_without_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("none");
    let shown = once(&["--check-config", "--data-dir", data_dir.to_str().unwrap()]).unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.status.success() && text.contains("[nbd]"), "{text}");
    assert!(!data_dir.exists());
    let document = once(&["--openapi"]).unwrap();
    let document: Value = serde_json::from_slice(&document.stdout).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let unknown = once(&["--nonsense"]).unwrap();
    assert!(!unknown.status.success());
}

/// The only token was lost, while the hub runs and while it does not.
#[test]
fn a_lost_token_is_replaced_beside_the_hub_and_without_it() {
    const SHOWN: &str = "API token (shown once): ";
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let place = data_dir.to_str().unwrap();
    let make = |arguments: &[&str]| once(&[&["--data-dir", place], arguments].concat()).unwrap();
    let shown = |done: &Output| {
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        said.lines().find_map(|it| it.strip_prefix(SHOWN).map(str::to_owned))
    };
    let refused = |done: &Output, why: &str| {
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(why), "{said}");
        assert_eq!(shown(done), None);
    };
    refused(&make(&["--new-token", "early"]), "no hub has been started");
    assert!(!data_dir.exists(), "a question for a token makes no hub");
    refused(&make(&["--revoke-others"]), "--new-token");

    let hub = Hub::start(&data_dir, &[]).unwrap();
    let first = hub.line(SHOWN).unwrap().to_owned();
    let status = |hub: &Hub, token: &str| hub.call("GET", "/api/v1/backups", token, "").unwrap().0;
    let second = shown(&make(&["--new-token", "second"])).unwrap();
    assert_eq!((status(&hub, &first), status(&hub, &second)), (200, 200));
    refused(&make(&["--new-token", "second"]), "choose another name");
    refused(&make(&["--new-token", " "]), "not blank");
    assert!(hub.stop().unwrap());

    let alone = make(&["--new-token", "second", "--revoke-others"]);
    assert!(String::from_utf8_lossy(&alone.stdout).contains("revoked: 2"));
    let third = shown(&alone).unwrap();
    let kept = fs::read(data_dir.join("catalogue.sqlite")).unwrap();
    assert!(!kept.windows(third.len()).any(|it| it == third.as_bytes()), "a digest is kept");
    let again = Hub::start(&data_dir, &[]).unwrap();
    assert_eq!(again.line(SHOWN), None, "it is no first start");
    let all = [&first, &second, &third].map(|token| status(&again, token));
    assert_eq!(all, [401, 401, 200]);
}
