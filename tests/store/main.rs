//! The contract of [`Store`], tested for every implementation.

mod audio;
mod damaged;
mod events;
mod known;
mod lists;
mod model;
#[path = "../support/postgres.rs"]
mod postgres_server;
mod queue;
mod raw;
mod receipts;
mod received;
mod shared;
mod shares;
mod statements;
mod support;
mod tasks;
mod trouble;
mod usage;
mod webhooks;

use std::sync::Arc;

use postgres_server::Database;
use voicegate::{
    model::note::Status,
    store::{NewNote, NoteQuery, PostgresStore, SqliteStore, Step, Store, Time},
};

/// Opens an empty store, with its folder.
async fn sqlite() -> (Arc<dyn Store>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(&folder.path().join("nested/voicegate.db")).await.expect("a store");
    (Arc::new(store), folder)
}

/// Opens an empty store on PostgreSQL, if a server is available.
async fn postgres() -> Option<(Arc<dyn Store>, Database)> {
    let database = Database::make().await?;
    let store = PostgresStore::open(&database.url(), Time::Caller).await.expect("a store");
    Some((Arc::new(store), database))
}

/// Runs each clause of the contract against a fresh store of each kind.
macro_rules! contract {
    ($($group:ident: $($clause:ident),+;)+) => {
        mod sqlite {
            $($(
                #[tokio::test]
                async fn $clause() {
                    let (store, _keep) = super::sqlite().await;
                    super::$group::$clause(store).await;
                }
            )+)+
        }
        mod postgres {
            $($(
                #[tokio::test]
                async fn $clause() {
                    if let Some((store, _keep)) = super::postgres().await {
                        super::$group::$clause(store).await;
                    }
                }
            )+)+
        }
    };
}

/// Runs clauses that also get the database behind the store.
macro_rules! contract_with_database {
    ($($group:ident: $($clause:ident),+;)+) => {
        mod sqlite_behind {
            $($(
                #[tokio::test]
                async fn $clause() {
                    let (store, folder) = super::sqlite().await;
                    let raw = super::raw::Raw::sqlite(folder.path()).await;
                    super::$group::$clause(store, raw).await;
                }
            )+)+
        }
        mod postgres_behind {
            $($(
                #[tokio::test]
                async fn $clause() {
                    if let Some((store, database)) = super::postgres().await {
                        let raw = super::raw::Raw::postgres(&database.url()).await;
                        super::$group::$clause(store, raw).await;
                    }
                }
            )+)+
        }
    };
}

contract_with_database! {
    audio:
        equal_audio_of_a_tenant_is_stored_once_and_goes_with_its_last_note,
        sent_audio_is_stored_with_the_change_of_its_note,
        speech_is_found_for_as_long_as_a_note_has_its_audio,
        retention_removes_audio_with_the_last_note_that_has_it,
        interrupted_changes_leave_neither_audio_without_a_note_nor_a_note_without_audio;
    damaged:
        unreadable_note_does_not_block_its_lane,
        list_continues_after_an_unreadable_note,
        unreadable_note_can_be_erased,
        receipts_and_jobs_of_an_unreadable_note_block_no_others,
        unreadable_event_is_skipped,
        unreadable_learned_facts_are_learned_again,
        unreadable_upload_can_be_removed;
    lists:
        recipient_is_found_among_100_000_notes;
    received:
        erased_note_leaves_only_that_its_message_came,
        retention_removes_audio_then_the_note_then_its_message,
        damaged_received_note_blocks_no_other_and_is_left_out;
}

