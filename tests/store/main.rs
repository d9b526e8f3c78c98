//! The contract of [`Store`], for every implementation there is.

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
mod shared;
mod shares;
mod support;
mod trouble;

use std::sync::Arc;

use postgres_server::Database;
use voicegate::{
    model::note::Status,
    store::{NewNote, PostgresStore, SqliteStore, Step, Store, Time, Wanted},
};

/// A store that nobody has used, and what keeps it alive.
async fn sqlite() -> (Arc<dyn Store>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(&folder.path().join("nested/voicegate.db")).await.expect("a store");
    (Arc::new(store), folder)
}

/// The same on PostgreSQL, where there is one.
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

/// The same with the database behind the store.
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
    damaged:
        a_note_that_cannot_be_read_holds_no_place_in_the_queue,
        a_list_goes_on_behind_a_note_that_cannot_be_read,
        a_note_that_cannot_be_read_is_erased,
        what_belongs_to_a_note_that_cannot_be_read_stops_nobody,
        an_event_that_cannot_be_read_is_passed_over,
        what_was_learned_and_cannot_be_read_is_learned_again,
        an_upload_that_cannot_be_read_can_be_removed;
}

contract! {
    known:
        media_is_found_by_connection_form_and_bytes_until_it_ends,
        old_media_is_forgotten,
        connection_that_opens_no_conversations_is_told_to_every_claim,
        success_can_make_a_connection_wait,
        what_is_known_of_a_recipient_is_read_by_lane,
        refused_send_is_taken_back_to_being_made_ready;
    queue:
        an_accepted_note_is_there_and_due,
        a_key_is_claimed_once_and_forgotten_in_time,
        simultaneous_requests_with_one_key_make_one_note,
        bounds_refuse_and_store_nothing,
        only_the_head_of_a_lane_is_leased,
        a_connection_gets_no_more_than_it_has_room_for,
        a_lease_is_nobody_elses_until_it_runs_out,
        an_old_fence_changes_nothing,
        a_lease_that_ends_while_sending_is_an_interruption,
        a_retry_waits_for_its_time_and_keeps_its_place,
        a_paused_connection_waits_and_no_other,
        a_held_lane_is_let_go_in_time,
        an_expired_note_comes_up_although_its_lane_is_blocked,
        a_note_that_moves_on_is_in_its_new_lane,
        what_was_learned_comes_back_until_it_is_old_or_dropped,
        old_audio_is_listed_and_old_notes_are_forgotten,
        a_secret_is_made_once,
        ending_all_leases_frees_them,
        concurrent_claims_never_share_a_delivery,
        a_note_that_moves_into_a_busy_lane_waits_there,
        expiring_takes_no_place_at_the_provider,
        a_note_belongs_to_its_tenant,
        a_rate_bounds_how_many_begin_within_its_span,
        a_lane_is_in_the_order_in_which_its_notes_became_due,
        places_go_to_the_tenant_with_fewest_under_way,
        the_last_places_are_for_tenants_with_little_under_way,
        a_waiting_note_is_cancelled_and_one_under_way_is_not,
        a_download_takes_no_place_of_its_connection_and_keeps_its_place_in_the_lane,
        a_host_without_places_holds_back_no_other,
        what_a_process_works_on_is_not_taken_from_it,
        what_a_process_that_is_gone_had_leased_waits_for_its_turn,
        ends_have_places_of_their_own;
    events:
        every_change_that_matters_is_one_event,
        a_bot_is_told_of_one_notes_events_in_order,
        events_are_read_on_from_any_position,
        an_erased_note_leaves_no_events,
        old_events_are_forgotten_unless_still_to_be_told,
        a_connection_that_fails_again_and_again_is_paused_and_tried_by_one,
        failures_that_overlap_in_time_are_one,
        a_pause_grows_from_one_probe_to_the_next,
        any_success_ends_the_pause_unless_the_provider_asked_for_it;
    receipts:
        a_receipt_raises_the_note_and_a_replay_changes_nothing,
        a_receipt_before_its_message_has_a_name_waits_for_it,
        a_receipt_while_the_note_is_under_way_is_taken_in_afterwards,
        a_receipt_resolves_an_unknown_and_lets_go_of_its_lane,
        events_of_a_batch_are_taken_in_once_however_they_are_grouped,
        a_receipt_of_another_connection_is_none_of_this_note,
        a_note_that_arrived_is_not_sent_again,
        a_deadline_stalls_only_a_note_without_a_receipt,
        a_look_up_is_due_once_and_ends_when_the_note_is_known;
    lists:
        a_list_is_one_tenants_newest_first_and_filtered,
        a_source_is_kept_beside_its_note_and_goes_with_its_audio,
        a_note_that_is_due_sooner_goes_first,
        only_a_finished_note_is_erased,
        what_attempts_say_of_a_connection_is_kept,
        what_is_not_done_is_counted_by_connection_and_state,
        an_upload_is_its_tenants_until_it_is_removed;
    shares:
        what_is_due_in_more_than_a_day_does_not_fill_the_queue,
        what_comes_within_a_day_is_counted_among_those_that_wait,
        a_tenant_below_its_share_is_let_in_although_others_fill_the_queue,
        audio_counts_for_its_tenant_while_it_is_kept,
        what_would_not_be_read_back_is_refused_and_spoils_nothing_else,
        every_list_has_what_fits_and_nothing_else,
        positions_tell_nothing_of_other_tenants;
}

