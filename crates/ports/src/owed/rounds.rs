//! Rounds: which clean-ups are asked for when, so that a source which does not answer holds up none but its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hub_domain::ids::VmaNodeId;
use hub_domain::owed::{OwedCleanup, pause_after};
use hub_domain::time::Timestamp;
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::asking::Ways;
use super::{OwedCleanups, OwedOptions, UNTOLD};
use crate::StoreError;
use crate::store::{readable, unless_unreadable};

/// How many clean-ups of a source are done with, and how many are still owed.
type Sums = (usize, usize);

/// What is remembered from round to round; a hub that is started anew asks for everything anew.
pub(super) struct Rounds {
    /// By source; one that is locked is being asked.
    groups: BTreeMap<String, Arc<Mutex<Group>>>,
    asking: JoinSet<Result<Sums, StoreError>>,
    places: Arc<Semaphore>,
}

/// The clean-ups of one source.
#[derive(Default)]
pub(super) struct Group {
    /// By copy, those that were answered in vain.
    paces: BTreeMap<String, Pace>,
    /// By copy, how often in a row nobody answered who was asked for it. It may be the one that nobody has an answer for,
    /// so the next round begins with others.
    unheard: BTreeMap<String, u32>,
    /// VMAs that did not answer, or did not reach the source, when they were asked last.
    silent: BTreeSet<VmaNodeId>,
}

/// How often a clean-up is asked for.
struct Pace {
    in_vain: u32,
    asked_at: Instant,
    basis: Basis,
}

/// What an answer hangs on as far as the catalogue knows; when it is another, so may be the answer.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Basis {
    /// When the copy was ordered last.
    pub(super) ordered_at: Timestamp,
    /// The VMAs that could be asked, and where.
    pub(super) vmas: Vec<(VmaNodeId, String)>,
    /// When the login was changed last.
    pub(super) login: Option<Timestamp>,
    /// When a discovery has found the VM to be another than before.
    pub(super) vm: Option<Timestamp>,
}

/// The VMAs of a group that do not answer.
pub(super) struct Silence {
    /// In an earlier round, and not asked in this one.
    before: BTreeSet<VmaNodeId>,
    /// In this round: nobody waits for them a second time.
    now: BTreeSet<VmaNodeId>,
}

impl Silence {
    /// Whether a VMA was found silent in this round.
    pub(super) fn has(&self, vma: VmaNodeId) -> bool {
        self.now.contains(&vma)
    }

    /// Whether a VMA was silent and nobody has asked since; one question a round finds out whether it is back.
    pub(super) fn is_in_doubt(&self, vma: VmaNodeId) -> bool {
        self.before.contains(&vma)
    }

    /// A VMA does not answer.
    pub(super) fn join(&mut self, vma: VmaNodeId) {
        self.before.remove(&vma);
        self.now.insert(vma);
    }

    /// A VMA answers.
    pub(super) fn leave(&mut self, vma: VmaNodeId) {
        self.before.remove(&vma);
    }
}

impl Rounds {
    pub(super) fn new(options: &OwedOptions) -> Self {
        let places = Arc::new(Semaphore::new(options.sources_at_once.max(1)));
        Self { groups: BTreeMap::new(), asking: JoinSet::new(), places }
    }

    /// Begins to ask about every source, except those that are still being asked about since an earlier round.
    pub(super) async fn begin(&mut self, cleanups: &OwedCleanups) -> Result<(), StoreError> {
        let all = cleanups.store.view().await?.owed_cleanups(cleanups.options.most).await?;
        let mut sources: BTreeMap<String, Vec<OwedCleanup>> = BTreeMap::new();
        for owed in readable(all) {
            sources.entry(owed.source.trim().to_ascii_lowercase()).or_default().push(owed);
        }
        // One that is still at work is kept, whatever is owed: what comes meanwhile has to wait for it.
        let is_at_work = |group: &Mutex<Group>| group.try_lock().is_err();
        self.groups.retain(|source, it| sources.contains_key(source) || is_at_work(it));
        for (source, all) in sources {
            let group = self.groups.entry(source).or_default().clone();
            let Ok(group) = group.try_lock_owned() else { continue };
            let (cleanups, places) = (cleanups.clone(), self.places.clone());
            let asking = async move {
                let _place = places.acquire_owned().await;
                cleanups.ask_group(group, all).await
            };
            self.asking.spawn(asking.in_current_span());
        }
        Ok(())
    }

