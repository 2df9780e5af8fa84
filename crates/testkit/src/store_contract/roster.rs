//! The list of all behaviours.

/// Makes one test per behaviour, each on a fresh catalogue.
///
/// The factory is an `async fn() -> anyhow::Result<Option<StoreUnderTest>>`; `None` skips.
#[macro_export]
macro_rules! store_contract {
    ($factory:path) => {
        $crate::store_contract_tests!($factory;
            inventory::a_vm_reads_back_as_written,
            inventory::names_are_labels_and_sources_tell_vms_apart,
            inventory::trap_c23_long_and_strange_names_are_whole,
            inventory::ids_of_a_source_differ_in_case,
            inventory::disks_are_stored_without_a_job,
            inventory::pages_go_by_id,
            inventory::a_vm_can_be_changed,
            inventory::a_disk_keeps_its_row_when_it_changes,
            inventory::totals_count_present_disks,
            inventory::references_must_exist,
            identity::what_a_hypervisor_says_reads_back,
            identity::trap_u15_a_vm_is_stored_once_per_key,
            identity::trap_d8_a_retired_disk_gives_its_key_free,
            identity::disks_may_exchange_their_keys,
            links::the_same_rows_are_linked,
            links::trap_c11_a_deleted_job_leaves_its_disks,
            links::updating_a_disk_never_touches_its_job,
            links::a_retired_disk_is_not_linked,
            replications::a_replication_reads_back_as_written,
            replications::a_stale_replication_is_a_conflict,
            replications::replications_are_listed_by_id,
            backups::a_run_and_its_jobs_read_back_as_written,
            backups::a_yes_a_no_and_no_word_stay_apart,
            backups::every_state_reads_back,
            backups::a_stale_job_is_a_conflict,
            backups::trap_d31_jobs_are_found_by_each_filter,
            backups::trap_d13_a_chain_is_its_key_and_nothing_else,
            backups::chains_are_put_and_removed,
            backups::stats_follow_the_domain,
            backups::suspicions_are_kept_and_counted,
            backups::a_parent_must_exist,
            removals::trap_c10_points_outlive_their_vm,
            removals::what_is_stood_upon_stays,
            removals::the_last_job_takes_its_run_along,
            removals::a_used_repository_stays,
            removals::trap_c16_what_a_vm_uses_stays,
            restores::a_restore_reads_back_and_is_compared,
            restores::a_verification_keeps_its_verdicts,
            restores::unfinished_work_is_found,
            restores::the_history_outlives_the_point,
            access::secrets_come_back_as_they_went_in,
            access::what_a_vma_reads_is_noted_alone,
            access::repository_settings_are_kept,
            access::names_are_taken_once,
            access::tokens_are_found_by_digest,
            access::tokens_are_replaced_in_one_piece,
            access::what_is_absent_is_missing,
            owed::trap_u12_what_is_owed_is_kept_until_it_is_struck_off,
            owed::trap_u12_what_is_owed_anew_is_not_struck_off_for_an_older_answer,
            units::dropped_work_leaves_nothing_behind,
            units::a_view_sees_only_what_is_committed,
            units::nothing_is_kept_of_a_unit_that_was_refused,
            units::two_units_on_one_vm_lose_nothing,
            units::two_units_that_add_the_same_vm,
            units::many_units_at_once_all_come_through_with_retries,
            units::units_on_different_vms_do_not_conflict,
            units::locking_what_does_not_exist,
            bulk::twelve_hundred_vms_at_once,
        );
    };
}

/// Spells the tests of [`store_contract!`](crate::store_contract!).
#[doc(hidden)]
#[macro_export]
macro_rules! store_contract_tests {
    ($factory:path; $($module:ident::$name:ident),+ $(,)?) => { $(
        #[tokio::test]
        async fn $name() -> $crate::store_contract::Outcome {
            let Some(under_test) = $factory().await? else { return Ok(()) };
            $crate::store_contract::$module::$name(&*under_test.store).await
        }
    )+ };
}
