//! Classifies database errors by [`Fault`].

use super::StoreError;
use crate::fault::{Fault, Part};

/// SQLite's primary result codes for a refused value: SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH.
const REFUSED_BY_SQLITE: [i32; 3] = [18, 19, 20];

impl StoreError {
    /// Returns the fault. It is unclear if the database refuses a value, or holds one that cannot be read.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Sql(sqlx::Error::Database(error)) if is_refusal(error.as_ref()) => Fault::Unclear,
            Self::Sql(_)
            | Self::Migrate(_)
            | Self::OldTables
            | Self::NewerTables(_)
            | Self::Locked
            | Self::Folder { .. } => Fault::Ours(Part::Database),
            Self::Corrupt { .. } => Fault::Unclear,
        }
    }
}

fn is_refusal(error: &dyn sqlx::error::DatabaseError) -> bool {
    let code = error.code().unwrap_or_default();
    // Postgres: five characters; classes 22 (data exception), 23 (constraint violation) and 54 (limit exceeded).
    if code.len() == 5 {
        return ["22", "23", "54"].iter().any(|class| code.starts_with(class));
    }
    code.parse::<i32>().is_ok_and(|code| REFUSED_BY_SQLITE.contains(&(code & 0xff)))
}
