//! The registry of exports: a name is a capability that lives as long as its handle.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::fmt;
use std::sync::Arc;

use hub_block::BlockDevice;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The longest name of an export here; the protocol would allow 4096 bytes.
const MAX_NAME: usize = 256;
/// The longest description; it is told to clients that ask.
const MAX_DESCRIPTION: usize = 1024;

/// The exports of a server, shared by everyone who adds one; clones are the same registry.
#[derive(Clone, Default)]
pub struct Exports {
    by_name: Arc<Mutex<HashMap<String, Arc<Entry>>>>,
}

/// A device on offer.
pub struct Export {
    /// What clients read and write; read-only when the device is.
    pub device: Arc<dyn BlockDevice>,
    /// Text for people, told to clients that know the name.
    pub description: String,
    /// Connections at once; a further one is refused with a clear answer.
    pub max_connections: usize,
}

/// Why an export was not added.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddExportError {
    /// The name is in use.
    #[error("an export of this name exists")]
    Duplicate,
    /// The name is empty or too long.
    #[error("the name of an export has 1 to {MAX_NAME} bytes, not {0}")]
    NameLength(usize),
    /// The description is too long.
    #[error("the description of an export has at most {MAX_DESCRIPTION} bytes, not {0}")]
    DescriptionLength(usize),
    /// No connection would be allowed.
    #[error("an export allows at least one connection")]
    NoConnections,
}

/// One export as sessions see it.
pub(super) struct Entry {
    pub(super) export: Export,
    gate: Arc<Gate>,
}

/// Counts sessions and tells them to end; outlives the device, so that closing can wait for the device to be let go.
struct Gate {
    sessions: watch::Sender<usize>,
    closing: CancellationToken,
}

impl Exports {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Offers a device under a name until the handle is closed or dropped.
    pub fn add(&self, name: String, export: Export) -> Result<ExportHandle, AddExportError> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(AddExportError::NameLength(name.len()));
        }
        if export.description.len() > MAX_DESCRIPTION {
            return Err(AddExportError::DescriptionLength(export.description.len()));
        }
        if export.max_connections == 0 {
            return Err(AddExportError::NoConnections);
        }
        let sessions = watch::Sender::new(0);
        let gate = Arc::new(Gate { sessions, closing: CancellationToken::new() });
        match self.by_name.lock().entry(name.clone()) {
            MapEntry::Occupied(_) => return Err(AddExportError::Duplicate),
            MapEntry::Vacant(place) => {
                place.insert(Arc::new(Entry { export, gate: gate.clone() }));
            }
        }
        Ok(ExportHandle { name, exports: self.clone(), gate })
    }

    /// How many exports there are.
    pub fn len(&self) -> usize {
        self.by_name.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<Entry>> {
        self.by_name.lock().get(name).cloned()
    }
}

impl fmt::Debug for Exports {
    /// Tells how many there are; the names are capabilities.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Exports").field("len", &self.len()).finish()
    }
}

/// Keeps an export on offer; dropping it withdraws the export and tells its sessions to end.
pub struct ExportHandle {
    name: String,
    exports: Exports,
    gate: Arc<Gate>,
}

impl ExportHandle {
    /// The name under which clients find the export.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many connections use the export now.
    pub fn sessions(&self) -> usize {
        *self.gate.sessions.borrow()
    }

    /// Withdraws the export, lets its requests in flight finish, and returns when no session is left.
    ///
    /// The time is bounded by the server's drain and transfer timeouts.
    /// When it returns, the server no longer holds the device.
    pub async fn close(self) {
        self.withdraw();
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.gate.sessions.subscribe().wait_for(|count| *count == 0).await;
    }

    fn withdraw(&self) {
        self.gate.closing.cancel();
        let mut by_name = self.exports.by_name.lock();
        let ours = |entry: &Arc<Entry>| Arc::ptr_eq(&entry.gate, &self.gate);
        if by_name.get(&self.name).is_some_and(ours) {
            by_name.remove(&self.name);
        }
    }
}

