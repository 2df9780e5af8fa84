//! The adapter: identity first, then the call, then the check of what came back.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hub_domain::access::{Credential, VmaNode};
use hub_domain::ids::VmaNodeId;
use hub_domain::inventory::SeenInventory;
use hub_domain::owed::CleanupOutcome;
use hub_domain::source::{CopyStatus, SourceAbout};
use hub_ports::{
    CleanupOrder, CopyKind, CopyOrder, InventoryQuery, NodeIdentity, SourceError, SourceNode,
};
use hub_vma_api::{
    CleanupReport, CleanupRequest, CopyReport, CredentialsTest, Identity, Introduced, Introduction,
    StrikeOffReport, StrikeOffRequest,
};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;

use crate::copy::{order_to_wire, status_from_wire};
use crate::inventory::{credentials_to_wire, inventory_from_wire, query_to_wire};
use crate::options::VmaClientOptions;
use crate::proof::{self, Challenge};
use crate::transport::{Call, ClientError, Transport, garbled, json, json_error, shortened};
use crate::upkeep::{about_from_wire, outcome_from_wire};

/// The version of the contract that this client speaks.
const API_VERSION: u32 = 1;

/// Reaches VMAs over HTTP.
///
/// One client serves any number of nodes and callers at once; dropping a call ends its connection.
pub struct VmaClient {
    options: VmaClientOptions,
    transport: Transport,
    /// PEM of the authority behind the hub's NBD certificate.
    certificate: Option<String>,
    /// Nodes that did not answer a moment ago: at which address, since when, and how.
    silent: Mutex<BTreeMap<VmaNodeId, Silence>>,
}

struct Silence {
    url: String,
    since: Instant,
    detail: String,
}

impl VmaClient {
    /// Makes a client; a TLS provider must be installed in the process.
    pub fn new(options: VmaClientOptions) -> Result<Self, ClientError> {
        let transport = Transport::new(options.connect)?;
        Ok(Self { options, transport, certificate: None, silent: Mutex::default() })
    }

    /// Makes the hub known to every VMA that it is introduced to by this certificate, in PEM: that of the authority
    /// behind its NBD port.
    #[must_use]
    pub fn introducing(mut self, certificate: String) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Asks a node who it is, and whether it is who it should be.
    async fn ask_identity(&self, node: &VmaNode) -> Result<Identity, SourceError> {
        let challenge = Challenge::new();
        let nonce = challenge.nonce();
        let call = Call {
            path: &["api", "v1", "identity"],
            query: &[("nonce", &nonce)],
            body: None,
            post: false,
            with_token: false,
            deadline: self.options.quick,
            limit: self.options.answer_limit,
        };
        let identity: Identity = parsed(node, &self.transport.call(node, call).await?)?;
        if !challenge.is_met(node.token.expose_secret(), &identity.proof) {
            return Err(SourceError::NotTheNode { url: node.url.clone() });
        }
        if identity.api_version != API_VERSION {
            let detail = format!(
                "it speaks version {} of the contract, this hub version {API_VERSION}",
                identity.api_version
            );
            return Err(garbled(node, detail));
        }
        Ok(identity)
    }

    /// Calls a node that has just proved itself, showing it the token.
    ///
    /// A proof is for one call: it costs a round trip on the connection that the call then uses, and a remembered one
    /// would show the token to whoever has taken over the address since.
    async fn call(&self, node: &VmaNode, call: Call<'_>) -> Result<Vec<u8>, SourceError> {
        self.identify(node).await?;
        self.transport.call(node, call).await
    }

    /// How a node failed to answer, if that was a moment ago and at the address that it has still.
    fn silence(&self, node: &VmaNode) -> Option<SourceError> {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let it = silent.get(&node.id)?;
        let holds = it.url == node.url && it.since.elapsed() < self.options.silence;
        let detail = it.detail.clone();
        holds.then(|| SourceError::Unreachable { url: node.url.clone(), detail })
    }