contract! {
    received:
        message_is_stored_once_however_batches_are_regrouped,
        simultaneous_callbacks_make_one_note,
        received_note_is_announced_once_and_then_listed,
        job_waits_for_its_next_try_and_is_given_up_when_its_time_is_over,
        deadline_that_is_nearly_over_leaves_one_try,
        old_audio_is_listed_in_pages_also_when_it_stays,
        postponed_transcription_is_not_counted_and_lets_its_server_rest,
        paused_connection_does_not_delay_received_notes,
        received_notes_are_listed_by_person_chat_and_connection,
        quoted_note_of_ours_is_named_by_its_own_id;
    known:
        media_handle_is_found_by_connection_form_and_bytes_until_it_expires,
        old_media_is_forgotten,
        every_claim_says_that_its_connection_opens_no_conversations,
        successful_attempt_can_pause_its_connection,
        learned_facts_are_read_by_lane,
        refused_send_goes_back_to_preparation;
    queue:
        accepted_note_is_stored_and_due,
        idempotency_key_is_claimed_once_and_expires,
        simultaneous_requests_with_one_key_make_one_note,
        full_queue_refuses_and_stores_nothing,
        only_the_head_of_a_lane_is_leased,
        connection_gets_no_more_leases_than_its_concurrency,
        lease_is_exclusive_until_it_expires,
        write_with_an_old_fence_changes_nothing,
        lease_that_expires_while_sending_is_an_interruption,
        retry_waits_until_due_and_keeps_its_place_in_the_lane,
        pause_affects_only_its_connection,
        held_lane_is_released_in_time,
        expired_note_is_claimed_from_a_blocked_lane,
        note_that_changes_connection_joins_the_new_lane,
        learned_facts_are_kept_until_they_expire_or_are_dropped,
        old_audio_is_listed_and_old_notes_are_removed,
        secret_is_created_once,
        ending_all_leases_frees_them,
        concurrent_claims_never_share_a_delivery,
        note_that_joins_a_busy_lane_waits_there,
        expired_notes_take_no_slots_of_their_connection,
        note_is_visible_only_to_its_tenant,
        rate_limits_attempts_within_its_window,
        lane_is_ordered_by_due_time,
        slots_go_to_the_tenant_with_fewest_in_flight,
        reserved_slots_are_for_tenants_with_few_in_flight,
        waiting_note_can_be_cancelled_and_one_in_flight_cannot,
        download_takes_no_slot_of_its_connection_and_keeps_its_place_in_the_lane,
        busy_host_does_not_delay_other_hosts,
        deliveries_in_progress_are_not_taken_from_a_living_process,
        deliveries_of_a_dead_process_are_subject_to_fair_shares_again,
        final_status_writes_have_slots_of_their_own;
    events:
        every_relevant_status_change_is_one_event,
        webhook_events_of_a_note_are_delivered_in_order,
        events_can_be_read_from_any_position,
        erased_note_leaves_no_events,
        old_events_are_removed_unless_their_delivery_is_pending,
        repeatedly_failing_connection_is_paused_and_probed_by_one_note,
        concurrent_failures_count_once,
        pause_grows_with_every_failed_probe,
        success_ends_a_pause_unless_the_provider_asked_for_it;
    receipts:
        receipt_advances_the_note_and_a_replay_changes_nothing,
        early_receipt_waits_until_its_message_id_is_known,
        early_receipt_is_applied_once_its_note_is_found_by_another_name,
        late_receipt_finds_an_erased_note_without_its_number,
        receipt_for_a_note_in_flight_is_applied_after_the_attempt,
        receipt_resolves_an_unknown_note_and_releases_its_lane,
        guess_resolves_only_a_note_whose_message_is_not_known,
        receipts_are_processed_once_however_they_are_batched,
        receipt_of_another_connection_does_not_match,
        delivered_note_is_not_sent_again,
        deadline_stalls_only_a_note_without_a_receipt,
        look_up_is_due_once_and_ends_when_the_outcome_is_known;
    lists:
        list_shows_one_tenant_newest_first_and_filtered,
        source_is_stored_beside_its_note_and_removed_with_its_audio,
        note_that_is_due_sooner_is_sent_first,
        only_a_finished_note_is_erased,
        connection_health_is_recorded,
        unfinished_deliveries_are_counted_by_connection_and_state,
        upload_belongs_to_its_tenant_until_it_is_removed;
    tasks:
        order_has_one_task_while_it_runs,
        key_of_an_order_gets_its_task_until_it_expires,
        tenant_has_a_limited_number_of_running_tasks,
        step_of_a_task_has_one_holder,
        tasks_take_turns,
        notes_that_did_not_arrive_are_found_in_the_order_of_their_time,
        note_that_was_sent_again_is_marked;
    webhooks:
        every_try_to_tell_of_an_event_is_recorded,
        webhook_that_fails_for_five_days_is_paused,
        webhook_that_had_nothing_to_tell_for_days_has_not_failed_for_days,
        failure_during_a_pause_does_not_shorten_it_and_a_success_ends_it,
        new_settings_restart_the_count_of_failures,
        event_is_told_again_by_order,
        everything_that_was_not_taken_is_told_again_in_order;
    usage:
        usage_counts_each_note_once_with_its_present_status,
        usage_outlives_erasure_and_removal_of_its_notes;
    shares:
        notes_due_after_a_day_do_not_fill_the_queue,
        notes_that_become_due_within_a_day_count_as_waiting,
        tenant_below_its_share_is_accepted_although_others_fill_the_queue,
        kept_audio_counts_for_its_tenant,
        document_that_fails_its_round_trip_is_refused_alone,
        every_filter_combination_lists_exactly_the_matching_notes,
        positions_reveal_nothing_about_other_tenants;
}

