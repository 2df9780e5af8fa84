//! Lets something else happen in the middle of a unit of work, so that two units interleave by hand.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use hub_domain::time::Timestamp;
use hub_ports::{Clock, IdGen};
use uuid::Uuid;

use crate::Backup;

type Other = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Gives time and ids, and the first time that a unit wants either, lets something else run as far as it gets.
pub(crate) struct Meddler {
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGen>,
    other: Mutex<Option<Other>>,
    begun: Mutex<Option<Other>>,
}

impl Meddler {
    /// An engine in whose first unit of work `other` happens.
    pub(crate) fn engine(
        backup: &Backup,
        other: impl Future<Output = ()> + Send + 'static,
    ) -> (Backup, Arc<Self>) {
        let meddler = Arc::new(Self {
            clock: backup.clock.clone(),
            ids: backup.ids.clone(),
            other: Mutex::new(Some(Box::pin(other))),
            begun: Mutex::default(),
        });
        let engine = Backup { clock: meddler.clone(), ids: meddler.clone(), ..backup.clone() };
        (engine, meddler)
    }

    /// Lets the other thing end.
    pub(crate) async fn finish(&self) {
        let begun = self.begun.lock().ok().and_then(|mut begun| begun.take());
        if let Some(begun) = begun {
            begun.await;
        }
    }

    fn meddle(&self) {
        if let Some(mut other) = self.other.lock().ok().and_then(|mut other| other.take())
            && other.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
            && let Ok(mut begun) = self.begun.lock()
        {
            *begun = Some(other);
        }
    }
}

impl Clock for Meddler {
    fn now(&self) -> Timestamp {
        self.meddle();
        self.clock.now()
    }
}

impl IdGen for Meddler {
    fn new_id(&self) -> Uuid {
        self.meddle();
        self.ids.new_id()
    }
}
