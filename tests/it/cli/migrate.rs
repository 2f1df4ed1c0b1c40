//! `visage migrate`.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::postgres::TestDatabase;

fn visage(folder: &Path, database: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_visage"))
        .args(arguments)
        .current_dir(folder)
        .env("VISAGE_DATABASE__URL", database)
        .env("VISAGE_DATABASE__MIGRATE", "false")
        .output()
        .unwrap()
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_is_printed_before_the_tables_change() {
    let folder = tempfile::tempdir().unwrap();
    let postgres = TestDatabase::create().await;
    for database in [format!("sqlite://{}/visage.db", folder.path().display()), postgres.url()] {
        let run = |arguments: &[&str]| visage(folder.path(), &database, arguments);
        let refused = run(&["keys", "list"]);
        assert_eq!(refused.status.code(), Some(4), "{database}: the tables do not exist");
        let plan = printed(&run(&["migrate", "--plan"]));
        assert!(plan.starts_with("-- 0001 jobs\n") && plan.contains("CREATE TABLE jobs ("), "{plan}");
        assert_eq!(printed(&run(&["migrate", "--plan"])), plan, "{database}: the plan changes nothing");
        let steps = plan.lines().filter(|line| line.starts_with("-- 0") && line.as_bytes()[7] == b' ').count();
        let applied = printed(&run(&["migrate"]));
        assert_eq!(applied.lines().count(), steps, "{applied}");
        assert!(applied.starts_with("applied 0001 jobs\n"), "{applied}");
        for arguments in [&["migrate"][..], &["migrate", "--plan"]] {
            assert_eq!(printed(&run(arguments)), "The tables are up to date.\n");
        }
        printed(&run(&["keys", "list"]));
    }
}

#[test]
fn a_database_that_does_not_answer_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = visage(folder.path(), "postgres://nobody@127.0.0.1:9/nothing", &["migrate"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("database"));
}
