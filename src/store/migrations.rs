//! The migrations: build.rs embeds the files of the folder `migrations` into the program.

use std::borrow::Cow;
use std::sync::LazyLock;

use sqlx::SqlStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Version, description and SQL of each migration.
const FILES: &[(i64, &str, &str)] = &include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

pub(super) static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let migration = |&(version, description, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, Cow::Borrowed(description), MigrationType::Simple, SqlStr::from_static(sql), false)
    };
    Migrator::with_migrations(FILES.iter().map(migration).collect())
});

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The database stores the checksums of its migrations and rejects a program in which one differs.
    #[tokio::test]
    async fn embedded_migrations_equal_those_that_sqlx_reads_from_the_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let known = |migrator: &Migrator| -> Vec<_> {
            migrator.iter().map(|one| (one.version, one.description.to_string(), one.checksum.to_vec())).collect()
        };
        let files = known(&Migrator::new(folder).await.unwrap());
        assert_eq!(known(&MIGRATIONS), files);
        assert_eq!(files[0].1, "jobs");
    }
}
