//! VMAs that are down, slow, strangers, or make no sense.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::datastore::VmSpec;
use hub_tests::lab::Lab;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::play;
use super::protected::{Protected, failed_with, small_disk};

/// What the hub says when a VMA could not be used.
const EXPECTED: &[&str] = &["a request could not be served", "a backup ended badly"];

/// What a stranger does with a request.
#[derive(Clone, Copy, Debug)]
enum Manners {
    /// Answers with these bytes and hangs up.
    Says(&'static str),
    /// Never answers.
    Silent,
}

/// Somebody who listens where a VMA should.
struct Stranger {
    url: String,
    heard: Arc<Mutex<String>>,
    _serving: JoinSet<()>,
}

impl Stranger {
    async fn listen(address: &str, manners: Manners) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let heard = Arc::new(Mutex::new(String::new()));
        let mut serving = JoinSet::new();
        let told = heard.clone();
        serving.spawn(async move {
            let mut talks = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let told = told.clone();
                // One who hangs up early is none of this server's business.
                talks.spawn(async move { drop(talk(stream, manners, &told).await) });
            }
        });
        Ok(Self { url, heard, _serving: serving })
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn talk(mut stream: TcpStream, manners: Manners, told: &Mutex<String>) -> Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|it| it == b"\r\n\r\n") {
        let len = stream.read(&mut buffer).await?;
        ensure!(len > 0, "hung up");
        request.extend_from_slice(buffer.get(..len).unwrap_or_default());
    }
    told.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push_str(&String::from_utf8_lossy(&request));
    match manners {
        Manners::Says(answer) => {
            stream.write_all(answer.as_bytes()).await?;
            Ok(stream.shutdown().await?)
        }
        Manners::Silent => {
            // Until the other side has had enough.
            while stream.read(&mut buffer).await? > 0 {}
            Ok(())
        }
    }
}

#[tokio::test]
async fn a_vma_that_is_down_is_said_to_be_down_with_what_to_do() {
    let part = async |lab: &mut Lab| {
        let it = Protected::new(lab, &VmSpec::new("left", vec![small_disk(1)])).await?;
        lab.vma.program.kill()?;
        let body =
            json!({"name": "other", "url": "http://127.0.0.1:1", "token": "a-token-of-nobody"});
        let calls = [
            ("/vma-nodes", body),
            ("/discovery/discover-vms", json!({})),
            ("/discovery/add-vms", json!({"vm_names": ["left"]})),
        ];
        for (path, body) in calls {
            let problem = lab.api.post(path, &body).await?;
            let problem = problem.refused(503, "vma/unreachable")?;
            let detail = problem.text("/detail")?;
            ensure!(detail.contains("check that it runs"), "{path}: what to do: {detail}");
        }
        ensure!(lab.api.all("/vma-nodes").await?.len() == 1, "nobody new was registered");
        ensure!(lab.api.all("/vm-contexts").await?.len() == 1, "what is known stays known");

        lab.vma.restart().await?;
        it.back_up(lab, "full").await?;
        Ok(())
    };
    play(EXPECTED, part).await.unwrap();
}

#[tokio::test]
async fn trap_d5_a_vma_that_never_answers_is_given_up_on_while_the_hub_goes_on() {
    let part = async |lab: &mut Lab| {
        let stranger = Stranger::listen("127.0.0.1:0", Manners::Silent).await?;
        let body = json!({"name": "slow", "url": stranger.url, "token": "a-token-of-nobody"});
        let asking = lab.api.post("/vma-nodes", &body);
        let meanwhile = async {
            let it = Protected::new(lab, &VmSpec::new("quick", vec![small_disk(1)])).await?;
            it.back_up(lab, "full").await
        };
        let (answer, backups) = tokio::join!(asking, meanwhile);
        ensure!(backups?.len() == 1, "others are served meanwhile");
        let problem = answer?.refused(503, "vma/unreachable")?;
        ensure!(problem.text("/detail")?.contains("no complete answer"), "{problem:#}");
        Ok(())
    };
    play(EXPECTED, part).await.unwrap();
}

