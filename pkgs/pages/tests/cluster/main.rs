//! The roles at a real API server, as the accounts that `manifests/pages` gives them.
//!
//! `cargo xtask test` starts the server and names it in `KILN_PAGES_KUBECONFIG`, with the file of its
//! recorded requests in `KILN_PAGES_AUDIT`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod answers;
mod audit;
#[path = "../common/mod.rs"]
mod common;
mod ha;
mod kills;
mod kup6s;
mod narrow;
mod operator;
mod previews;
mod private;
mod rig;
mod uploads;
mod verbs;
mod whole;

use rig::Rig;

/// The scenarios share one cluster, so they run one after another.
#[tokio::test]
async fn the_roles_at_a_real_api_server() {
    let mut rig = Rig::start().await;
    operator::wrong_fields_are_refused_and_missing_ones_have_defaults(&rig).await;
    operator::a_site_gets_an_address_and_an_ingress(&rig).await;
    operator::a_domain_needs_an_entry_in_the_list(&rig).await;
    operator::two_sites_want_one_address(&rig).await;
    operator::an_object_of_another_program_stays(&rig).await;
    operator::a_changed_route_is_mended(&rig).await;
    operator::a_deleted_site_leaves_nothing(&rig).await;
    operator::sites_of_kup6s_pages_work_unchanged(&rig).await;
    kup6s::their_manifests_have_their_effect(&rig).await;
    let mut whole = whole::pages_follow_git(&rig).await;
    verbs::a_person_rolls_back_and_sees_the_state(&rig, &whole).await;
    verbs::kubectl_shows_all_that_matters(&rig).await;
    previews::previews_follow_branches_and_pull_requests(&rig, &whole).await;
    private::a_private_repository_is_published_and_its_secrets_stay_secret(&rig, &whole).await;
    uploads::an_archive_becomes_a_page(&rig, &whole).await;
    uploads::a_refused_archive_changes_nothing(&rig, &whole).await;
    uploads::a_person_rolls_an_upload_back(&rig, &whole).await;
    whole::pages_stay(&rig, &mut whole).await;
    uploads::an_uploaded_page_outlives_the_disk_of_the_syncer(&rig, &whole).await;
    uploads::a_removed_upload_is_gone(&rig, &whole).await;
    kills::programs_are_killed_at_any_moment(&rig, &mut whole).await;
    drop(whole);
    narrow::secrets_are_read_only_where_a_namespace_allows_it(&rig).await;
    ha::two_syncers(&rig).await;
    operator::a_site_that_was_deleted_meanwhile_is_cleaned_up(&mut rig).await;
    operator::a_second_replica_takes_over(&mut rig).await;
    operator::routes_follow_the_served_apis(&mut rig).await;
    audit::each_role_has_the_rights_that_it_uses_and_no_others(&rig);
}
