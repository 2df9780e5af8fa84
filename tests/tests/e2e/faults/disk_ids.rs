//! Which disk a request means, and what is said when it means none.

use anyhow::ensure;
use hub_tests::api::Fields as _;
use hub_tests::datastore::VmSpec;
use hub_tests::judge::Image;
use hub_tests::lab::Lab;
use serde_json::{Value, json};

use super::play;
use super::protected::{Protected, small_disk};

#[tokio::test]
async fn a_disk_is_named_by_ordinal_digits_or_the_hypervisors_id_and_by_nothing_else() {
    let part = async |lab: &mut Lab| {
        let spec = VmSpec::new("two-disks", vec![small_disk(1), small_disk(2)]);
        let it = Protected::new(lab, &spec).await?;
        let asking = |disk_id: &Value| {
            let mut body = it.request("full");
            if let Some(fields) = body.as_object_mut() {
                fields.insert("disk_id".to_owned(), disk_id.clone());
            }
            body
        };
        for (disk_id, ordinal) in
            [(json!(0), 0), (json!("0"), 0), (json!("disk-2000"), 0), (json!("disk-2001"), 1)]
        {
            let run = lab.api.run("/backup/start", &asking(&disk_id)).await?;
            let backups = run.list("/backups")?;
            let [backup] = backups.as_slice() else { anyhow::bail!("one disk: {run:#}") };
            ensure!(backup.number("/disk_id")? == ordinal, "{disk_id} is disk {ordinal}: {run:#}");
            let disk = it.vm.disk(usize::try_from(ordinal)?)?;
            it.judge(backup, Image::new(&disk.top(), "vmdk"))?;
        }
        let before = it.files()?;
        for bad in [json!(-1), json!("-1"), json!(0.5), json!("")] {
            let answer = lab.api.post("/backup/start", &asking(&bad)).await?;
            let problem = answer.refused(400, "request/invalid-field")?;
            ensure!(problem.text("/errors/0/pointer")? == "/disk_id", "{bad}: {problem:#}");
        }
        for bad in [json!("x"), json!(2), json!("2"), json!("disk-2002"), json!("disk-200")] {
            let answer = lab.api.post("/backup/start", &asking(&bad)).await?;
            let problem = answer.refused(400, "backup/disk-not-found")?;
            let disk = bad.as_str().map_or_else(|| bad.to_string(), ToOwned::to_owned);
            let detail = format!("disk_id {disk} not found for VM two-disks");
            ensure!(problem.text("/detail")? == detail, "{problem:#}");
        }
        for bad in [json!(true), json!([0]), json!({"id": 0})] {
            let answer = lab.api.post("/backup/start", &asking(&bad)).await?;
            answer.refused(400, "request/invalid-body")?;
        }
        it.unchanged_since(&before)
    };
    play(&[], part).await.unwrap();
}

#[tokio::test]
async fn trap_d1_a_vm_without_disk_rows_is_refused_with_what_to_do_and_healed_by_adding_it_again() {
    let part = async |lab: &mut Lab| {
        let it = Protected::new(lab, &VmSpec::new("legacy", vec![small_disk(1)])).await?;
        lab.database.execute("DELETE FROM vm_disks").await?;
        for disk_id in [json!(null), json!(0), json!("disk-2000")] {
            let mut body = it.request("full");
            if let Some(fields) = body.as_object_mut() {
                fields.insert("disk_id".to_owned(), disk_id);
            }
            let problem = lab.api.post("/backup/start", &body).await?;
            let problem = problem.refused(400, "backup/no-disks")?;
            let words = "VM disk information not available - run discovery first";
            ensure!(problem.text("/detail")? == words, "{problem:#}");
        }
        lab.add(&["legacy"]).await?;
        it.back_up(lab, "full").await?;
        Ok(())
    };
    play(&[], part).await.unwrap();
}