#[tokio::test]
async fn a_vma_that_makes_no_sense_is_refused_and_learns_no_token() {
    let part = async |lab: &mut Lab| {
        let page =
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>";
        let shape = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{\"name\": []}";
        let endless = "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{";
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"name\":";
        let moved =
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let broken = "HTTP/1.1 500 Oh\r\ncontent-length: 2\r\n\r\nno";
        let stranger_proof = "HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n\
            {\"name\":\"x\",\"version\":\"1\",\"api_version\":1,\"source_kind\":\"folder\",\"proof\":\"00000000000000\"}";
        let cases = [
            ("no HTTP at all", "SSH-2.0-OpenSSH_9.2\r\n", 502, "vma/garbled-answer"),
            ("a page", page, 502, "vma/garbled-answer"),
            ("another shape", shape, 502, "vma/garbled-answer"),
            ("an endless answer", endless, 502, "vma/garbled-answer"),
            ("an answer that ends early", cut, 503, "vma/unreachable"),
            ("a redirection", moved, 502, "vma/garbled-answer"),
            ("an error without a reason", broken, 502, "vma/garbled-answer"),
            ("a wrong proof", stranger_proof, 502, "vma/not-the-node"),
            ("a closed door", "", 503, "vma/unreachable"),
        ];
        for (what, says, status, code) in cases {
            let stranger = Stranger::listen("127.0.0.1:0", Manners::Says(says)).await?;
            let body =
                json!({"name": "stranger", "url": stranger.url, "token": "only-for-the-vma"});
            let answer = lab.api.post("/vma-nodes", &body).await?;
            let problem = answer.refused(status, code).with_context(|| what.to_owned())?;
            ensure!(!problem.to_string().contains("only-for-the-vma"), "{what}: {problem:#}");
            let heard = stranger.heard();
            ensure!(heard.contains("/api/v1/identity"), "{what}: it was asked: {heard}");
            ensure!(!heard.contains("only-for-the-vma"), "{what}: it learned the token");
        }
        let body = json!({"name": "lab-2", "url": lab.vma.url, "token": "only-for-the-vma"});
        let wrong = lab.api.post("/vma-nodes", &body).await?;
        wrong.refused(502, "vma/not-the-node")?;
        ensure!(lab.api.all("/vma-nodes").await?.len() == 1, "none was registered");
        ensure!(!lab.hub.program.log()?.contains("only-for-the-vma"), "no token in the log");
        Ok(())
    };
    play(EXPECTED, part).await.unwrap();
}

#[tokio::test]
async fn a_registered_vma_that_begins_to_make_no_sense_fails_discovery_and_jobs_by_name() {
    let part = async |lab: &mut Lab| {
        let it = Protected::new(lab, &VmSpec::new("changed", vec![small_disk(1)])).await?;
        lab.vma.program.kill()?;
        let address = lab.vma.url.trim_start_matches("http://").to_owned();
        let rubbish = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n!?!?";
        let stranger = Stranger::listen(&address, Manners::Says(rubbish)).await?;
        let problem = lab.api.post("/discovery/discover-vms", &json!({})).await?;
        problem.refused(502, "vma/garbled-answer")?;
        let run = it.start(lab, "full").await?;
        let run = lab.api.ended(&run, |_| ()).await?;
        failed_with(&run, "vma/garbled-answer")?;
        ensure!(it.files()?.is_empty(), "nothing partial stays: {:#?}", it.files()?);
        let context = lab.context(&it.context_id).await?;
        ensure!(context.list("/disks")?.len() == 1, "what is known stays known: {context:#}");

        drop(stranger);
        lab.vma.restart().await?;
        it.back_up(lab, "full").await?;
        Ok(())
    };
    play(EXPECTED, part).await.unwrap();
}
