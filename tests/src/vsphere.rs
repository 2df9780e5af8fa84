//! A vCenter that a test made, a VMA that reads it, and a hub on one database.

mod account;
mod guest;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hub_testkit::database::{DatabaseKind, TestDatabase};
use hub_vsphere_peer::{AreaPage, PeerOptions, VspherePeer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

pub use account::{Account, settings, store};
pub use guest::{Guest, judge};

use crate::api::{Api, Fields as _};
use crate::processes::{Hub, HubOptions, Lifetime, Program, Vma, VmaOptions};
use crate::tool;

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long a condition may take to come true; generous, because test machines are busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long the hub may take to settle a record: more than two of its rounds.
const SETTLING: Duration = Duration::from_secs(180);

/// The real parts together; dropping it ends the processes and removes everything.
#[derive(Debug)]
pub struct VsphereLab {
    /// A client of the hub with its first token.
    pub api: Api,
    /// The VMA, not yet registered.
    pub vma: Vma,
    /// The hub.
    pub hub: Hub,
    /// The vCenter.
    pub peer: VspherePeer,
    /// The hub's catalogue.
    pub database: TestDatabase,
    folder: TempDir,
}

impl VsphereLab {
    /// Starts all parts; nothing, said loudly, where tools or the database are missing and not required.
    pub async fn start(
        kind: DatabaseKind,
        account: Account,
        vcenter: PeerOptions,
    ) -> Result<Option<Self>> {
        if !tool::present(&tool::DISK_TOOLS)? {
            return Ok(None);
        }
        let Some(database) = TestDatabase::create(kind).await? else { return Ok(None) };
        let Some(peer) = VspherePeer::start(vcenter)? else { return Ok(None) };
        let folder = tempfile::Builder::new().prefix("hub-vsphere-lab-").tempdir()?;
        let logs = folder.path().join("logs");
        let vma = Vma::start(VmaOptions {
            name: "lab".to_owned(),
            state_dir: folder.path().join("vma"),
            datastores: Vec::new(),
            logs: logs.clone(),
            environment: settings(&peer, account, folder.path())?,
            lifetime: Lifetime::Owned,
        });
        let vma = vma.await?;
        let hub = Hub::start(HubOptions {
            data_dir: folder.path().join("hub"),
            database_url: Some(database.url.clone()),
            logs,
            environment: Vec::new(),
            lifetime: Lifetime::Owned,
        });
        let hub = hub.await?;
        let api = hub.api()?;
        Ok(Some(Self { api, vma, hub, peer, database, folder }))
    }

    /// Plays one part in a lab with a vCenter.
    pub async fn play(
        kind: DatabaseKind,
        account: Account,
        part: impl AsyncFnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        Self::play_at(PeerOptions::default(), kind, account, part).await
    }

    /// Starts a lab, plays one part in it, and shows what the processes had to say when it fails.
    ///
    /// Whatever the part was, no snapshot may be left in the end, as the second client sees it, too, and the password
    /// of the account is in no log.
    pub async fn play_at(
        vcenter: PeerOptions,
        kind: DatabaseKind,
        account: Account,
        part: impl AsyncFnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        // Boxed, because the compiler gives up on futures that lie too deep in each other.
        let started = Box::pin(Self::start(kind, account, vcenter)).await?;
        let Some(mut lab) = started else { return Ok(()) };
        let mut outcome = part(&mut lab).await;
        if outcome.is_ok() {
            outcome = lab.nothing_is_left().await;
        }
        // Whatever became of it: an error is where a password is told by mistake.
        lab.no_password_is_logged()?;
        outcome.with_context(|| format!("{}\n{}", lab.vma.program.tail(), lab.hub.program.tail()))
    }

    /// Registers the VMA and a credential of the vCenter, and answers the credential's id.
    pub async fn register(&self) -> Result<String> {
        let body = json!({"name": "lab", "url": self.vma.url, "token": self.vma.token});
        let node = self.api.post("/vma-nodes", &body).await?.ok()?;
        ensure!(node.text("/source_kind")? == "vsphere", "{node:#}");
        let credential = store(&self.api, &self.peer).await?;
        Ok(credential)
    }

    /// Makes one of the vCenter's VMs a guest of this name with such disks, and puts it under management.
    pub async fn manage(&self, name: &str, disks: &[u64]) -> Result<(Guest, Value)> {
        let guest = Guest::make(&self.peer, name, disks)?;
        let credential = self.register().await?;
        let context = self.add(&credential, name).await?;
        Ok((guest, context))
    }

    /// Puts a VM under management and answers its context.
    pub async fn add(&self, credential: &str, name: &str) -> Result<Value> {
        let body = json!({"vm_names": [name], "credential_id": credential});
        let answer = self.api.post("/discovery/add-vms", &body).await?.ok()?;
        ensure!(answer.flag("/results/0/success")?, "not added: {answer:#}");
        let id = answer.text("/results/0/context_id")?;
        self.api.get(&format!("/vm-contexts/{id}")).await?.ok()
    }

    /// The one repository that a new hub has.
    pub async fn repository(&self) -> Result<Value> {
        let all = self.api.all("/repositories").await?;
        all.into_iter().next().context("a new hub has a repository")
    }

    /// Starts a backup of all disks and answers its path, without waiting for it.
    pub async fn start_backup(&self, context: &Value, kind: &str) -> Result<String> {
        self.api.start("/backups", &self.request(context, kind).await?).await
    }

    /// The request for a backup of all disks.
    async fn request(&self, context: &Value, kind: &str) -> Result<Value> {
        Ok(json!({
            "vm_context_id": context.text("/context_id")?,
            "backup_type": kind,
            "repository_id": self.repository().await?.text("/id")?,
        }))
    }

    /// An incremental of one disk that audits all of it within so many runs; answers the one backup, which must succeed.
    pub async fn audit(&self, context: &Value, disk: usize, runs: u32) -> Result<Value> {
        let mut body = self.request(context, "incremental").await?;
        body["disk_id"] = disk.into();
        body["audit_runs"] = runs.into();
        let run = self.api.run("/backups", &body).await?;
        let mut backups = run.list("/backups")?;
        ensure!(backups.len() == 1, "one disk, one backup: {run:#}");
        backups.pop().context("one backup")
    }

    /// Lets the vCenter say from now on that nothing has changed on a disk.
    pub fn deny_changes(&self, guest: &Guest, disk: usize) -> Result<()> {
        let path = guest.disks().get(disk).context("there is no such disk")?;
        let length = i64::try_from(path.metadata()?.len())?;
        let nothing = AreaPage { length, ..AreaPage::default() };
        self.peer.areas(guest.name(), Guest::key(disk)?, &[nothing])
    }

    /// Backs all disks up, which must succeed, and has each image judged by tools that are not ours.
    pub async fn back_up(&self, guest: &Guest, context: &Value, kind: &str) -> Result<Vec<Value>> {
        let path = self.start_backup(context, kind).await?;
        let run = self.api.ended(&path, |_| ()).await?;
        ensure!(run.text("/status")? == "succeeded", "the {kind} backup ended badly: {run:#}");
        let backups = run.list("/backups")?;
        ensure!(backups.len() == guest.disks().len(), "one backup per disk: {run:#}");
        let root = self.repository().await?.text("/path")?;
        for (backup, file) in backups.iter().zip(guest.disks()) {
            judge(Path::new(&root), backup, file)?;
        }
        Ok(backups)
    }

    /// How often a method was called; `folder` stands for reads of datastore files.
    pub fn calls(&self, method: &str) -> Result<u64> {
        Ok(self.peer.calls()?.get(method).copied().unwrap_or(0))
    }

    /// Waits until a method was called more often than `before`.
    pub async fn is_called(&self, method: &str, before: u64) -> Result<()> {
        until(&format!("{method} is called"), || Ok(self.calls(method)? > before)).await
    }

    /// Waits until no snapshot of ours is left and none is owed, and asks the second client, too.
    pub async fn nothing_is_left(&self) -> Result<()> {
        let left = || -> Result<usize> { Ok(self.peer.snapshots()?.len() + self.owed()?) };
        let gone = until("no snapshot is left and none is owed", || Ok(left()? == 0)).await;
        gone.with_context(|| format!("{:?}, {:?} owed", self.peer.snapshots(), self.owed()))?;
        if let Some(seen) = self.peer.seen_by_pyvmomi()? {
            for vm in seen.as_array().context("a list of VMs")? {
                ensure!(vm.list("/snapshots")?.is_empty(), "pyvmomi sees a snapshot: {vm:#}");
            }
        }
        Ok(())
    }

    /// Where hub and VMA keep what is theirs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Snapshots that the VMA has written down and not struck off.
    pub fn owed(&self) -> Result<usize> {
        let all = std::fs::read_dir(self.folder.path().join("vma/owed-snapshots"))?;
        let names = all.map(|it| Ok(it?.file_name())).collect::<Result<Vec<_>>>()?;
        Ok(names.iter().filter(|it| it.to_string_lossy().ends_with(".json")).count())
    }

    /// Snapshots that the hub has on record.
    pub async fn hub_record(&self) -> Result<Vec<Value>> {
        self.api.get("/owed-cleanups").await?.ok()?.list("/items")
    }

    /// Waits until this is what the hub has on record; answers that.
    pub async fn hub_owes(&self, what: &str, is: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
        let deadline = Instant::now() + SETTLING;
        loop {
            let all = self.hub_record().await?;
            if is(&all) {
                return Ok(all);
            }
            ensure!(Instant::now() < deadline, "{what} is not what is owed: {all:#?}");
            sleep(LOOK_EVERY).await;
        }
    }

    /// Fails when a log holds the password of the vCenter's account, as it is or as XML, JSON or a URL spell it.
    fn no_password_is_logged(&self) -> Result<()> {
        let password = self.peer.password();
        let as_xml = password.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let spellings = [
            password.to_owned(),
            password.escape_debug().to_string(),
            serde_json::to_string(password)?.trim_matches('"').to_owned(),
            as_xml.replace('"', "&quot;").replace('\'', "&apos;"),
            as_xml,
            percent_encoded(password),
        ];
        for program in [&self.hub.program, &self.vma.program] {
            let log = program.log()?;
            ensure!(!log.is_empty(), "a log that cannot be looked at proves nothing");
            // The line itself is not shown: that would be one more log.
            let told = spellings.iter().any(|it| log.contains(it));
            ensure!(!told, "the password of the vCenter's account is in a log");
        }
        Ok(())
    }

    /// Fails when a process logged a warning or an error that holds none of the expected texts.
    pub fn logged_only(&self, expected: &[&str]) -> Result<()> {
        for program in [&self.hub.program, &self.vma.program] {
            let lines = loud(program, expected)?;
            ensure!(lines.is_empty(), "logged though nobody expects it:\n{}", lines.join("\n"));
        }
        Ok(())
    }
}

fn percent_encoded(text: &str) -> String {
    let spelled = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(spelled).collect()
}

fn loud(program: &Program, expected: &[&str]) -> Result<Vec<String>> {
    let mut lines = program.loud()?;
    lines.retain(|line| !expected.iter().any(|it| line.contains(it)));
    Ok(lines)
}

/// Waits for a condition; an error says which one did not come true.
pub async fn until(what: &str, mut is_true: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_true()? {
        ensure!(Instant::now() < deadline, "it did not come true that {what}");
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}
