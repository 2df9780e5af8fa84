//! One running peer.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certificate::Certificate;
use crate::program::ensure_built;
use crate::shape::{AreaPage, Shaped, Trouble, VmShape};

/// The account that every peer has.
const USER: &str = "backup@vsphere.local";

/// What it is to be.
#[derive(Clone, Copy, Debug)]
pub struct PeerOptions {
    /// A standalone ESXi host in place of a vCenter.
    pub esxi: bool,
    /// VMs per pool; a vCenter has two pools in each datacenter, a host one.
    pub vms: usize,
    /// Datacenters of a vCenter.
    pub datacenters: usize,
}

impl Default for PeerOptions {
    fn default() -> Self {
        Self { esxi: false, vms: 1, datacenters: 1 }
    }
}

/// A vCenter or ESXi host that dies with this value, or with the process that holds it.
#[derive(Debug)]
pub struct VspherePeer {
    address: String,
    password: String,
    certificate: Certificate,
    child: Child,
    lines: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
    home: TempDir,
}

/// A snapshot that exists at the peer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LiveSnapshot {
    /// The VM's name.
    pub vm: String,
    /// Its name.
    pub name: String,
    /// Its managed object id.
    pub id: String,
    /// Whether the guest was quiesced.
    pub quiesced: bool,
}

