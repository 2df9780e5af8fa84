//! Sessions: opened without locking the account, and ended when nobody uses them any more.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hub_vma_api::Credentials;
use hub_vsphere::{Client, Login, VsphereError};
use parking_lot::Mutex;
use secrecy::ExposeSecret as _;

use super::Shared;
use super::fault::of_call;
use super::login_turns::{LoginTurn, LoginTurns};
use crate::source::SourceError;

/// For so long a password that was refused is not sent again.
///
/// An account is locked after five refusals, or after as few as three; jobs that are due at one hour would lock it.
const HOLD_OFF: Duration = Duration::from_secs(15 * 60);

/// The longest that a login waits for what another is told that others make for us.
const PATIENCE: Duration = Duration::from_secs(15);

/// Refusals that are remembered.
const MAX_KNOWN: usize = 1024;

/// Logins that the endpoint refused of late, and whose turn it is to try one; no password is kept.
#[derive(Default)]
pub(super) struct Logins {
    hasher: RandomState,
    known: Mutex<HashMap<u64, Refused>>,
    /// What was said to logins that others make for us, such as VDDK, where it was no: to all of a login, or for one VM.
    beside: Mutex<HashMap<(u64, Option<String>), Refused>>,
    /// So that the others hear what one is told.
    pub(super) turns: LoginTurns,
    /// The same for logins that others make for us.
    pub(super) turns_beside: LoginTurns,
}

struct Refused {
    at: Instant,
    detail: String,
}

impl Logins {
    fn key(&self, login: &Login) -> u64 {
        self.hasher.hash_one((&login.username, login.password.expose_secret()))
    }

    /// Refuses what the endpoint would refuse.
    fn check(&self, key: u64) -> Result<(), SourceError> {
        refused(&self.known, &key)
    }

    /// The same for a login that is made beside the sessions of this program for a VM; it may be refused while these live.
    pub(super) fn check_beside(&self, login: &Login, vm: &str) -> Result<(), SourceError> {
        let key = self.key(login);
        refused(&self.beside, &(key, None))?;
        refused(&self.beside, &(key, Some(vm.to_owned())))
    }

    /// A login beside the sessions of this program was refused: it is not made again for a while, neither for one VM nor,
    /// where the account itself was refused, for any.
    pub(super) fn is_refused_beside(&self, login: &Login, vm: Option<&str>, detail: String) {
        let (key, refused) = (self.key(login), Refused { at: Instant::now(), detail });
        remember(&self.beside, (key, vm.map(str::to_owned)), refused);
        self.turns_beside.is_doubted(key);
    }

    /// Waits until a login may be made beside the sessions of this program, or refuses it.
    ///
    /// Whoever waits hears the refusal of the one before it, which comes soon or never: a host that nobody reaches must
    /// not keep the disks of others waiting.
    pub(super) async fn turn_beside(
        &self,
        login: &Login,
        vm: &str,
    ) -> Result<Option<LoginTurn>, SourceError> {
        self.check_beside(login, vm)?;
        let turn = tokio::time::timeout(PATIENCE, self.turns_beside.turn(self.key(login))).await;
        self.check_beside(login, vm)?;
        Ok(turn.ok().flatten())
    }

    /// A login beside the sessions of this program was accepted.
    pub(super) fn is_accepted_beside(&self, login: &Login) {
        self.turns_beside.is_accepted(self.key(login));
    }
}

/// An error where the last word was no, and not long ago.
fn refused<K: Eq + Hash>(known: &Mutex<HashMap<K, Refused>>, key: &K) -> Result<(), SourceError> {
    let known = known.lock();
    let Some(Refused { at, detail }) = known.get(key) else { return Ok(()) };
    let left = HOLD_OFF.saturating_sub(at.elapsed()).as_secs();
    if left == 0 {
        return Ok(());
    }
    Err(SourceError::LoginRefused(format!(
        "{detail}; for another {left} s it is not asked again, so that the account is not locked: test the credentials to have it asked at once"
    )))
}

fn remember<K: Eq + Hash>(known: &Mutex<HashMap<K, Refused>>, key: K, said: Refused) {
    let mut known = known.lock();
    if known.len() >= MAX_KNOWN {
        known.retain(|_, it| it.at.elapsed() < HOLD_OFF);
    }
    if known.len() < MAX_KNOWN {
        known.insert(key, said);
    }
}

impl Shared {
    /// A session with the account of a request, or with the configured one.
    pub(super) async fn log_in(
        &self,
        given: Option<&Credentials>,
    ) -> Result<Arc<Client>, SourceError> {
        self.connect(given, false).await
    }

    /// The same for somebody who waits for the answer, and has it asked for whatever was said before.
    pub(super) async fn log_in_anew(
        &self,
        given: &Credentials,
    ) -> Result<Arc<Client>, SourceError> {
        self.connect(Some(given), true).await
    }

    async fn connect(
        &self,
        given: Option<&Credentials>,
        anew: bool,
    ) -> Result<Arc<Client>, SourceError> {
        let (options, logins) = (&self.options, &self.logins);
        let login = match given {
            Some(given) => {
                self.check_endpoint(&given.vcenter)?;
                Login { username: given.username.clone(), password: given.password.clone().into() }
            }
            None => options.login.clone().ok_or(SourceError::CredentialsMissing)?,
        };
        let key = logins.key(&login);
        let mut turn = logins.turns.turn(key).await;
        if !anew {
            logins.check(key)?;
        }
        if let Some(detail) = turn.as_ref().and_then(LoginTurn::missed) {
            return Err(SourceError::EndpointUnreachable(detail));
        }
        let (endpoint, client) = (options.endpoint.clone(), options.client);
        let connected = Client::connect(endpoint, &options.trust, login, client).await;
        match &connected {
            Ok(_) => {
                logins.known.lock().remove(&key);
                logins.turns.is_accepted(key);
                if anew {
                    logins.beside.lock().retain(|it, _| it.0 != key);
                }
            }
            Err(error @ VsphereError::LoginRefused { .. }) => {
                let refused = Refused { at: Instant::now(), detail: error.to_string() };
                remember(&logins.known, key, refused);
                logins.turns.is_doubted(key);
            }
            Err(error) if error.is_transient() => {
                if let Some(turn) = &mut turn {
                    turn.misses(error.to_string());
                }
            }
            Err(_) => {}
        }
        drop(turn);
        connected.map(Arc::new).map_err(|error| of_call(&error))
    }
}

/// Ends a session that nobody else uses: one that is left open counts against the limit of the server.
pub(super) async fn leave(client: Arc<Client>) {
    if let Some(client) = Arc::into_inner(client) {
        drop(client.log_out().await);
    }
}
