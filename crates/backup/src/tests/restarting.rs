//! A hub that comes back after a kill tells the VMAs.

use std::time::Duration;

use hub_testkit::CopyScript;
use tokio::time::{Instant, timeout};

use crate::bench::{Bench, FULL};

#[tokio::test(start_paused = true)]
async fn trap_d38_a_restart_tells_the_vma_to_stop() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    let run = bench.start(FULL).await.unwrap();
    assert!(timeout(Duration::from_secs(30), bench.run(run)).await.is_err());
    assert_eq!(bench.vma.copying().len(), 1);
    assert_eq!(bench.backup.recover().await.unwrap().interrupted, 2);
    bench.assert_nothing_left().await.unwrap();
    assert_eq!(bench.steps.count("vma.cancel_copy"), 1, "one word per run, not per disk");
    assert_eq!(bench.backup.recover().await.unwrap(), crate::Recovered::default());
}

#[tokio::test(start_paused = true)]
async fn a_vma_that_is_away_does_not_keep_a_hub_from_starting() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    let run = bench.start(FULL).await.unwrap();
    assert!(timeout(Duration::from_secs(30), bench.run(run)).await.is_err());
    bench.vma.set_reachable(false);
    let began = Instant::now();
    assert_eq!(bench.backup.recover().await.unwrap().interrupted, 2);
    assert!(began.elapsed() < Duration::from_secs(6));
}
