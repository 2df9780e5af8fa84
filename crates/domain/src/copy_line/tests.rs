//! The line against a simulated hub: copies come, last a while, and limits change under them.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

/// No copy of the simulation lasts longer than so many ticks.
const LONGEST: u32 = 4;

fn vma(number: u8) -> VmaNodeId {
    VmaNodeId::from_uuid(Uuid::from_u128(number.into()))
}

fn repository(number: u8) -> RepositoryId {
    RepositoryId::from_uuid(Uuid::from_u128(number.into()))
}

fn needs(of_vma: u8, of_repository: u8) -> CopyNeeds {
    let (vma, repository) = (Some(vma(of_vma)), Some(repository(of_repository)));
    CopyNeeds { vma, repository, ..CopyNeeds::default() }
}

fn count(number: u32) -> CopyCount {
    CopyCount::new(number).unwrap()
}

fn limits(hub: u32, vmas: &[(u8, u32)], repositories: &[(u8, u32)]) -> CopyLimits {
    CopyLimits {
        hub: count(hub),
        vmas: vmas.iter().map(|(id, limit)| (vma(*id), count(*limit))).collect(),
        repositories: repositories.iter().map(|(id, it)| (repository(*id), count(*it))).collect(),
        sources: BTreeMap::new(),
        taken: BTreeMap::new(),
    }
}

fn waits(at: Limited, limit: u32, at_work: u32, kept: u32, place: u32) -> Turn {
    Turn::Waits(Wait { at, limit, at_work, kept, place })
}

#[test]
fn what_a_vma_takes_itself_counts_beside_what_is_set() {
    let at = Limited::Vma(vma(1));
    for (set, taken, limit) in [(None, 0, 0), (Some(9), 1, 1), (Some(1), 9, 1)] {
        let set: Vec<_> = set.into_iter().map(|limit| (1, limit)).collect();
        let mut limits = limits(3, &set, &[]);
        limits.taken.insert(vma(1), taken);
        let at_work = vec![needs(1, 1); usize::try_from(limit).unwrap()];
        let turns = turns(&at_work, &[needs(1, 1), needs(2, 1)], &limits);
        assert_eq!(turns, [waits(at, limit, limit, 0, 1), Turn::Now], "{limits:?}");
    }
}

#[test]
fn a_source_has_its_limit_whatever_vmas_read_it() {
    let source = CredentialId::from_uuid(Uuid::from_u128(5));
    let mut limits = limits(9, &[], &[]);
    limits.sources.insert(source, count(2));
    let of = |number| CopyNeeds { source: Some(source), ..needs(number, number) };
    let turns = turns(&[of(1), of(2)], &[of(3), needs(1, 1), of(4)], &limits);
    let at = Limited::Source(source);
    assert_eq!(turns, [waits(at, 2, 2, 0, 1), Turn::Now, waits(at, 2, 2, 0, 2)]);
}

#[test]
fn a_full_vma_does_not_hold_up_the_others() {
    let limits = limits(3, &[(1, 1)], &[]);
    let line = [needs(1, 1), needs(1, 1), needs(2, 1), needs(2, 1)];
    let at = Limited::Vma(vma(1));
    let turns = turns(&[needs(1, 1)], &line, &limits);
    assert_eq!(turns, [waits(at, 1, 1, 0, 1), waits(at, 1, 1, 0, 2), Turn::Now, Turn::Now]);
}

#[test]
fn whoever_waits_for_one_thing_keeps_its_place_at_the_other() {
    let limits = limits(9, &[(1, 1)], &[(1, 1)]);
    // The first has room at its VMA and none at its repository; the second would take that VMA.
    let turns = turns(&[needs(2, 1)], &[needs(1, 1), needs(1, 2)], &limits);
    let full = waits(Limited::Repository(repository(1)), 1, 1, 0, 1);
    assert_eq!(turns, [full, waits(Limited::Vma(vma(1)), 1, 0, 1, 1)]);
}

#[test]
fn a_lowered_limit_lets_those_at_work_finish() {
    let limits = limits(1, &[], &[]);
    let at_work = [needs(1, 1), needs(2, 2), needs(3, 3)];
    let expected = waits(Limited::Hub, 1, 3, 0, 1);
    assert_eq!(turns(&at_work, &[needs(1, 1)], &limits), [expected]);
    assert_eq!(turns(&[], &[needs(1, 1)], &limits), [Turn::Now]);
}

#[test]
fn a_copy_without_vma_and_repository_needs_the_hub_only() {
    let bare = CopyNeeds::default();
    let turns = turns(&[], &[bare, bare], &limits(1, &[], &[]));
    assert_eq!(turns, [Turn::Now, waits(Limited::Hub, 1, 0, 1, 1)]);
}

/// A copy of the simulation.
#[derive(Clone, Copy, Debug)]
struct Copy {
    needs: CopyNeeds,
    ticks: u32,
    /// The tick by which it must have begun, counted from when the limits changed last.
    due: u32,
}

