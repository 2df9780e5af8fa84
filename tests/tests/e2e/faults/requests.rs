//! Requests for what does not exist, is ambiguous, or is not the asker's to ask.

use anyhow::{Context as _, Result, ensure};
use hub_tests::api::{Api, Fields as _};
use hub_tests::datastore::VmSpec;
use serde_json::json;

use super::play;
use super::protected::{Protected, small_disk};

/// An id that nothing has.
const NOBODY: &str = "00000000-0000-7000-8000-000000000000";

#[tokio::test]
async fn what_is_unknown_is_named_and_changes_nothing() {
    let part = async |lab: &mut hub_tests::lab::Lab| {
        let it = Protected::new(lab, &VmSpec::new("known", vec![small_disk(1)])).await?;
        let api = &lab.api;
        let backup = |vm: &str, disk: &str, repository: &str| json!({"vm_name": vm, "disk_id": disk, "backup_type": "full", "repository_id": repository});

        let body = backup("nobody", "0", &it.repository);
        let problem = api.post("/backup/start", &body).await?.refused(404, "vm/not-found")?;
        ensure!(problem.text("/detail")?.contains("nobody"), "it says which: {problem:#}");
        let body = backup(NOBODY, "0", &it.repository);
        api.post("/backup/start", &body).await?.refused(404, "vm/not-found")?;

        let body = backup("known", "7", &it.repository);
        let problem = api.post("/backup/start", &body).await?;
        let problem = problem.refused(400, "backup/disk-not-found")?;
        ensure!(problem.text("/detail")? == "disk_id 7 not found for VM known", "{problem:#}");

        for repository in [NOBODY, "somewhere"] {
            let body = backup("known", "0", repository);
            let problem = api.post("/backup/start", &body).await?;
            problem.refused(404, "repository/not-found")?;
        }
        let body = json!({"vm_name": "nobody", "replication_type": "initial"});
        api.post("/replications", &body).await?.refused(404, "vm/not-found")?;
        for (path, code) in [
            (format!("/backups/{NOBODY}"), "backup/not-found"),
            (format!("/backup-runs/{NOBODY}"), "backup/run-not-found"),
            (format!("/replications/{NOBODY}"), "replication/not-found"),
            (format!("/vm-contexts/{NOBODY}"), "vm/not-found"),
            ("/backup/chain?vm_name=nobody&disk_id=0".to_owned(), "vm/not-found"),
        ] {
            api.get(&path).await?.refused(404, code).with_context(|| path.clone())?;
        }
        let body = json!({"backup_id": NOBODY, "format": "raw"});
        api.post("/restores", &body).await?.refused(404, "backup/not-found")?;

        ensure!(api.all("/backups").await?.is_empty(), "nothing was started");
        ensure!(it.files()?.is_empty(), "nothing was written");
        Ok(())
    };
    play(&[], part).await.unwrap();
}

/// Traps C19 and U14: a name is only a label.
#[tokio::test]
async fn trap_c19_an_ambiguous_name_is_refused_with_its_candidates_and_an_id_is_not() {
    let part = async |lab: &mut hub_tests::lab::Lab| {
        let twin = |folder: &str, seed| VmSpec {
            name: "twin".to_owned(),
            folder: folder.to_owned(),
            disks: vec![small_disk(seed)],
        };
        let vms = [("one", 1), ("two", 2)]
            .map(|(folder, seed)| lab.datastore.add_vm(&twin(folder, seed)));
        let api = &lab.api;

        let added = api.post("/discovery/add-vms", &json!({"vm_names": ["twin"]})).await?.ok()?;
        ensure!(added.number("/failed")? == 1 && added.number("/added")? == 0, "{added:#}");
        ensure!(added.text("/results/0/vm_name")? == "twin", "every name is answered: {added:#}");
        ensure!(!added.flag("/results/0/success")?, "{added:#}");
        ensure!(added.text("/results/0/error/code")? == "vm/ambiguous-name", "{added:#}");
        let detail = added.text("/results/0/error/detail")?;
        ensure!(detail.contains("datastore1/one") && detail.contains("datastore1/two"), "{detail}");

        let seen = api.post("/discovery/discover-vms", &json!({})).await?.ok()?;
        let ids: Vec<String> =
            seen.list("/vms")?.iter().map(|vm| vm.text("/id")).collect::<Result<_>>()?;
        let added = api.post("/discovery/add-vms", &json!({"vm_ids": ids})).await?.ok()?;
        ensure!(added.number("/added")? == 2, "by id both can be added: {added:#}");

        let repository = lab.repository().await?;
        let body = json!({"vm_name": "twin", "backup_type": "full", "repository_id": repository});
        let problem = api.post("/backups", &body).await?.refused(409, "vm/ambiguous-name")?;
        let candidates = problem.list("/candidates")?;
        ensure!(candidates.len() == 2, "both are named: {problem:#}");
        for path in ["/vm-contexts/twin", "/backup/chain?vm_name=twin&disk_id=0"] {
            let problem = api.get(path).await?.refused(409, "vm/ambiguous-name")?;
            ensure!(problem.list("/candidates")?.len() == 2, "{path}: {problem:#}");
        }
        let body = json!({"vm_name": "twin", "replication_type": "initial"});
        api.post("/replications", &body).await?.refused(409, "vm/ambiguous-name")?;

        // Each by its id, and each equals its own source.
        for vm in vms {
            let vm = vm?;
            let folder = vm.home().file_name().and_then(|it| it.to_str()).unwrap_or_default();
            let mut here = candidates.iter().filter(|it| {
                it.text("/path").is_ok_and(|path| path.ends_with(&format!("/{folder}")))
            });
            let candidate = here.next().context("its path says which one it is")?;
            let it = Protected {
                context_id: candidate.text("/context_id")?,
                repository: repository.clone(),
                root: lab.hub.data_dir().join("repository"),
                vm,
            };
            it.back_up(lab, "full").await?;
        }
        Ok(())
    };
    play(&[], part).await.unwrap();
}

#[tokio::test]
async fn without_the_right_token_nothing_is_told_and_nothing_done() {
    let part = async |lab: &mut hub_tests::lab::Lab| {
        let it = Protected::new(lab, &VmSpec::new("secret", vec![small_disk(1)])).await?;
        let short = lab.hub.token.get(..8).context("a token is longer")?;
        let strangers = [
            Api::new(&lab.hub.url, "")?,
            Api::new(&lab.hub.url, "wrong")?,
            Api::new(&lab.hub.url, short)?,
            Api::new(&lab.hub.url, &lab.vma.token)?,
        ];
        for stranger in strangers {
            for path in ["/vm-contexts", "/backups", "/vma-nodes", "/repositories", "/debug/health"]
            {
                stranger.get(path).await?.refused(401, "request/unauthorized")?;
            }
            let refused = stranger.post("/backups", &it.request("full")).await?;
            refused.refused(401, "request/unauthorized")?;
            let path = format!("/vm-contexts/{}", it.context_id);
            stranger.delete(&path).await?.refused(401, "request/unauthorized")?;
            stranger.get("/health").await?.ok()?;
        }
        ensure!(lab.api.all("/backups").await?.is_empty(), "nothing was started");
        ensure!(lab.api.all("/vm-contexts").await?.len() == 1, "nothing was deleted");
        for program in [&lab.hub.program, &lab.vma.program] {
            let log = program.log()?;
            let told = log.contains(&lab.hub.token) || log.contains(&lab.vma.token);
            ensure!(!told, "a log holds a token");
        }
        Ok(())
    };
    play(&[], part).await.unwrap();
}
