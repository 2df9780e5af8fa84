//! Exports end with their time, on request, and with the hub.

use std::time::Duration;

use anyhow::Result;
use chrono::TimeDelta;
use hub_ports::Classify;
use hub_testkit::Break;

use super::{Fixture, point_id};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn an_export_lives_until_its_time_is_over() -> Result<()> {
    let fixture = Fixture::new().await?;
    let export = fixture.engine.open_export(point_id(2), HOUR).await?;
    assert_eq!(export.capacity, 1 << 20);
    assert_eq!(fixture.engine.list_exports(), std::slice::from_ref(&export));
    fixture.clock.advance(TimeDelta::minutes(59));
    fixture.engine.reap_exports().await?;
    assert_eq!(fixture.storage.open_exports().len(), 1);
    fixture.clock.advance(TimeDelta::minutes(1));
    assert_eq!(fixture.engine.export(export.id), None);
    fixture.engine.reap_exports().await?;
    assert!(fixture.storage.open_exports().is_empty());
    Ok(())
}

#[tokio::test]
async fn an_export_is_closed_once() -> Result<()> {
    let fixture = Fixture::new().await?;
    let export = fixture.engine.open_export(point_id(1), HOUR).await?;
    assert!(fixture.engine.close_export(export.id).await?);
    assert!(!fixture.engine.close_export(export.id).await?);
    fixture.engine.open_export(point_id(1), HOUR).await?;
    fixture.engine.open_export(point_id(2), HOUR).await?;
    fixture.engine.close_exports().await?;
    assert!(fixture.storage.open_exports().is_empty());
    assert!(fixture.engine.list_exports().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_point_is_exported_or_deleted_and_never_both() -> Result<()> {
    let fixture = Fixture::new().await?;
    let engine = &fixture.engine;
    let export = engine.open_export(point_id(1), HOUR).await?;
    let refused = engine.withhold_point(point_id(1)).unwrap_err();
    assert_eq!(refused.code(), "backup/exported");
    assert!(refused.to_string().contains(&export.id.to_string()), "{refused}");
    // Two deletions at once, and another point in between.
    let other = [engine.withhold_point(point_id(2))?, engine.withhold_point(point_id(2))?];
    engine.close_export(export.id).await?;
    let withheld = engine.withhold_point(point_id(1))?;
    for _ in other {
        let refused = engine.open_export(point_id(2), HOUR).await.unwrap_err();
        assert_eq!(refused.code(), "backup/not-completed");
    }
    engine.open_export(point_id(2), HOUR).await?;
    drop(withheld);
    engine.open_export(point_id(1), HOUR).await?;
    // One whose time is over is closed within seconds, and is nobody's any more.
    fixture.clock.advance(TimeDelta::hours(2));
    engine.withhold_point(point_id(1))?;
    Ok(())
}

/// A point that is on its way to an export has no id to be named by, and is held all the same.
#[tokio::test]
async fn a_point_that_is_being_opened_is_not_deleted() -> Result<()> {
    let fixture = Fixture::new().await?;
    let opening = fixture.engine.exports.begin(point_id(1))?;
    let refused = fixture.engine.withhold_point(point_id(1)).unwrap_err();
    assert!(refused.to_string().contains("being opened"), "{refused}");
    drop(opening);
    fixture.engine.withhold_point(point_id(1))?;
    Ok(())
}

#[tokio::test]
async fn an_export_has_a_point_and_a_bounded_life() -> Result<()> {
    let fixture = Fixture::new().await?;
    let unknown = fixture.engine.open_export(point_id(9), HOUR).await;
    assert_eq!(unknown.map_err(|error| error.code()).err(), Some("backup/not-found"));
    for life in [Duration::ZERO, HOUR * 24 * 8] {
        let refused = fixture.engine.open_export(point_id(1), life).await;
        assert_eq!(refused.map_err(|error| error.code()).err(), Some("export/lifetime"));
    }
    assert!(fixture.storage.open_exports().is_empty());
    Ok(())
}

#[tokio::test]
async fn trap_c12_an_export_that_could_not_be_closed_is_closed_later() -> Result<()> {
    let fixture = Fixture::new().await?;
    for number in [1, 2] {
        fixture.engine.open_export(point_id(number), HOUR).await?;
    }
    fixture.clock.advance(TimeDelta::hours(1));
    fixture.steps.break_at(1, Break::Fail);
    assert!(fixture.engine.reap_exports().await.is_err());
    assert_eq!(fixture.storage.open_exports().len(), 1, "the second does not suffer for the first");
    assert!(fixture.engine.list_exports().is_empty(), "its time is over in any case");
    fixture.engine.reap_exports().await?;
    assert!(fixture.storage.open_exports().is_empty());
    Ok(())
}

#[tokio::test]
async fn an_export_that_a_user_could_not_close_is_still_told() -> Result<()> {
    let fixture = Fixture::new().await?;
    let export = fixture.engine.open_export(point_id(1), HOUR).await?;
    fixture.steps.break_at(1, Break::Fail);
    assert!(fixture.engine.close_export(export.id).await.is_err());
    assert_eq!(fixture.engine.export(export.id).as_ref(), Some(&export));
    fixture.steps.break_at(1, Break::Fail);
    assert!(fixture.engine.close_exports().await.is_err());
    fixture.engine.close_exports().await?;
    assert!(fixture.storage.open_exports().is_empty());
    Ok(())
}
