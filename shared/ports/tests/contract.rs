//! The local adapters keep the contract.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "../../../tests/contract/cases.rs"]
mod cases;

use std::sync::Arc;
use std::time::Duration;

use cases::{ManualClock, World};
use ports::PortError;
use ports::local::{Database, FileBlobs};

fn local() -> World {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let database = Database::open(&folder.path().join("state.sqlite"), clock.clone()).unwrap();
    let root = folder.path().join("blobs");
    std::fs::create_dir(&root).unwrap();
    World {
        clock,
        state: Arc::new(database.clone()),
        queue: Arc::new(database),
        blobs: Arc::new(FileBlobs::new(root.clone())),
        damage: Box::new(move |digest, bytes| {
            std::fs::write(root.join(&digest.hex()[..2]).join(&digest.hex()[2..]), bytes).unwrap();
            Box::pin(async {})
        }),
        patience: Duration::ZERO,
        _kept: Box::new(folder),
    }
}

macro_rules! tests {
    ($($case:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $case() {
                cases::$case(local()).await;
            }
        )+
    };
}

cases::every_case!(tests);

#[tokio::test]
async fn a_conflict_says_what_was_found() {
    let world = local();
    let key = ports::Key::new("package#zlib", "version#1");
    for condition in [ports::Condition::Absent, ports::Condition::Revision(1)] {
        let mut transaction = ports::Transaction::default();
        transaction.put(key.clone(), condition, &1).unwrap();
        world.state.commit(transaction).await.unwrap();
    }
    let mut transaction = ports::Transaction::default();
    transaction.put(key, ports::Condition::Revision(1), &1).unwrap();
    let error = world.state.commit(transaction).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "`package#zlib/version#1` was changed by another writer: expected revision 1, found revision 2"
    );
}

#[test]
fn one_process_works_in_a_home_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let home = ports::local::Home::open(folder.path()).unwrap();
    let lock = home.lock().unwrap();
    let error = home.lock().unwrap_err();
    assert!(matches!(error, PortError::HomeBusy { .. }), "{error}");
    drop(lock);
    home.lock().unwrap();
}
