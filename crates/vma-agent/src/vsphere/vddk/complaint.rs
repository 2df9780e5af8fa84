//! What nbdkit and VDDK say when something fails, made into what to do.

/// The longest line that is passed on.
const LINE: usize = 300;

/// Words of a server that refuses an account.
const REFUSED: &[&str] = &["user name or password", "Login failed"];

/// Words of a server that does not let VDDK in for a VM: for a wrong password and for a missing privilege.
const NOT_FOR_THIS: &[&str] = &["Insufficient permissions"];

/// Words in a complaint, and what to do about them; the first that is found counts.
const ADVICE: [(&[&str], &str); 10] = [
    (
        &["realpath:", "libvixDiskLib", "VDDK version must be"],
        "the library cannot be loaded; unpack VDDK 6.5 to 8 where source.vddk.libdir says",
    ),
    (
        &["cannot open plugin"],
        "nbdkit has no plugin for VDDK; install it, or name its file in source.vddk.plugin",
    ),
    (
        &["missing parameter", "unknown parameter"],
        "nbdkit refuses its arguments; compare source.vddk with docs/vsphere.md",
    ),
    (REFUSED, "the server refuses the login for VDDK; check the account and its password"),
    (
        NOT_FOR_THIS,
        "the server refuses the login for VDDK; check the account and its privilege VirtualMachine.Provisioning.DiskRandomRead on this VM",
    ),
    (
        &[
            "Failed to allocate the requested",
            "NFC_NO_RESOURCES",
            "Resource temporarily unavailable",
        ],
        "the host has no room for one more transfer; lower source.readers_per_host, and look at who else copies from it",
    ),
    (
        &["Failed to verify SSL certificate", "SSL", "Unknown error"],
        "most often the thumbprint is another one; source.vddk.thumbprint is the SHA-1 of the server's certificate",
    ),
    (
        &[
            "Host address lookup",
            "could not connect",
            "cannot connect",
            "NFC_NETWORK",
            "server refused connection",
        ],
        "the VMA cannot reach the host that runs the VM; it needs port 902 there, and the host's name in its DNS",
    ),
    (
        &["not a virtual disk", "file was not found", "does not exist"],
        "the disk's file is not where the server said; run discovery again",
    ),
    (
        &["file access error"],
        "the datastore cannot be read; look at its health in the client of vSphere",
    ),
];

/// How VDDK was not let in; every other try may count against the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotLetIn {
    /// The account was refused.
    Anywhere,
    /// It was not let in for this VM; one may lack a privilege that others have.
    Here,
}

/// Whether VDDK was not let in, by what the plugin says of its calls.
///
/// A disk may be called anything, and its name stands in errors of opening it; so only a refused connection speaks of the
/// account.
pub(super) fn not_let_in(said: &str) -> Option<NotLetIn> {
    let says = |line: &str, words: &[&str]| words.iter().any(|it| line.contains(it));
    let errors = || said.lines().filter(|it| it.contains("error:"));
    if errors().any(|it| it.contains("VixDiskLib_Connect") && says(it, REFUSED)) {
        return Some(NotLetIn::Anywhere);
    }
    errors().any(|it| says(it, NOT_FOR_THIS)).then_some(NotLetIn::Here)
}

/// Why something failed and what to do: from what the process said, else from how it ended, else from the error.
pub(super) fn reason(said: &str, ended: Option<&str>, error: &str) -> String {
    // The plugin's hint at its manual is no cause.
    let errors = said.lines().filter(|it| it.contains("error") && !it.contains("can be caused by"));
    let line = errors
        .map(str::trim)
        .next_back()
        .or_else(|| said.lines().rfind(|it| !it.trim().is_empty()));
    let advised = |text: &str| ADVICE.iter().find(|it| it.0.iter().any(|word| text.contains(word)));
    let advice = line.and_then(advised).or_else(|| advised(said));
    let line = line.map(|it| it.trim().chars().take(LINE).collect::<String>());
    match (line, advice, ended) {
        (Some(line), Some((_, advice)), _) => format!("VDDK: {line}; {advice}"),
        (Some(line), None, _) => format!("VDDK: {line} ({error})"),
        (None, _, Some(ended)) => {
            format!(
                "the process that read the disk has ended ({ended}); look at the VMA's log, then run the job again"
            )
        }
        (None, _, None) => {
            format!("VDDK does not answer: {error}; look at the host, then run the job again")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_complaint_says_what_to_do() {
        let cases = [
            ("nbdkit: error: realpath: /nowhere: No such file or directory", "source.vddk.libdir"),
            (
                "nbdkit: error: /x/lib64/libvixDiskLib.so.8: cannot open shared object file",
                "unpack VDDK",
            ),
            ("nbdkit: error: cannot open plugin 'vddk': x.so: cannot open", "source.vddk.plugin"),
            (
                "nbdkit: error: remote connection requested, missing parameter: vm",
                "docs/vsphere.md",
            ),
            ("nbdkit: vddk[1]: error: VixDiskLib_ConnectEx: Unknown error", "SHA-1"),
            (
                "nbdkit: vddk[1]: error: VixDiskLib_ConnectEx: Insufficient permissions in the host operating system",
                "login",
            ),
            (
                "nbdkit: vddk[1]: error: [NFC ERROR] Failed to allocate the requested 2097176 bytes",
                "readers_per_host",
            ),
            ("nbdkit: vddk[1]: error: Host address lookup for server esx1 failed", "902"),
            (
                "nbdkit: vddk[1]: error: VixDiskLib_Open: [ds] a.vmdk: The file specified is not a virtual disk",
                "discovery",
            ),
        ];
        for (said, expected) in cases {
            let reason = reason(&format!("first\n{said}\n"), None, "lost");
            assert!(reason.contains(expected), "{reason}");
            assert!(reason.contains(said), "{reason}");
        }
    }

    #[test]
    fn a_refused_account_is_told_from_a_missing_privilege_and_from_the_name_of_a_disk() {
        let connect = "nbdkit: vddk[1]: error: VixDiskLib_ConnectEx: ";
        let open = "nbdkit: vddk[1]: error: VixDiskLib_Open: [ds] Login failed.vmdk: ";
        let cases = [
            (
                format!("{connect}Cannot complete login due to an incorrect user name or password"),
                Some(NotLetIn::Anywhere),
            ),
            (format!("{connect}Login failed"), Some(NotLetIn::Anywhere)),
            (
                format!("{connect}Insufficient permissions in the host operating system"),
                Some(NotLetIn::Here),
            ),
            (format!("{open}A file was not found"), None),
            ("nbdkit: debug: file=[ds] Insufficient permissions.vmdk".to_owned(), None),
        ];
        for (said, expected) in cases {
            assert_eq!(not_let_in(&said), expected, "{said}");
        }
    }

    #[test]
    fn a_process_that_said_nothing_is_told_by_its_end() {
        assert!(reason("", Some("signal: 9 (SIGKILL)"), "lost").contains("SIGKILL"));
        assert!(reason("", None, "no answer in 5 s").contains("no answer in 5 s"));
        assert!(reason("odd", None, "lost").contains("odd"));
        let long = format!("nbdkit: error: {}", "x".repeat(100_000));
        assert!(reason(&long, None, "lost").len() < 500);
    }
}
