//! Which source of settings wins, what is refused, and what is shown.

use std::collections::HashMap;

use super::*;

fn load(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Settings> {
    let flags = Flags::try_parse_from([&["hub-server"], arguments].concat())?;
    let variables: HashMap<String, String> =
        variables.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    Settings::from_sources(&flags, environment().source(Some(variables)))
}

#[test]
fn flags_win_over_environment_over_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hub.toml");
    let text = "[server]\nlisten = \"127.0.0.1:1\"\ndata_dir = \"/file\"\n[jobs]\nconcurrent = 9\n";
    std::fs::write(&file, text).unwrap();
    let arguments = ["--config", file.to_str().unwrap(), "--listen", "127.0.0.1:3"];
    let variables = [
        ("HUB__SERVER__LISTEN", "127.0.0.1:2"),
        ("HUB__SERVER__DATA_DIR", "/environment"),
        ("HUB__LOG__FORMAT", "json"),
        ("HUB_TEST_REQUIRE", "1"),
    ];
    let settings = load(&arguments, &variables).unwrap();
    assert_eq!(settings.server.listen, SocketAddr::from(([127, 0, 0, 1], 3)));
    assert_eq!(settings.server.data_dir, PathBuf::from("/environment"));
    assert_eq!((settings.jobs.concurrent, settings.log.format), (9, LogFormat::Json));
    assert_eq!(settings.replica_dir(), PathBuf::from("/environment/replicas"));
    assert_eq!(settings.database_url().unwrap(), "sqlite:///environment/catalogue.sqlite");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refused = |arguments: &[&str], variables: &[(&str, &str)]| {
        format!("{:#}", load(arguments, variables).unwrap_err())
    };
    assert!(refused(&[], &[("HUB__SERVER__LISTEM", "x")]).contains("listem"));
    assert!(refused(&[], &[("HUB__JOBS__CONCURRENT", "0")]).contains("at least 1"));
    assert!(refused(&[], &[("HUB__BACKUP__AUDIT_RUNS", "0")]).contains("backup.audit_runs"));
    assert!(refused(&["--nbd-listen", "0.0.0.0:1"], &[]).contains("advertise_host"));
    assert!(refused(&["--database-url", "oracle:x"], &[]).contains("begins with"));
    assert!(refused(&["--config", "/nowhere.toml"], &[]).contains("nowhere"));
    assert!(refused(&[], &[("HUB__STORAGE__REPLICA_DIR", "here")]).contains("absolute"));
    let told = [("HUB__NBD__ADVERTISE_HOST", "hub.example")];
    let settings = load(&["--nbd-listen", "0.0.0.0:1"], &told).unwrap();
    assert_eq!(settings.nbd.advertised(), "hub.example");
}

#[test]
fn what_is_shown_is_complete_and_holds_no_password() {
    let url = "mysql://hub:hunter2@db:3306/hub?ssl-key=hunter2";
    let settings = load(&["--data-dir", "/d", "--database-url", url], &[]).unwrap();
    let shown = settings.redacted().unwrap();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(!format!("{settings:?}").contains("hunter2"));
    let read: Settings = toml::from_str(&shown).unwrap();
    assert_eq!(read.restore_dir(), PathBuf::from("/d/restores"));
    assert_eq!(read.database.url.as_deref(), Some("mysql://hub:***@db:3306/hub?***"));
}

/// The driver repeats a URL that it cannot read, password and all.
#[test]
fn trap_c12_a_url_that_cannot_be_read_is_not_repeated() {
    for url in [
        "mysql://hub:hunt/er2@db/hub",
        "mariadb://hub:hunt#er2@db/hub",
        "postgres://hub:hunt?er2@db/hub",
        "mysql://hub:hunter2@db:port/hub",
        "mysql:hub:hunter2@db/hub",
        "postgres:/hunter2",
    ] {
        let error = format!("{:#}", load(&[], &[("HUB__DATABASE__URL", url)]).unwrap_err());
        assert!(error.contains("database.url") && error.contains("%23"), "{error}");
        assert!(!error.contains("hunt") && !error.contains("er2"), "{error}");
    }
    let by_socket = "postgres:///hub?host=/run/postgresql";
    assert!(load(&["--database-url", by_socket], &[]).is_ok());
}

#[test]
fn tls_is_ordered_beyond_this_machine_unless_told_otherwise() {
    let orders = |host: &str, plain: &str| {
        let told = [("HUB__NBD__ADVERTISE_HOST", host), ("HUB__NBD__PLAIN", plain)];
        load(&[], &told).map(|it| it.nbd.orders_tls())
    };
    for near in ["127.0.0.1", "::1", "localhost"] {
        assert!(!orders(near, "loopback").unwrap(), "{near}");
        assert!(orders(near, "never").unwrap(), "{near}");
    }
    for far in ["10.0.0.1", "hub.example", "0x7f.1"] {
        assert!(orders(far, "loopback").unwrap(), "{far}");
        assert!(!orders(far, "everywhere").unwrap(), "{far}");
    }
    assert!(orders("hub.example", "sometimes").is_err());
    let everywhere =
        load(&["--nbd-listen", "0.0.0.0:1"], &[("HUB__NBD__ADVERTISE_HOST", "hub.example")]);
    assert_eq!(everywhere.unwrap().nbd.hosts(), ["hub.example"]);
}

#[test]
fn an_odd_data_directory_is_still_a_path_in_the_url() {
    let settings = load(&["--data-dir", "/a b/50%?"], &[]).unwrap();
    assert_eq!(settings.database_url().unwrap(), "sqlite:///a b/50%25%3F/catalogue.sqlite");
}