    fn note_silence(&self, node: &VmaNode, error: Option<&SourceError>) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(SourceError::Unreachable { detail, .. }) = error {
            let (url, detail) = (node.url.clone(), detail.clone());
            silent.insert(node.id, Silence { url, since: Instant::now(), detail });
        } else {
            silent.remove(&node.id);
        }
    }

    fn quick<'a>(&self, path: &'a [&'a str], post: bool) -> Call<'a> {
        self.request(path, post, None, self.options.quick, self.options.report_limit)
    }

    fn request<'a>(
        &self,
        path: &'a [&'a str],
        post: bool,
        body: Option<Vec<u8>>,
        deadline: Duration,
        limit: usize,
    ) -> Call<'a> {
        Call { path, query: &[], body, post, with_token: true, deadline, limit }
    }
}

#[async_trait]
impl SourceNode for VmaClient {
    async fn identify(&self, node: &VmaNode) -> Result<NodeIdentity, SourceError> {
        self.ask_identity(node).await.map(known)
    }

    /// One that was silent a moment ago is not asked: many copies begin at one hour, and each would wait for it.
    async fn answers(&self, node: &VmaNode) -> Result<(), SourceError> {
        if let Some(silence) = self.silence(node) {
            return Err(silence);
        }
        let asked = self.ask_identity(node).await;
        self.note_silence(node, asked.as_ref().err());
        asked.map(drop)
    }

    /// The token is not shown for it: a proof goes with the certificate, so that whoever reads or changes what travels
    /// can neither learn the token from it nor put another hub in the place of this one.
    async fn introduce(&self, node: &VmaNode) -> Result<NodeIdentity, SourceError> {
        let identity = self.ask_identity(node).await?;
        let Some(certificate) = &self.certificate else { return Ok(known(identity)) };
        let mut challenge = [0; 32];
        let given = identity.challenge.as_deref().unwrap_or_default();
        hex::decode_to_slice(given, &mut challenge).map_err(|_| {
            garbled(node, "it gives no challenge for the hub's certificate; upgrade the VMA")
        })?;
        let proof = proof::of_certificate(node.token.expose_secret(), &challenge, certificate);
        let body = json(node, &Introduction { certificate: certificate.clone(), proof })?;
        let call = Call {
            path: &["api", "v1", "introduction"],
            query: &[],
            body: Some(body),
            post: true,
            with_token: false,
            deadline: self.options.quick,
            limit: self.options.answer_limit,
        };
        let answer = self.transport.call(node, call).await?;
        let kept: Introduced = parsed(node, &answer)?;
        let source_host = kept.source_host.as_deref().map(shortened);
        let source_host = source_host.filter(|it| !it.trim().is_empty());
        Ok(NodeIdentity { source_host, ..known(identity) })
    }

    async fn inventory(
        &self,
        node: &VmaNode,
        query: &InventoryQuery,
    ) -> Result<SeenInventory, SourceError> {
        let body = json(node, &query_to_wire(query))?;
        let call = self.request(
            &["api", "v1", "discover"],
            true,
            Some(body),
            self.options.discovery,
            self.options.inventory_limit,
        );
        let answer = self.call(node, call).await?;
        // A large inventory takes long enough to parse that other work of this thread would notice.
        let parsed = tokio::task::spawn_blocking(move || inventory_from_wire(&answer)).await;
        match parsed {
            Ok(Ok(inventory)) => Ok(inventory),
            Ok(Err(detail)) => Err(garbled(node, detail)),
            Err(_) => Err(garbled(node, "the reading of its inventory was broken off")),
        }
    }

    async fn start_copy(
        &self,
        node: &VmaNode,
        order: &CopyOrder,
    ) -> Result<CopyStatus, SourceError> {
        let path: &[&str] = match order.kind {
            CopyKind::Backup => &["api", "v1", "backup", "start"],
            CopyKind::Replication => &["api", "v1", "replicate"],
        };
        let body = json(node, &order_to_wire(order))?;
        let (deadline, limit) = (self.options.start, self.options.report_limit);
        let answer = self.call(node, self.request(path, true, Some(body), deadline, limit)).await?;
        report(node, &order.job, &answer)
    }

    async fn copy_status(&self, node: &VmaNode, job: &str) -> Result<CopyStatus, SourceError> {
        let path = ["api", "v1", "progress", job];
        let answer =
            self.call(node, self.quick(&path, false)).await.map_err(|it| unknown(it, job))?;
        report(node, job, &answer)
    }

