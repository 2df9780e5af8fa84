//! Answers that are odd and right, and answers that are wrong.

use proptest::prelude::*;

use super::*;

const DISK: u64 = 10_000;

fn page(start: i64, length: i64, areas: &[(i64, i64)]) -> AreaPage {
    AreaPage { start, length, areas: areas.to_vec() }
}

fn plan(pages: &[AreaPage]) -> Result<Vec<Range<u64>>, BadAreas> {
    let mut planner = AreaPlanner::new(DISK);
    for page in pages {
        planner.take(page)?;
    }
    planner.finish()
}

#[test]
fn trap_u4_pages_are_asked_for_up_to_the_end_and_joined() {
    let pages = [
        page(0, 4000, &[(100, 50), (3000, 1000)]),
        page(4000, 1000, &[(4000, 10)]),
        page(5000, 5000, &[(9999, 1)]),
    ];
    assert_eq!(plan(&pages), Ok(vec![100..150, 3000..4010, 9999..10_000]));
    assert_eq!(plan(&[page(0, 10_000, &[])]), Ok(vec![]));
}

#[test]
fn areas_in_any_order_that_overlap_are_merged() {
    let areas = [(500, 100), (0, 10), (550, 100), (5, 20), (500, 1)];
    assert_eq!(plan(&[page(0, 10_000, &areas)]), Ok(vec![0..25, 500..650]));
}

#[test]
fn trap_u6_answers_that_lead_nowhere_or_elsewhere_are_refused() {
    assert_eq!(plan(&[page(0, 0, &[])]), Err(BadAreas::NoProgress(0)));
    assert_eq!(plan(&[page(0, -5, &[])]), Err(BadAreas::NoProgress(-5)));
    assert_eq!(plan(&[page(1, 5, &[])]), Err(BadAreas::WrongStart { asked: 0, found: 1 }));
    assert_eq!(plan(&[page(-1, 5, &[])]), Err(BadAreas::WrongStart { asked: 0, found: -1 }));
    assert_eq!(plan(&[page(0, 10_001, &[])]), Err(BadAreas::BeyondEnd));
    assert_eq!(plan(&[page(0, i64::MAX, &[])]), Err(BadAreas::BeyondEnd));
    assert_eq!(plan(&[page(0, 9999, &[])]), Err(BadAreas::Incomplete));
    assert_eq!(plan(&[]), Err(BadAreas::Incomplete));
}

#[test]
fn areas_outside_of_their_answer_are_refused() {
    for (start, length) in
        [(10, 0), (10, -1), (-1, 5), (4000, 1), (3999, 2), (i64::MAX, 1), (1, i64::MAX)]
    {
        let outcome = plan(&[page(0, 4000, &[(start, length)]), page(4000, 6000, &[])]);
        assert_eq!(outcome, Err(BadAreas::Outside { start, length }));
    }
    let earlier = [page(0, 4000, &[]), page(4000, 6000, &[(3999, 10)])];
    assert_eq!(plan(&earlier), Err(BadAreas::Outside { start: 3999, length: 10 }));
}

/// Trap U6: answers that lead on by a sector each are within every deadline and without an end.
#[test]
fn trap_u6_a_disk_takes_no_more_answers_and_areas_than_its_size_allows() {
    let crawl = |capacity: u64, step: i64| {
        let mut planner = AreaPlanner::new(capacity);
        let mut asked = 0;
        while let Some(start) = planner.next_start() {
            asked += 1;
            if let Err(bad) = planner.take(&page(i64::try_from(start).unwrap(), step, &[])) {
                return (asked, Some(bad));
            }
        }
        (asked, None)
    };
    assert_eq!(crawl(1 << 20, 512), (64, Some(BadAreas::TooManyPages(64))));
    assert_eq!(crawl(1 << 20, 1 << 14), (64, None), "the last of them ends at the end");
    let (asked, bad) = crawl(1 << 40, 512);
    assert_eq!(bad, Some(BadAreas::TooManyPages(asked)));
    assert_eq!(crawl(1 << 62, 512).0, 10_000);
    // Two thousand areas in each answer, as close as any tracking tells them apart.
    let full = 2000 * 2 * 4096;
    assert_eq!(crawl(5000 * full, full.cast_signed()), (5000, None));

    let scattered = |count: i64| {
        let areas: Vec<_> = (0..count).map(|it| (it * 2, 1)).collect();
        AreaPlanner::new(10_000).take(&page(0, 10_000, &areas))
    };
    assert_eq!((scattered(1024), scattered(1025)), (Ok(()), Err(BadAreas::TooMany)));
}

