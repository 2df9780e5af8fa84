//! The program from outside: what it says, whom it admits, and how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

const PROGRAM: &str = env!("CARGO_BIN_EXE_vma");

/// A running VMA; killed when the test ends.
struct Vma {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
    token: Option<String>,
}

impl Vma {
    fn start(folder: &Path, more: &[&str]) -> Result<Self> {
        Self::start_by(&mut Command::new(PROGRAM), folder, more)
    }

    /// The same by way of another program, which is handed the VMA's arguments.
    fn start_by(command: &mut Command, folder: &Path, more: &[&str]) -> Result<Self> {
        let store = folder.join("datastore1");
        std::fs::create_dir_all(&store)?;
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--name", "lab", "--state-dir"])
            .arg(folder.join("state"))
            .arg("--datastore")
            .arg(store)
            .args(more)
            .env("VMA__AGENT__RUN_DIR", folder)
            .env("VMA__LOG__FILTER", "warn")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut token = None;
        loop {
            let mut line = String::new();
            if stdout.read_line(&mut line)? == 0 {
                bail!("the VMA ended with {}", child.wait()?);
            }
            let line = line.trim();
            if let Some(said) = line.strip_prefix("VMA token: ") {
                token = Some(said.to_owned());
            }
            if let Some(address) = line.strip_prefix("listening on http://") {
                return Ok(Self { address: address.to_owned(), child, stdout, token });
            }
        }
    }

    /// Sends a request and answers the whole response.
    fn ask(&self, method: &str, path: &str, token: &str, body: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: vma\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn signal(&self, name: &str) -> Result<()> {
        let id = self.child.id().to_string();
        ensure!(Command::new("kill").args([name, &id]).status()?.success(), "kill failed");
        Ok(())
    }
}

impl Drop for Vma {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !holds()? {
        ensure!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(5));
    }
    Ok(())
}

#[test]
fn it_makes_a_token_once_answers_and_stops_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut vma = Vma::start(folder.path(), &[]).unwrap();
    let token = vma.token.clone().unwrap();
    assert!(vma.ask("GET", "/health", "", "").unwrap().starts_with("HTTP/1.1 200"));
    let discover = |vma: &Vma, token: &str| vma.ask("GET", "/api/v1/discover", token, "").unwrap();
    assert!(discover(&vma, "wrong").starts_with("HTTP/1.1 401"));
    assert!(discover(&vma, &token).contains(r#""host":"lab""#));
    vma.signal("-TERM").unwrap();
    assert!(vma.child.wait().unwrap().success());
    let mut rest = String::new();
    vma.stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");

    let vma = Vma::start(folder.path(), &[]).unwrap();
    assert_eq!(vma.token, None, "it is shown once");
    assert!(discover(&vma, &token).starts_with("HTTP/1.1 200"));
}

#[test]
fn it_prints_its_settings_without_secrets_and_refuses_bad_ones() {
    let run = |arguments: &[&str]| Command::new(PROGRAM).args(arguments).output().unwrap();
    let good = run(&["--check-config", "--datastore", "/srv/ds1", "--listen", "127.0.0.1:7"]);
    let text = String::from_utf8(good.stdout).unwrap();
    assert!(good.status.success() && text.contains("127.0.0.1:7") && text.contains("/srv/ds1"));
    let bad = run(&["--check-config"]);
    assert!(!bad.status.success());
    assert!(String::from_utf8_lossy(&bad.stderr).contains("no datastore"));
}

#[test]
fn it_reads_by_itself_and_gives_its_files_back() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("datastore1/vm");
    std::fs::create_dir_all(&home).unwrap();
    let uuid = "564d0102-0304-0506-0708-090a0b0c0d0e";
    let vmx = format!("uuid.bios = \"{uuid}\"\nscsi0:0.fileName = \"d.vmdk\"\n");
    std::fs::write(home.join("vm.vmx"), vmx).unwrap();
    let text = "# Disk DescriptorFile\nversion=1\nCID=00000001\nparentCID=ffffffff\ncreateType=\"vmfs\"\n# Extents\nRW 128 VMFS \"d-flat.vmdk\"\n";
    std::fs::write(home.join("d.vmdk"), text).unwrap();
    std::fs::write(home.join("d-flat.vmdk"), vec![7; 65_536]).unwrap();
    let vma = Vma::start(folder.path(), &[]).unwrap();
    let token = vma.token.clone().unwrap();
    // A target that accepts connections and never says a word keeps the job waiting.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let start = |id: &str| {
        let body = format!(
            r#"{{"job_id":"{id}","vm_id":"{uuid}","disks":[{{"key":"disk-2000","capacity_bytes":65536,"block_size":65536,"method":{{"kind":"full"}},"target":{{"host":"127.0.0.1","port":{port},"export":"x"}}}}]}}"#
        );
        let answer = vma.ask("POST", "/api/v1/backup/start", &token, &body).unwrap();
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    };
    let pid = vma.child.id();
    let reading = || -> Result<usize> {
        let handles = std::fs::read_dir(format!("/proc/{pid}/fd"))?;
        let targets = handles.filter_map(|it| std::fs::read_link(it.ok()?.path()).ok());
        Ok(targets.filter(|it| it.ends_with("d-flat.vmdk")).count())
    };
    start("one");
    until("the disk is open", || Ok(reading()? == 1)).unwrap();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    assert_eq!(children.trim(), "", "it starts no process");
    vma.ask("POST", "/api/v1/jobs/one/cancel", &token, "").unwrap();
    until("cancelling closes the disk", || Ok(reading()? == 0)).unwrap();
}