impl VspherePeer {
    /// Starts one; `None`, said loudly, where it cannot be built and need not.
    pub fn start(options: PeerOptions) -> Result<Option<Self>> {
        let Some(program) = ensure_built()? else { return Ok(None) };
        let home = tempfile::tempdir()?;
        let certificate = Certificate::make(home.path())?;
        // Unusual characters, so that a client that does not escape them fails.
        let password = "p&<ss> \"w'rd/ä".to_owned();
        let mut command = Command::new(program);
        command.arg("-cert").arg(&certificate.certificate).arg("-key").arg(&certificate.key);
        command.args(["-user", USER]).env("VSPHERE_PEER_PASSWORD", &password);
        // Its datastores are temporary directories, which go with the others of this test.
        command.env("TMPDIR", home.path());
        command.args(["-vms".to_owned(), options.vms.to_string()]);
        command.args(["-datacenters".to_owned(), options.datacenters.to_string()]);
        command.args(options.esxi.then_some("-esx"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().context("the vSphere peer cannot be started")?;
        let input = child.stdin.take().context("the peer takes no commands")?;
        let mut output = BufReader::new(child.stdout.take().context("the peer says nothing")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let said: Value = serde_json::from_str(&line).context("the peer did not start")?;
        let address = said.get("address").and_then(Value::as_str).context("no address")?.to_owned();
        let lines = Mutex::new(Some((input, output)));
        Ok(Some(Self { address, password, certificate, child, lines, home }))
    }

    /// Address and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its account.
    pub fn user(&self) -> &str {
        USER
    }

    /// The password of its account.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// PEM of the authority behind its certificate.
    pub fn authority(&self) -> &str {
        &self.certificate.authority
    }

    /// SHA-256 of its certificate.
    pub fn thumbprint(&self) -> [u8; 32] {
        self.certificate.thumbprint
    }

    /// A directory that lives as long as the peer.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Changes a VM.
    pub fn shape(&self, shape: &VmShape) -> Result<Shaped> {
        Ok(serde_json::from_value(self.command(&json!({ "do": "shape", "shape": shape }))?)?)
    }

    /// Lets calls go wrong.
    pub fn trouble(&self, trouble: &Trouble) -> Result<()> {
        self.command(&json!({ "do": "trouble", "trouble": trouble })).map(drop)
    }

    /// Ends all trouble, and lets calls that are held go on.
    pub fn calm(&self) -> Result<()> {
        self.command(&json!({ "do": "calm" })).map(drop)
    }

    /// Lets calls that are held go on, and later ones pass; other trouble stays.
    pub fn go_on(&self) -> Result<()> {
        self.command(&json!({ "do": "go_on" })).map(drop)
    }

    /// Scripts the changed areas of a disk; without pages the truth is told again.
    pub fn areas(&self, vm: &str, key: i32, pages: &[AreaPage]) -> Result<()> {
        self.command(&json!({ "do": "areas", "vm": vm, "key": key, "pages": pages })).map(drop)
    }

    /// Bounds the areas of one true answer, 2000 unless told.
    pub fn page_size(&self, areas: usize) -> Result<()> {
        self.command(&json!({ "do": "page_size", "number": areas })).map(drop)
    }

    /// Lets later change ids begin with another UUID, as after a reset of change tracking.
    pub fn restart_tracking(&self, uuid: &str) -> Result<()> {
        self.command(&json!({ "do": "restart_tracking", "name": uuid })).map(drop)
    }

    /// Ends every session.
    pub fn expire_sessions(&self) -> Result<()> {
        self.command(&json!({ "do": "expire" })).map(drop)
    }

    /// Is another vCenter from now on, with the same VMs, as a copy that was restored elsewhere; nobody is logged in to it.
    pub fn become_another(&self, uuid: &str) -> Result<()> {
        self.command(&json!({ "do": "become", "name": uuid })).map(drop)
    }

    /// Lets tasks that never end fail.
    pub fn end_tasks(&self) -> Result<()> {
        self.command(&json!({ "do": "end_tasks" })).map(drop)
    }

    /// How often each method was called.
    pub fn calls(&self) -> Result<BTreeMap<String, u64>> {
        Ok(serde_json::from_value(self.command(&json!({ "do": "calls" }))?)?)
    }

    /// How many calls are held at this moment.
    pub fn holds(&self) -> Result<u64> {
        Ok(serde_json::from_value(self.command(&json!({ "do": "holds" }))?)?)
    }

    /// Every snapshot that exists.
    pub fn snapshots(&self) -> Result<Vec<LiveSnapshot>> {
        Ok(serde_json::from_value(self.command(&json!({ "do": "snapshots" }))?)?)
    }

    /// Names of its VMs with their managed object ids.
    pub fn vms(&self) -> Result<BTreeMap<String, String>> {
        #[derive(Deserialize)]
        struct Named {
            name: String,
            id: String,
        }
        let all: Vec<Named> = serde_json::from_value(self.command(&json!({ "do": "vms" }))?)?;
        Ok(all.into_iter().map(|it| (it.name, it.id)).collect())
    }

    /// Takes a snapshot as somebody else would.
    pub fn snapshot(&self, vm: &str, name: &str) -> Result<()> {
        self.command(&json!({ "do": "snapshot", "vm": vm, "name": name })).map(drop)
    }

    /// Removes all snapshots of a VM, whoever made them.
    pub fn remove_snapshots(&self, vm: &str) -> Result<()> {
        self.command(&json!({ "do": "remove_snapshots", "vm": vm })).map(drop)
    }

    /// Moves a VM to a new folder of this name beside its own, and to another host where there is one.
    pub fn move_vm(&self, vm: &str, folder: &str) -> Result<()> {
        self.command(&json!({ "do": "move", "vm": vm, "name": folder })).map(drop)
    }

    /// Gives the host of a VM another build, as a patch does; an empty one is none that it tells.
    pub fn host_build(&self, vm: &str, build: &str) -> Result<()> {
        self.command(&json!({ "do": "host_build", "vm": vm, "name": build })).map(drop)
    }

    /// Gives the host of a VM another version, as the first part of its release; an empty one is none that it tells.
    pub fn host_version(&self, vm: &str, version: &str) -> Result<()> {
        self.command(&json!({ "do": "host_version", "vm": vm, "name": version })).map(drop)
    }

    /// Deletes a VM.
    pub fn destroy(&self, vm: &str) -> Result<()> {
        self.command(&json!({ "do": "destroy", "vm": vm })).map(drop)
    }

    /// Takes a VM out of the inventory and leaves its files, snapshots among them, where they are.
    pub fn unregister(&self, vm: &str) -> Result<()> {
        self.command(&json!({ "do": "unregister", "vm": vm })).map(drop)
    }

    /// Puts a VM back that was unregistered; it has another reference then, and its snapshots still.
    pub fn register(&self, vm: &str) -> Result<()> {
        self.command(&json!({ "do": "register", "vm": vm })).map(drop)
    }

    fn command(&self, command: &Value) -> Result<Value> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (input, output) = lines.as_mut().context("the peer was stopped")?;
        writeln!(input, "{command}").context("the peer takes no more commands")?;
        let mut line = String::new();
        output.read_line(&mut line)?;
        let mut answer: Value = serde_json::from_str(&line).context("the peer has ended")?;
        if let Some(error) = answer.get("error") {
            bail!("the peer refuses: {error}");
        }
        Ok(answer.get_mut("ok").map(Value::take).unwrap_or_default())
    }
}

impl Drop for VspherePeer {
    fn drop(&mut self) {
        // Its end is the end of its input; it removes its datastores then.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests;