    /// Waits until all are asked; dropping it leaves them at work. A source that failed keeps no other from being asked.
    pub(super) async fn ended(&mut self) -> Result<Sums, StoreError> {
        let (mut sums, mut failed) = ((0, 0), None);
        while let Some(ended) = self.asking.join_next().await {
            match ended {
                Ok(Ok((settled, owed))) => sums = (sums.0 + settled, sums.1 + owed),
                Ok(Err(error)) => failed = Some(error),
                Err(error) => {
                    tracing::error!(%error, "owed clean-ups were not asked for to the end")
                }
            }
        }
        failed.map_or(Ok(sums), Err)
    }
}

impl Group {
    fn is_due(&self, copy: &str, basis: &Basis, slack: Duration) -> bool {
        let Some(pace) = self.paces.get(copy).filter(|it| it.basis == *basis) else { return true };
        // Rounds do not come to the second.
        pace.asked_at.elapsed() + slack >= pause_after(pace.in_vain)
    }

    /// An answer was in vain.
    fn slow_down(&mut self, copy: &str, basis: Basis, asked_at: Instant) {
        let known = self.paces.get(copy).filter(|it| it.basis == basis);
        let in_vain = known.map_or(1, |it| it.in_vain.saturating_add(1));
        self.paces.insert(copy.to_owned(), Pace { in_vain, asked_at, basis });
    }

    /// Forgets what is not owed any more.
    fn keep(&mut self, copies: &BTreeSet<&str>) {
        self.paces.retain(|copy, _| copies.contains(copy.as_str()));
        self.unheard.retain(|copy, _| copies.contains(copy.as_str()));
    }

    /// A VMA is back: whatever hangs on it is asked for at once.
    fn hurry(&mut self, vma: VmaNodeId) {
        self.paces.retain(|_, it| it.basis.vmas.first().is_none_or(|(first, _)| *first != vma));
    }
}

impl OwedCleanups {
    async fn ask_group(
        &self,
        mut group: OwnedMutexGuard<Group>,
        mut all: Vec<OwedCleanup>,
    ) -> Result<Sums, StoreError> {
        group.keep(&all.iter().map(|it| it.copy.as_str()).collect());
        all.sort_by_key(|it| group.unheard.get(&it.copy).copied());
        let before = std::mem::take(&mut group.silent);
        let mut silence = Silence { before, now: BTreeSet::new() };
        let mut sums = (0, 0);
        let asked = async {
            for owed in &all {
                let asked = self.ask_in_turn(&mut group, &mut silence, &owed.copy).await;
                match unless_unreadable(asked, UNTOLD)?.unwrap_or(Some(false)) {
                    Some(true) => sums.0 += 1,
                    Some(false) => sums.1 += 1,
                    None => {}
                }
            }
            Ok(())
        };
        let asked: Result<(), StoreError> = asked.await;
        group.silent = silence.now.into_iter().chain(silence.before).collect();
        asked.map(|()| sums)
    }

    /// Asks for one clean-up if it is due: whether it is settled; nothing where its copy is at work.
    async fn ask_in_turn(
        &self,
        group: &mut Group,
        silence: &mut Silence,
        copy: &str,
    ) -> Result<Option<bool>, StoreError> {
        // Much may have happened since the round began.
        let Some(owed) = self.store.view().await?.owed_cleanup(copy).await? else {
            return Ok(None);
        };
        if self.is_at_work(owed.job).await? {
            return Ok(None);
        }
        let (ways, basis) = self.ways(&owed).await?;
        let (is_due, asked_at) =
            (group.is_due(copy, &basis, self.options.pause / 2), Instant::now());
        let first = ways.as_ref().ok().map(Ways::first);
        let (was_in_doubt, was_silent) =
            first.map_or((false, false), |it| (silence.is_in_doubt(it), silence.has(it)));
        let heard = self.ask_whoever_answers(&owed, ways, is_due, silence).await?;
        if let Some(first) = first.filter(|_| !was_silent) {
            if silence.has(first) {
                *group.unheard.entry(copy.to_owned()).or_default() += 1;
            } else if heard.is_answered {
                group.unheard.remove(copy);
                if was_in_doubt {
                    group.hurry(first);
                }
            }
        }
        if heard.is_answered {
            group.slow_down(copy, basis, asked_at);
        }
        let Some(asked) = heard.asked else { return Ok(Some(false)) };
        let is_settled = self.take_down(owed, asked).await?.is_none();
        if is_settled {
            group.paces.remove(copy);
        }
        Ok(Some(is_settled))
    }
}