/// The hub of the simulation.
#[derive(Default)]
struct Hub {
    at_work: Vec<Copy>,
    line: Vec<Copy>,
}

impl Hub {
    /// Whoever is at the head begins after at most one copy's time at each of three limits; by induction, so do all.
    fn due(now: u32, ahead: usize) -> u32 {
        now + (u32::try_from(ahead).unwrap() + 1) * 3 * LONGEST
    }

    fn arrive(&mut self, now: u32, needs: CopyNeeds, ticks: u32) {
        let due = Self::due(now, self.line.len());
        self.line.push(Copy { needs, ticks, due });
    }

    fn tick(&mut self, now: u32, limits: &CopyLimits) -> Result<(), TestCaseError> {
        for copy in &mut self.at_work {
            copy.ticks -= 1;
        }
        self.at_work.retain(|copy| copy.ticks > 0);
        let line: Vec<CopyNeeds> = self.line.iter().map(|copy| copy.needs).collect();
        let at_work: Vec<CopyNeeds> = self.at_work.iter().map(|copy| copy.needs).collect();
        let turns = turns(&at_work, &line, limits);
        in_order(&line, &turns)?;
        let mut left = Vec::new();
        for (copy, turn) in std::mem::take(&mut self.line).into_iter().zip(turns) {
            if turn == Turn::Now {
                self.at_work.push(copy);
                within(&self.at_work, copy.needs, limits)?;
            } else {
                prop_assert!(now <= copy.due, "{copy:?} still waits at {now}");
                left.push(copy);
            }
        }
        self.line = left;
        Ok(())
    }
}

/// What has just begun stays within every limit, however it was lowered before.
fn within(at_work: &[Copy], begun: CopyNeeds, limits: &CopyLimits) -> Result<(), TestCaseError> {
    for at in needed(begun) {
        let used = at_work.iter().filter(|copy| needed(copy.needs).any(|it| it == at)).count();
        if let Some(limit) = limit(limits, at) {
            prop_assert!(used <= usize::try_from(limit).unwrap(), "{used} at {at:?}");
        }
    }
    Ok(())
}

/// While somebody waits for a limit, nobody behind takes a place of it, and those who wait are counted.
fn in_order(line: &[CopyNeeds], turns: &[Turn]) -> Result<(), TestCaseError> {
    let mut waited: BTreeMap<Limited, u32> = BTreeMap::new();
    for (copy, turn) in line.iter().zip(turns) {
        match turn {
            Turn::Now => {
                let passed = needed(*copy).find(|at| waited.contains_key(at));
                prop_assert_eq!(passed, None, "{:?} passes somebody", copy);
            }
            Turn::Waits(wait) => {
                let place = waited.entry(wait.at).or_default();
                *place += 1;
                prop_assert_eq!(*place, wait.place);
                prop_assert!(wait.at_work + wait.kept >= wait.limit);
            }
        }
    }
    Ok(())
}

fn some_limits() -> impl Strategy<Value = CopyLimits> {
    let some = || prop::collection::vec((0_u8..3, 1_u32..3), 0..4);
    (1_u32..5, some(), some())
        .prop_map(|(hub, vmas, repositories)| limits(hub, &vmas, &repositories))
}

proptest! {
    /// Copies keep coming in every tick, so that whoever could be passed for ever is.
    #[test]
    fn no_limit_is_exceeded_and_everybody_is_served_in_bounded_time(
        limits in some_limits(),
        coming in prop::collection::vec(
            prop::collection::vec((0_u8..3, 0_u8..3, 1..=LONGEST), 0..3), 1..60)
    ) {
        let mut hub = Hub::default();
        let mut now = 0;
        for arrivals in coming {
            for (of_vma, of_repository, ticks) in arrivals {
                hub.arrive(now, needs(of_vma, of_repository), ticks);
            }
            hub.tick(now, &limits)?;
            now += 1;
        }
        while !hub.line.is_empty() {
            hub.tick(now, &limits)?;
            now += 1;
        }
    }

    #[test]
    fn limits_that_change_under_the_line_are_kept_by_whoever_begins(
        steps in prop::collection::vec((some_limits(), 0_u8..3, 0_u8..3, 1..=LONGEST), 1..40)
    ) {
        let mut hub = Hub::default();
        for (limits, of_vma, of_repository, ticks) in steps {
            hub.arrive(0, needs(of_vma, of_repository), ticks);
            hub.tick(0, &limits)?;
        }
        let last = limits(1, &[(0, 1), (1, 1)], &[(2, 1)]);
        let mut now = 0;
        for (ahead, copy) in hub.line.iter_mut().enumerate() {
            copy.due = Hub::due(now, ahead);
        }
        while !hub.line.is_empty() {
            hub.tick(now, &last)?;
            now += 1;
        }
    }
}