    async fn await_copy(
        &self,
        node: &VmaNode,
        job: &str,
        ended: usize,
        patience: Duration,
    ) -> Result<CopyStatus, SourceError> {
        let (ended, wait) = (ended.to_string(), patience.as_millis().to_string());
        let path = ["api", "v1", "progress", job];
        let mut call = self.quick(&path, false);
        let query = [("ended", ended.as_str()), ("wait_ms", wait.as_str())];
        call.query = &query;
        call.deadline += patience;
        let answer = self.call(node, call).await.map_err(|it| unknown(it, job))?;
        report(node, job, &answer)
    }

    async fn cancel_copy(&self, node: &VmaNode, job: &str) -> Result<(), SourceError> {
        let path = ["api", "v1", "jobs", job, "cancel"];
        self.call(node, self.quick(&path, true)).await.map_err(|it| unknown(it, job))?;
        Ok(())
    }

    async fn test_credential(
        &self,
        node: &VmaNode,
        credential: &Credential,
    ) -> Result<Option<SourceAbout>, SourceError> {
        let body = json(node, &credentials_to_wire(credential))?;
        let (deadline, limit) = (self.options.start, self.options.answer_limit);
        let path = ["api", "v1", "credentials", "test"];
        let call = self.request(&path, true, Some(body), deadline, limit);
        let tested: CredentialsTest = parsed(node, &self.call(node, call).await?)?;
        match (tested.wanted, tested.about) {
            (false, _) => Ok(None),
            (true, Some(about)) => Ok(Some(about_from_wire(&about))),
            (true, None) => Err(garbled(node, "it does not say who let it log in")),
        }
    }

    async fn clean_up(
        &self,
        node: &VmaNode,
        order: &CleanupOrder,
    ) -> Result<CleanupOutcome, SourceError> {
        let request = CleanupRequest {
            job_id: order.copy.clone(),
            vm_id: order.vm.clone(),
            source: Some(order.source.clone()),
            credentials: order.credential.as_ref().map(credentials_to_wire),
        };
        let body = json(node, &request)?;
        let (deadline, limit) = (self.options.cleanup, self.options.answer_limit);
        let path = ["api", "v1", "snapshots", "cleanup"];
        let call = self.request(&path, true, Some(body), deadline, limit);
        let report: CleanupReport = parsed(node, &self.call(node, call).await?)?;
        Ok(outcome_from_wire(report))
    }

    async fn strike_off(&self, node: &VmaNode, copy: &str) -> Result<bool, SourceError> {
        let body = json(node, &StrikeOffRequest { job_id: copy.to_owned() })?;
        let (deadline, limit) = (self.options.quick, self.options.answer_limit);
        let path = ["api", "v1", "snapshots", "strike-off"];
        let call = self.request(&path, true, Some(body), deadline, limit);
        let report: StrikeOffReport = parsed(node, &self.call(node, call).await?)?;
        Ok(report.struck_off)
    }
}

/// What engines are told of a node.
fn known(identity: Identity) -> NodeIdentity {
    NodeIdentity {
        name: shortened(&identity.name),
        version: shortened(&identity.version),
        source_kind: shortened(&identity.source_kind),
        source_host: None,
    }
}

/// A node that forgot a job says so with one code; engines must tell that from all other refusals (trap D38).
fn unknown(error: SourceError, job: &str) -> SourceError {
    if matches!(&error, SourceError::Refused(fault) if fault.code == "copy/job-not-found") {
        return SourceError::UnknownJob { job: job.to_owned() };
    }
    error
}

fn report(node: &VmaNode, job: &str, answer: &[u8]) -> Result<CopyStatus, SourceError> {
    let report: CopyReport = parsed(node, answer)?;
    if report.job_id != job {
        return Err(garbled(node, "it reports about another job than the one asked for"));
    }
    status_from_wire(report).map_err(|detail| garbled(node, detail))
}

fn parsed<T: DeserializeOwned>(node: &VmaNode, answer: &[u8]) -> Result<T, SourceError> {
    serde_json::from_slice(answer).map_err(|error| garbled(node, json_error(&error)))
}

#[cfg(test)]
mod tests;