/// Returns each combination of filters.
fn filters() -> impl Iterator<Item = NoteQuery<'static>> {
    (0..8).map(|bits| NoteQuery {
        tenant: "t",
        status: (bits & 1 > 0).then_some(Status::Failed),
        to: (bits & 2 > 0).then_some("+1"),
        via: (bits & 4 > 0).then_some("c"),
        before: None,
        limit: 50,
    })
}

/// A list reads only the end of an index, however many notes there are.
#[tokio::test]
async fn every_list_on_sqlite_is_read_from_the_end_of_an_index() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(&folder.path().join("voicegate.db")).await.expect("a store");
    for wanted in filters() {
        let plan = store.explain(&wanted).await.expect("a plan");
        let range = match (wanted.to, wanted.via, wanted.status) {
            (Some(_), ..) => "recipient (tenant=? AND recipient=? AND via=? AND status=? AND id<?)",
            (None, Some(_), _) => "via (tenant=? AND via=? AND status=? AND id<?)",
            (None, None, Some(_)) => "status (tenant=? AND status=? AND id<?)",
            (None, None, None) => "notes_listed (tenant=? AND id<?)",
        };
        // The union of the ends is sorted, which is no more than the pages.
        let of_notes: Vec<&String> = plan.iter().filter(|line| line.contains("notes")).collect();
        let ends = of_notes.iter().filter(|line| line.ends_with(range)).count();
        assert!(ends > 0, "{wanted:?}: {plan:#?}");
        for line in of_notes {
            let bounded =
                [range, "(id=?)", "(tenant=? AND recipient=?)", "(tenant=? AND recipient=? AND via>?)"];
            let is_bounded = bounded.iter().any(|end| line.ends_with(end));
            assert!(line.starts_with("SEARCH notes USING") && is_bounded, "{wanted:?}: {line}\n{plan:#?}");
        }
    }
}

