//! A hub far away: one disk over a line that is slow to answer, beside what the line could carry.

mod line;

use anyhow::{Result, ensure};
use hub_tests::datastore::{Content, DiskSpec, Subformat};

use crate::copy::plan::spread;
use crate::figures::{self, Figure, median};
use crate::ours::Ours;
use crate::workshop::{self, Terms, say};
use line::Line;

const MIB: u64 = 1 << 20;

/// What the line carries, in bytes per second: 1 Gbit/s.
const RATE: f64 = 125e6;

/// The least share of the line that one disk has to use.
const SHARE: f64 = 0.8;

/// How often it is copied.
const ROUNDS: usize = 3;

/// How large the disk is.
#[derive(clap::Args)]
pub(crate) struct DistanceArguments {
    #[command(flatten)]
    terms: Terms,
}

/// Copies a disk of 4 GiB, half of it data, over the line.
pub(crate) async fn run(arguments: &DistanceArguments) -> Result<()> {
    let capacity = 4096 * MIB / arguments.terms.shrink();
    let content = Content::Noise { seed: 7 << 32, areas: spread(capacity, MIB, 2 * MIB) };
    let disk = DiskSpec { capacity, subformat: Subformat::MonolithicSparse, content };
    let folder = workshop::folder(&arguments.terms)?;
    say("making the disk …");
    let mut ours = Ours::start(folder.path(), &[disk]).await?;
    let line = Line::start(&ours.hub.nbd).await?;
    let port = ("HUB__NBD__ADVERTISE_PORT".to_owned(), line.address.port().to_string());
    ours.hub.restart_with(vec![port]).await?;

    let (mut took, mut sent) = (Vec::new(), 0);
    for round in 0..ROUNDS {
        say(&format!("round {} …", round + 1));
        let copied = ours.back_up("full").await?;
        sent = copied.sent;
        took.push(copied.job);
        if round + 1 == ROUNDS {
            ours.judge(&copied)?;
        }
        ours.delete(&copied).await?;
    }
    ensure!(line.carried() >= sent, "the copy went past the line");
    ours.stop().await?;

    #[expect(clippy::cast_precision_loss, reason = "a share of a few digits")]
    let least = sent as f64 / RATE;
    let seconds = median(took);
    let case = "1 Gbit/s, 20 ms";
    let figures = [
        Figure::plain(case, "what the line needs for the data", format!("{least:.2} s")),
        Figure::plain(case, "one disk, median", format!("{seconds:.2} s")),
        Figure::at_least(case, "share of the line", least / seconds, SHARE, ""),
    ];
    let title = format!("distance, {}, {sent} bytes", arguments.terms.size());
    figures::show(&title, &figures, arguments.terms.json.as_deref())
}
