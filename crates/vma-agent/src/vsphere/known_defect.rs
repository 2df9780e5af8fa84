//! Releases of ESXi that are known to lose changes: what they say of changed blocks is not believed at all.

use hub_vsphere::HostRelease;

/// A defect of change tracking, and the hosts that have it.
struct Defect {
    /// The first version that it does not hold for, as (major, minor).
    below: (u32, u32),
    /// The first version that it holds for.
    from: (u32, u32),
    /// The first build of these versions that is free of it, where there is one.
    fixed_in: Option<u64>,
    /// What goes wrong, and the vendor's article on it.
    what: &'static str,
}

/// The defects that hold whatever was done to a VM; one that needs an occasion, such as a disk that grows (KB 2090639
/// and KB 95965), is a matter of the occasion where that can be seen.
///
/// Sources: VMware KB 2090639 (ESX and ESXi 4 and 5: tracking of a disk that was ever grown past a multiple of 128 GB
/// is unreliable); KB 2136854 (ESXi 6.0: changes during a consolidation are lost; fixed by the patch
/// ESXi600-201511001, which is Express Patch 4, build 3247720).
const DEFECTS: [Defect; 2] = [
    Defect {
        from: (0, 0),
        below: (6, 0),
        fixed_in: None,
        what: "loses changes of a disk that was ever grown past a multiple of 128 GB, which nobody can tell of a disk afterwards (VMware KB 2090639); move the VM to a host of a later version",
    },
    Defect {
        from: (6, 0),
        below: (6, 1),
        fixed_in: Some(3_247_720),
        what: "loses changes that are made while snapshots are consolidated (VMware KB 2136854); install the patch ESXi600-201511001 or a later one",
    },
];

/// Why nothing that a host of this release says of changes is believed, if it is known to lose some.
///
/// A release that cannot be told apart from one with a defect counts as one.
pub(super) fn of(release: &HostRelease) -> Option<String> {
    let version = release.version.as_deref().unwrap_or_default();
    let Some(number) = number(version) else {
        return Some(
            "the host does not tell its version, which may be one that loses changes".to_owned(),
        );
    };
    let build = release.build.as_deref().unwrap_or_default();
    let has = |it: &&Defect| {
        let free = it.fixed_in.is_some_and(|fixed| build.parse().is_ok_and(|it: u64| it >= fixed));
        (it.from..it.below).contains(&number) && !free
    };
    let found = DEFECTS.iter().find(has)?;
    Some(format!("the VM's host is an ESXi {version} of build {build}, which {}", found.what))
}

/// The first two numbers of a version.
fn number(version: &str) -> Option<(u32, u32)> {
    // What is longer is no version, and would stand in a reason.
    let plain = version.len() <= 32
        && version.bytes().all(|it| it.is_ascii_alphanumeric() || b".-_ ".contains(&it));
    let mut parts = version.split('.');
    let (major, minor) = (parts.next()?, parts.next()?);
    Some((major.parse().ok()?, minor.parse().ok()?)).filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(version: &str, build: &str) -> Option<String> {
        let some = |it: &str| Some(it.to_owned()).filter(|it| !it.is_empty());
        of(&HostRelease { version: some(version), build: some(build) })
    }

    #[test]
    fn trap_u1_a_release_that_is_known_to_lose_changes_is_not_believed() {
        for (version, build, article) in [
            ("4.1.0", "260247", "2090639"),
            ("5.0.0", "469512", "2090639"),
            ("5.5.0", "99999999", "2090639"),
            ("6.0.0", "2494585", "2136854"),
            ("6.0.0", "3247719", "2136854"),
            ("6.0.0", "unknown", "2136854"),
            ("6.0.0", "", "2136854"),
        ] {
            let why = told(version, build).unwrap();
            assert!(why.contains(article) && why.contains(version), "{version} {build}: {why}");
        }
        for (version, build) in [
            ("6.0.0", "3247720"),
            ("6.0.0", "3380124"),
            ("6.5.0", "1"),
            ("6.7.0", "8169922"),
            ("8.0.2", "22380479"),
            ("10.1.0", "1"),
        ] {
            assert_eq!(told(version, build), None, "{version} {build}");
        }
    }

    #[test]
    fn a_version_that_is_not_told_may_be_any() {
        for version in ["", "8", "six.five", "6.0|0", &"6.5".repeat(20)] {
            assert!(
                told(version, "22380479").unwrap().contains("does not tell its version"),
                "{version}"
            );
        }
    }
}
