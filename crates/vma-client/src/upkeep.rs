//! Answers about logins and clean-ups from the wire.

use hub_domain::fault::Fault;
use hub_domain::owed::CleanupOutcome;
use hub_domain::source::SourceAbout;
use hub_vma_api as wire;

use crate::copy::fault;
use crate::inventory::uuid;
use crate::transport::shortened;

/// Who let a VMA log in.
pub(crate) fn about_from_wire(about: &wire::SourceAbout) -> SourceAbout {
    // Half an id would be another one; who says none that can be kept is known by the name of its host.
    let uuid = uuid("instance_uuid", about.instance_uuid.as_deref());
    SourceAbout {
        product: shortened(&about.product),
        version: shortened(&about.version),
        build: shortened(&about.build),
        api_type: shortened(&about.api_type),
        instance_uuid: uuid.ok().flatten(),
    }
}

/// What became of a clean-up; one that failed always says why.
pub(crate) fn outcome_from_wire(report: wire::CleanupReport) -> CleanupOutcome {
    match report.outcome {
        wire::CleanupOutcome::Removed => CleanupOutcome::Removed,
        wire::CleanupOutcome::None => CleanupOutcome::None,
        wire::CleanupOutcome::Failed => CleanupOutcome::Failed(match report.error {
            Some(error) => fault(error),
            None => Fault::new("vma/garbled-answer", "the VMA gave no reason; look at its log"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_clean_up_always_has_a_reason() {
        let report = |outcome, error| wire::CleanupReport { outcome, error };
        let failed = outcome_from_wire(report(wire::CleanupOutcome::Failed, None));
        assert!(matches!(failed, CleanupOutcome::Failed(fault) if !fault.detail.is_empty()));
        let none = outcome_from_wire(report(wire::CleanupOutcome::None, None));
        assert_eq!(none, CleanupOutcome::None);
    }

    #[test]
    fn an_id_is_compared_in_one_spelling() {
        let about = wire::SourceAbout {
            instance_uuid: Some(" AB-1 ".to_owned()),
            ..wire::SourceAbout::default()
        };
        assert_eq!(about_from_wire(&about).instance_uuid.as_deref(), Some("ab-1"));
        for none in ["", " ", &"x".repeat(256), "a\0b"] {
            let about = wire::SourceAbout { instance_uuid: Some(none.to_owned()), ..about.clone() };
            assert_eq!(about_from_wire(&about).instance_uuid, None, "{none}");
        }
    }
}