#[test]
fn capacities_and_answers_at_the_edges_of_numbers_are_computed_with() {
    for capacity in
        [1, 511, u64::MAX, 1 << 63, i64::MAX.unsigned_abs(), i64::MAX.unsigned_abs() + 2]
    {
        let mut planner = AreaPlanner::new(capacity);
        let whole = i64::try_from(capacity).unwrap_or(i64::MAX);
        let taken = planner.take(&page(0, whole, &[(whole - 1, 1), (0, whole)]));
        assert_eq!(taken, Ok(()), "{capacity}");
        // Beyond what the answers can name nobody is believed.
        if let Some(start) = planner.next_start() {
            assert_eq!(start, i64::MAX.unsigned_abs());
            let further = planner.take(&page(i64::MAX, i64::MAX, &[(i64::MAX, i64::MAX)]));
            assert!(further.is_err() || capacity == u64::MAX || planner.clone().finish().is_ok());
        }
        let areas = planner.clone().finish();
        assert_eq!(areas.is_ok(), planner.next_start().is_none());
        if let Ok(areas) = areas {
            assert_eq!(areas, std::iter::once(0..capacity).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_refused_answer_leaves_what_was_known() {
    let mut planner = AreaPlanner::new(DISK);
    planner.take(&page(0, 4000, &[(1, 2)])).unwrap();
    for bad in [page(0, 4000, &[]), page(4000, 6000, &[(4000, 1), (3999, 2)]), page(4000, 0, &[])] {
        planner.take(&bad).unwrap_err();
        assert_eq!(planner.next_start(), Some(4000));
    }
    planner.take(&page(4000, 6000, &[(5000, 1)])).unwrap();
    assert_eq!(planner.finish(), Ok(vec![1..3, 5000..5001]));
}

#[test]
fn nothing_is_asked_at_the_end() {
    let mut planner = AreaPlanner::new(DISK);
    assert_eq!(planner.next_start(), Some(0));
    planner.take(&page(0, 10_000, &[])).unwrap();
    assert_eq!(planner.next_start(), None);
    assert_eq!(AreaPlanner::new(0).next_start(), None);
}

proptest! {
    /// Whatever comes, areas are in order and inside, and no changed byte of an accepted answer is lost.
    #[test]
    fn accepted_answers_lose_no_changed_byte(
        pages in prop::collection::vec(
            (1_i64..4000, prop::collection::vec((0_i64..4000, 1_i64..800), 0..8)), 1..8,
        ),
    ) {
        let mut planner = AreaPlanner::new(DISK);
        let mut changed = vec![false; 10_000];
        for (length, areas) in pages {
            let Some(start) = planner.next_start() else { break };
            let start = i64::try_from(start).unwrap();
            let length = length.min(10_000 - start);
            let inside: Vec<_> = areas
                .into_iter()
                .map(|(at, long)| (start + at % length, long))
                .map(|(at, long)| (at, long.min(start + length - at)))
                .collect();
            for &(at, long) in &inside {
                for byte in &mut changed[usize::try_from(at).unwrap()..usize::try_from(at + long).unwrap()] {
                    *byte = true;
                }
            }
            planner.take(&page(start, length, &inside)).unwrap();
        }
        if let Some(rest) = planner.next_start() {
            let rest = i64::try_from(rest).unwrap();
            planner.take(&page(rest, 10_000 - rest, &[])).unwrap();
        }
        let areas = planner.finish().unwrap();
        let mut listed = vec![false; 10_000];
        let mut end = None;
        for area in areas {
            prop_assert!(area.start < area.end && area.end <= DISK);
            prop_assert!(end.is_none_or(|end| area.start > end));
            end = Some(area.end);
            for byte in &mut listed[usize::try_from(area.start).unwrap()..usize::try_from(area.end).unwrap()] {
                *byte = true;
            }
        }
        prop_assert_eq!(listed, changed);
    }

    /// Nothing that a server may say leads to a panic or beyond the disk.
    #[test]
    fn any_answer_is_taken_or_refused(
        start in any::<i64>(), length in any::<i64>(),
        areas in prop::collection::vec(any::<(i64, i64)>(), 0..4),
    ) {
        let mut planner = AreaPlanner::new(DISK);
        if planner.take(&page(start, length, &areas)).is_ok() {
            prop_assert_eq!(start, 0);
            prop_assert!(planner.next_start().is_none_or(|next| next <= DISK));
        } else {
            prop_assert_eq!(planner.next_start(), Some(0));
        }
    }
}