impl Drop for ExportHandle {
    fn drop(&mut self) {
        self.withdraw();
    }
}

impl fmt::Debug for ExportHandle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ExportHandle").field("sessions", &self.sessions()).finish()
    }
}

/// Why a session cannot have an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoSlot {
    /// It was withdrawn in the meantime.
    Gone,
    /// All its connections are in use.
    Full(usize),
}

/// One of an export's connections; dropping it lets go of the device first and frees the place then.
pub(super) struct Slot {
    entry: Option<Arc<Entry>>,
    gate: Arc<Gate>,
}

impl Slot {
    /// Takes a place at an export, if there is one.
    pub(super) fn take(entry: Arc<Entry>) -> Result<Self, NoSlot> {
        let max = entry.export.max_connections;
        let taken = entry.gate.sessions.send_if_modified(|count| {
            let free = *count < max;
            *count += usize::from(free);
            free
        });
        if !taken {
            return Err(NoSlot::Full(max));
        }
        let slot = Self { gate: entry.gate.clone(), entry: Some(entry) };
        if slot.gate.closing.is_cancelled() { Err(NoSlot::Gone) } else { Ok(slot) }
    }

    /// The device behind the export.
    pub(super) fn device(&self) -> Option<Arc<dyn BlockDevice>> {
        self.entry.as_ref().map(|entry| entry.export.device.clone())
    }

    /// Returns when the export is withdrawn.
    pub(super) async fn closing(&self) {
        self.gate.closing.cancelled().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.entry.take());
        self.gate.sessions.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use hub_block::MemoryDevice;

    use super::*;

    fn export(max_connections: usize) -> Export {
        let device = Arc::new(MemoryDevice::new(vec![0; 512]));
        Export { device, description: String::new(), max_connections }
    }

    #[test]
    fn names_are_unique_and_bounded() {
        let exports = Exports::new();
        let handle = exports.add("a".to_owned(), export(1)).unwrap();
        let refused = |name: String, max| exports.add(name, export(max)).map(drop).unwrap_err();
        assert_eq!(refused("a".to_owned(), 1), AddExportError::Duplicate);
        assert_eq!(refused(String::new(), 1), AddExportError::NameLength(0));
        assert_eq!(refused("x".repeat(257), 1), AddExportError::NameLength(257));
        assert_eq!(refused("b".to_owned(), 0), AddExportError::NoConnections);
        assert_eq!(exports.len(), 1);
        drop(handle);
        assert!(exports.is_empty());
    }

    #[test]
    fn an_old_handle_does_not_remove_a_new_export() {
        let exports = Exports::new();
        let old = exports.add("a".to_owned(), export(1)).unwrap();
        old.withdraw();
        let new = exports.add("a".to_owned(), export(1)).unwrap();
        drop(old);
        assert!(exports.find(new.name()).is_some());
    }

    #[tokio::test]
    async fn closing_waits_until_the_device_is_let_go() {
        let exports = Exports::new();
        let device = Arc::new(MemoryDevice::new(vec![0; 512]));
        let offer = Export { device: device.clone(), ..export(1) };
        let handle = exports.add("a".to_owned(), offer).unwrap();
        let entry = exports.find("a").unwrap();
        let slot = Slot::take(entry.clone()).ok().unwrap();
        assert_eq!(Slot::take(entry.clone()).err(), Some(NoSlot::Full(1)));
        assert_eq!(handle.sessions(), 1);

        let session = async {
            slot.closing().await;
            drop(slot);
            assert_eq!(Slot::take(entry).err(), Some(NoSlot::Gone));
        };
        tokio::join!(handle.close(), session);
        assert_eq!(Arc::strong_count(&device), 1);
    }

    #[test]
    fn debug_output_holds_no_name() {
        let exports = Exports::new();
        let handle = exports.add("capability".to_owned(), export(1)).unwrap();
        assert!(!format!("{exports:?} {handle:?}").contains("capability"));
    }
}