/// Each combination of filters, with its number in the name of the list.
fn filters() -> impl Iterator<Item = Wanted<'static>> {
    (0..8).map(|bits| Wanted {
        tenant: "t",
        status: (bits & 1 > 0).then_some(Status::Failed),
        to: (bits & 2 > 0).then_some("+1"),
        via: (bits & 4 > 0).then_some("c"),
        before: None,
        limit: 50,
    })
}

/// However many notes there are, a list reads the end of an index and no further.
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
        // What the union made of the ends is sorted, and that is no more than the pages.
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

/// A position that was a plain number is known for as long as clients may hold it.
#[tokio::test]
async fn positions_from_before_an_upgrade_are_taken_and_no_others() {
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
    // As the upgrade notes down.
    let raw = raw::Raw::sqlite(folder.path()).await;
    raw.change("UPDATE plain_positions SET until = 3 WHERE $1 = $2", "x", "x").await;
    drop(raw);
    let path = folder.path().join("nested/voicegate.db");
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).await.expect("a store"));
    fail(&store).await;
    for (position, expected) in [("0", Some(4)), ("2", Some(2)), ("3", Some(1)), ("4", None), ("99", None)] {
        let wanted =
            voicegate::store::WantedEvents { tenant: "t", note: None, after: Some(position), limit: 9 };
        let found = store.events(&wanted).await.ok().map(|events| events.len());
        assert_eq!(found, expected, "{position}");
    }
}

/// Free pages of a database are copied with it, so nothing that was erased may be in them.
#[tokio::test]
async fn an_erased_source_is_nowhere_in_the_database() {
    let mark = b"a voice that asked to be forgotten";
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("voicegate.db");
    let holds = || std::fs::read(&path).expect("the file").windows(mark.len()).any(|found| found == mark);
    {
        let store = SqliteStore::open(&path).await.expect("a store");
        let audio = mark.repeat(1000).into();
        let new = NewNote { source: Some(audio), ..support::new_note("t", "c", "r", support::start()) };
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
async fn a_database_in_use_is_refused_and_one_that_was_closed_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("voicegate.db");
    let store = SqliteStore::open(&path).await.expect("a store");
    let error = SqliteStore::open(&path).await.expect_err("in use").to_string();
    assert!(error.contains("in use"), "{error}");
    drop(store);
    SqliteStore::open(&path).await.expect("free again");
}

#[tokio::test]
async fn one_note_that_cannot_be_read_stops_no_other() {
    use voicegate::store::{Bounds, ClaimRequest, Rooms};

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
        rooms: Rooms::each(10, 0),
        held: &[],
        bounds: &|_| Bounds::of(10, None),
    };
    let claims = store.claim(&request).await.expect("claimed");
    assert_eq!(claims.iter().map(|claim| claim.note.id).collect::<Vec<_>>(), [notes[1].note.id]);
}

#[cfg(unix)]
#[tokio::test]
async fn the_database_is_readable_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let (store, folder) = sqlite().await;
    store.ping().await.expect("alive");
    for entry in std::fs::read_dir(folder.path().join("nested")).expect("a folder").flatten() {
        let mode = entry.metadata().expect("facts").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
    }
}

/// What waits would otherwise wait for as long as the clock is behind.
#[tokio::test]
async fn a_start_with_an_earlier_wall_clock_goes_on_from_the_newest_entry() {
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
async fn what_was_committed_is_there_after_a_reopen() {
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
fn the_queue_on_sqlite_is_as_its_model() {
    model::explore(150, sqlite);
}

#[test]
fn the_queue_on_postgresql_is_as_its_model() {
    if std::env::var_os("VOICEGATE_TEST_POSTGRES").is_none() {
        return println!("skipped: there is no PostgreSQL");
    }
    model::explore(25, async || postgres().await.expect("a database"));
}
