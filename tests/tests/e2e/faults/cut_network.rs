//! Promise P5: a network that is cut in the middle of a copy costs what was in flight, and the job says so.

use anyhow::ensure;
use hub_tests::api::Fields as _;
use hub_tests::datastore::VmSpec;
use hub_tests::lab::Lab;
use hub_tests::proxy::Proxy;

use super::play;
use super::protected::{MIB, Protected, large_disk};

/// How the VMA tells that it has lost its hub for a moment.
const EXPECTED: &[&str] = &["an NBD server was lost and is dialled again"];

/// Two connections with eight requests of a mebibyte each.
const WINDOW: u64 = 16 * MIB;

#[tokio::test]
async fn p5_a_copy_whose_connections_are_cut_goes_on_and_sends_little_again() {
    let part = async |lab: &mut Lab| {
        let proxy = Proxy::start(&lab.hub.nbd).await?;
        let port = ("HUB__NBD__ADVERTISE_PORT".to_owned(), proxy.address.port().to_string());
        lab.hub.restart_with(vec![port]).await?;
        let it = Protected::new(lab, &VmSpec::new("cut-off", vec![large_disk(1)])).await?;

        let run = it.freeze_mid_copy(lab, "full").await?;
        let cut = proxy.cut();
        ensure!(cut > 0, "the copy goes through the proxy");
        lab.vma.program.signal("CONT")?;
        let ended = lab.api.ended(&run, |_| ()).await?;
        ensure!(ended.text("/status")? == "succeeded", "{ended:#}");

        let point = ended.list("/backups")?.remove(0);
        ensure!(point.number("/attempt")? == 1, "the same attempt: {point:#}");
        let (lost, again) =
            (point.number("/bytes/reconnects")?, point.number("/bytes/sent_again")?);
        ensure!(lost >= 1, "{point:#}");
        ensure!(again <= lost * WINDOW, "{again} bytes again after {lost} losses");
        it.verify(lab, &point).await
    };
    play(EXPECTED, part).await.unwrap();
}
