//! What a refusal of a VMA is for whoever asked the hub; the VMA's own codes are kept, and each has a page.

use crate::ErrorClass::{self, Conflict, Unavailable, Upstream};

/// A refusal that says no more than its sentence.
pub(crate) const UNNAMED: &str = "vma/refused";

/// The codes of sources and of VMAs that reach whoever asked the hub, and what each is to them.
///
/// A login that a vCenter refuses is no fault of the caller's own login at the hub, so none of these is
/// `Unauthorized`; and what is not at the source is known here all the same, so none is `NotFound`.
const KNOWN: &[(&str, ErrorClass)] = &[
    ("source/call-failed", Upstream),
    ("source/capacity-mismatch", Conflict),
    ("source/changed-while-reading", Conflict),
    ("source/credentials-missing", Conflict),
    ("source/disk-not-found", Conflict),
    ("source/disk-unreadable", Conflict),
    ("source/disk-unsupported", Conflict),
    ("source/endpoint-unreachable", Unavailable),
    ("source/endpoint-untrusted", Conflict),
    ("source/leftover-snapshot", Conflict),
    ("source/login-refused", Conflict),
    ("source/not-permitted", Conflict),
    ("source/other-disk", Conflict),
    ("source/other-endpoint", Conflict),
    ("source/other-vcenter", Conflict),
    ("source/read-failed", Upstream),
    ("source/snapshot-in-use", Conflict),
    ("source/snapshot-vm-missing", Conflict),
    ("source/state-unwritable", Unavailable),
    ("source/too-many-files", Unavailable),
    ("source/unavailable", Unavailable),
    ("source/vddk-failed", Unavailable),
    ("source/vddk-unusable", Conflict),
    ("source/vm-ambiguous", Conflict),
    ("source/vm-has-snapshots", Conflict),
    ("source/vm-not-found", Conflict),
    ("source/vm-running-without-snapshot", Conflict),
    ("source/vm-unreadable", Conflict),
    ("vma/invalid-certificate", Upstream),
    ("vma/other-hub", Conflict),
    ("vma/stopping", Unavailable),
    ("vma/too-many-jobs", Unavailable),
];

/// The code and the class of a refusal with this code of the VMA's.
///
/// A VMA that takes the hub's own request for a wrong one, or failed unexpectedly, is no fault of whoever asked the
/// hub; and a code that is not known here has no page.
pub(crate) fn told_as(code: &str) -> (&'static str, ErrorClass) {
    if let Some((code, class)) = KNOWN.iter().find(|(known, _)| *known == code) {
        return (code, *class);
    }
    let defect = code == "internal" || code.starts_with("request/") || code.starts_with("copy/");
    (UNNAMED, if defect { Upstream } else { Conflict })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_of_a_source_with_a_page_is_told_as_itself_and_none_without() {
        let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/problems");
        let mut explained = BTreeSet::new();
        for page in std::fs::read_dir(format!("{pages}/source")).unwrap() {
            let page = page.unwrap().path();
            let name = page.file_stem().unwrap().to_str().unwrap();
            explained.insert(format!("source/{name}"));
        }
        let known: Vec<_> = KNOWN.iter().map(|(code, _)| (*code).to_owned()).collect();
        let sources = known.iter().filter(|code| code.starts_with("source/")).cloned();
        assert_eq!(sources.collect::<BTreeSet<_>>(), explained);
        for code in &known {
            let page = format!("{pages}/{code}.md");
            assert!(std::path::Path::new(&page).is_file(), "{code} has no page");
            assert_eq!(told_as(code).0, code);
        }
    }

    #[test]
    fn a_refusal_is_never_taken_for_one_of_the_callers_own_login_or_request() {
        let odd = ["internal", "request/unauthorized", "copy/invalid-request", "what/ever", ""];
        for code in KNOWN.iter().map(|(code, _)| *code).chain(odd) {
            let class = told_as(code).1;
            assert!(matches!(class, Conflict | Unavailable | Upstream), "{code}: {class:?}");
        }
        for code in odd {
            assert_eq!(told_as(code).0, UNNAMED);
        }
        assert_eq!(told_as("internal").1, Upstream);
        assert_eq!(told_as("what/ever").1, Conflict);
    }
}