#[tokio::test]
async fn every_list_on_postgresql_is_read_from_the_end_of_an_index() {
    let Some(database) = Database::make().await else { return };
    let store = PostgresStore::open(&database.url(), Time::Caller).await.expect("a store");
    let raw = sqlx::PgPool::connect(&database.url()).await.expect("the database");
    let expect_indexes = async |when: &str| {
        for wanted in filters() {
            let plan = store.explain(&wanted).await.expect("a plan").join("\n");
            assert!(!plan.contains("Seq Scan"), "{when}, {wanted:?}:\n{plan}");
            for walk in ["Filter: ((tenant", "Merge", "Hash"] {
                assert!(!plan.contains(walk), "{when}, {wanted:?}:\n{plan}");
            }
            let index = match (wanted.to, wanted.via, wanted.status) {
                (Some(_), ..) => "notes_listed_by_recipient",
                (None, Some(_), _) => "notes_listed_by_via",
                (None, None, Some(_)) => "notes_listed_by_status",
                (None, None, None) => "notes_listed",
            };
            let backwards = [format!("Scan Backward using {index} on"), format!("Scan using {index} on")];
            assert!(backwards.iter().any(|scan| plan.contains(scan)), "{when}, {wanted:?}:\n{plan}");
            let ends = plan.matches("Index Cond: ((ROW(tenant").count();
            assert!(ends > 0, "{when}, {wanted:?}:\n{plan}");
        }
    };
    expect_indexes("while it is empty").await;
    // One recipient and one connection have all of them, which is when another index looks as good.
    sqlx::query(
        "INSERT INTO notes (id, tenant, status, created_at, doc, recipient, via)
         SELECT 'vn_' || n, 't', 'accepted', 0, '{}', '+1', 'c' FROM generate_series(10000, 29999) AS n",
    )
    .execute(&raw)
    .await
    .expect("filled");
    expect_indexes("without statistics").await;
    sqlx::query("ANALYZE notes").execute(&raw).await.expect("analysed");
    expect_indexes("with statistics").await;
}

/// Positions that were plain numbers stay valid as long as clients may hold them.
#[tokio::test]
async fn only_plain_positions_from_before_an_upgrade_are_accepted() {
    let (store, folder) = sqlite().await;
    let fail = async |store: &Arc<dyn Store>| {
        store.accept(&support::new_note("t", "c", "r", support::start())).await.expect("accepted");
        let send = support::claim(store, support::start()).await.remove(0);
        let mut note = send.note.clone();
        note.status = Status::Failed;
        store.write(&send, &voicegate::store::Change::new(note, Step::Done)).await.expect("written");
    };
    for _ in 0..3 {
        fail(&store).await;
    }
    store.close().await;
    drop(store);
    // This is the state after an upgrade.
    let raw = raw::Raw::sqlite(folder.path()).await;
    raw.change("UPDATE plain_positions SET until = 3 WHERE $1 = $2", "x", "x").await;
    drop(raw);
    let path = folder.path().join("nested/voicegate.db");
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).await.expect("a store"));
    fail(&store).await;
    for (position, expected) in [("0", Some(4)), ("2", Some(2)), ("3", Some(1)), ("4", None), ("99", None)] {
        let wanted =
            voicegate::store::EventQuery { tenant: "t", note: None, after: Some(position), limit: 9 };
        let found = store.events(&wanted).await.ok().map(|events| events.len());
        assert_eq!(found, expected, "{position}");
    }
}

/// Free pages are copied into backups, so they must not contain erased data.
#[tokio::test]
async fn erased_source_is_overwritten_in_the_database_file() {
    let mark = b"a voice that asked to be forgotten";
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("voicegate.db");
    let holds = || std::fs::read(&path).expect("the file").windows(mark.len()).any(|found| found == mark);
    {
        let store = SqliteStore::open(&path).await.expect("a store");
        let audio = bytes::Bytes::from(mark.repeat(1000));
        let new =
            NewNote { source: Some(audio.into()), ..support::new_note("t", "c", "r", support::start()) };
        store.accept(&new).await.expect("accepted");
        let store: Arc<dyn Store> = Arc::new(store);
        let claims = support::claim(&store, support::start()).await;
        support::write(&store, &claims[0], Step::Done).await.expect("written");
        let raw = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await.expect("a pool");
        let moved =
            async || sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&raw).await.expect("moved");
        moved().await;
        assert!(holds());
        assert!(store.erase(&new.note.erased(), &[]).await.expect("asked"));
        moved().await;
        raw.close().await;
    }
    assert!(!holds());
}