/// Fifteen disks of 64 extents each.
const DISKS: u32 = 15;
const EXTENTS: u32 = 64;
const UUID: &str = "564d0102-0304-0506-0708-090a0b0c0d0e";

/// Makes a VM whose disks have more files than many systems let a program open at first.
fn lay_out_many_extents(home: &Path) -> Result<()> {
    std::fs::create_dir_all(home)?;
    let mut vmx = format!("uuid.bios = \"{UUID}\"\n");
    for unit in units() {
        vmx += &format!("scsi0:{unit}.fileName = \"d{unit}.vmdk\"\n");
        let mut text = "# Disk DescriptorFile\nversion=1\nCID=00000001\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentFlat\"\n# Extents\n".to_owned();
        for extent in 1..=EXTENTS {
            let name = format!("d{unit}-f{extent:03}.vmdk");
            text += &format!("RW 128 FLAT \"{name}\" 0\n");
            std::fs::File::create(home.join(name))?.set_len(65_536)?;
        }
        std::fs::write(home.join(format!("d{unit}.vmdk")), text)?;
    }
    Ok(std::fs::write(home.join("vm.vmx"), vmx)?)
}

/// Unit 7 is the controller's own.
fn units() -> impl Iterator<Item = u32> {
    (0..=DISKS).filter(|it| *it != 7)
}

/// Starts a copy of all of them to a port.
fn copy_many_extents(vma: &Vma, port: u16) -> Result<()> {
    let disk = |unit: u32| {
        let (key, capacity) = (2000 + unit, EXTENTS * 65_536);
        format!(
            r#"{{"key":"disk-{key}","capacity_bytes":{capacity},"block_size":65536,"method":{{"kind":"full"}},"target":{{"host":"127.0.0.1","port":{port},"export":"x{unit}"}}}}"#
        )
    };
    let disks: Vec<_> = units().map(disk).collect();
    let body = format!(r#"{{"job_id":"many","vm_id":"{UUID}","disks":[{}]}}"#, disks.join(","));
    let token = vma.token.as_deref().context("no token")?;
    let answer = vma.ask("POST", "/api/v1/backup/start", token, &body)?;
    ensure!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    Ok(())
}

/// A VMA that was started with these limits of open files.
fn limited(folder: &Path, soft: u32, hard: u32) -> Result<Vma> {
    let mut shell = Command::new("sh");
    let script = format!("ulimit -Sn {soft}; ulimit -Hn {hard}; exec \"$0\" \"$@\"");
    Vma::start_by(shell.args(["-c", &script, PROGRAM]), folder, &[])
}

#[test]
fn the_files_of_many_disks_are_open_at_once_where_the_system_allows_it() {
    let folder = tempfile::tempdir().unwrap();
    lay_out_many_extents(&folder.path().join("datastore1/vm")).unwrap();
    let vma = limited(folder.path(), 100, 1200).unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    copy_many_extents(&vma, silent.local_addr().unwrap().port()).unwrap();
    let pid = vma.child.id();
    let extents = || -> Result<usize> {
        let handles = std::fs::read_dir(format!("/proc/{pid}/fd"))?;
        let targets = handles.filter_map(|it| std::fs::read_link(it.ok()?.path()).ok());
        Ok(targets.filter(|it| it.to_string_lossy().contains("-f0")).count())
    };
    until("all extents are open", || Ok(extents()? == (DISKS * EXTENTS) as usize)).unwrap();
}

#[test]
fn one_file_too_many_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    lay_out_many_extents(&folder.path().join("datastore1/vm")).unwrap();
    let vma = limited(folder.path(), 100, 500).unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = copy_many_extents(&vma, silent.local_addr().unwrap().port()).unwrap_err();
    let refused = refused.to_string();
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("source/too-many-files"), "{refused}");
    assert!(refused.contains("raise the limit of open files"), "{refused}");
    // What was opened for it is closed again.
    let files = || Ok(std::fs::read_dir(format!("/proc/{}/fd", vma.child.id()))?.count());
    until("the files are closed", || files().map(|it: usize| it < 100)).unwrap();
}