#[tokio::test]
async fn database_in_use_is_refused_and_a_closed_one_is_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("voicegate.db");
    let store = SqliteStore::open(&path).await.expect("a store");
    let error = SqliteStore::open(&path).await.expect_err("in use").to_string();
    assert!(error.contains("in use"), "{error}");
    drop(store);
    SqliteStore::open(&path).await.expect("free again");
}

#[tokio::test]
async fn unreadable_note_does_not_block_other_claims() {
    use voicegate::store::{Bounds, ClaimRequest, SlotsByClass};

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("voicegate.db");
    let store = SqliteStore::open(&path).await.expect("a store");
    let notes = ["broken", "sound"].map(|recipient| support::new_note("t", "c", recipient, support::start()));
    for new in &notes {
        store.accept(new).await.expect("accepted");
    }
    let raw = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await.expect("a pool");
    let broken = sqlx::query("UPDATE notes SET doc = '{}' WHERE id = $1").bind(notes[0].note.id.to_string());
    broken.execute(&raw).await.expect("broken");
    let request = ClaimRequest {
        now: support::start(),
        lease_until: support::start(),
        slots: SlotsByClass::each(10, 0),
        held: &[],
        bounds: &|_| Bounds::of(10, None),
    };
    let claims = store.claim(&request).await.expect("claimed").notes;
    assert_eq!(claims.iter().map(|claim| claim.note.id).collect::<Vec<_>>(), [notes[1].note.id]);
}

#[cfg(unix)]
#[tokio::test]
async fn database_files_are_private_to_their_owner() {
    use std::os::unix::fs::PermissionsExt;

    let (store, folder) = sqlite().await;
    store.ping().await.expect("alive");
    for entry in std::fs::read_dir(folder.path().join("nested")).expect("a folder").flatten() {
        let mode = entry.metadata().expect("facts").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
    }
}

/// Waiting notes would otherwise wait for as long as the clock is behind.
#[tokio::test]
async fn start_with_an_earlier_wall_clock_continues_from_the_newest_entry() {
    use voicegate::{
        config::Database,
        model::clock::{Clock, TestClock},
    };

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("voicegate.db");
    let new = support::new_note("t", "c", "r", support::after(3600));
    {
        let store = SqliteStore::open(&path).await.expect("a store");
        store.accept(&new).await.expect("accepted");
    }
    let clock = TestClock::new(support::start());
    let store = voicegate::store::open(&Database::Sqlite(path), &clock).await.expect("a store");
    assert_eq!(clock.now(), support::after(3600));
    assert_eq!(support::ids(&support::claim(&store, clock.now()).await), [new.note.id]);
}

#[tokio::test]
async fn committed_note_survives_a_reopen() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("voicegate.db");
    let new = support::new_note("t", "c", "r", support::start());
    {
        let store = SqliteStore::open(&path).await.expect("a store");
        store.accept(&new).await.expect("accepted");
    }
    let store = SqliteStore::open(&path).await.expect("a store");
    assert_eq!(store.note(new.note.id, None).await.expect("read"), Some(new.note));
}

#[test]
fn queue_on_sqlite_matches_its_model() {
    model::explore(150, sqlite);
}

#[test]
fn queue_on_postgresql_matches_its_model() {
    if std::env::var_os("VOICEGATE_TEST_POSTGRES").is_none() {
        return println!("skipped: there is no PostgreSQL");
    }
    model::explore(25, async || postgres().await.expect("a database"));
}

#[test]
fn usage_on_sqlite_is_the_sum_of_everything_that_was_accepted() {
    usage::explore(60, sqlite);
}

#[test]
fn usage_on_postgresql_is_the_sum_of_everything_that_was_accepted() {
    if std::env::var_os("VOICEGATE_TEST_POSTGRES").is_none() {
        return println!("skipped: there is no PostgreSQL");
    }
    usage::explore(10, async || postgres().await.expect("a database"));
}
