//! `visage migrate`: updates the tables of the database.

use super::Failure;
use crate::config::Settings;
use crate::store::Store;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only print the SQL that would run.
    #[arg(long)]
    plan: bool,
}

pub fn run(args: Args, mut settings: Settings) -> Result<(), Failure> {
    super::serve::run(async move {
        let missing = Store::missing_migrations(&settings.database).await.map_err(|error| failed(&error))?;
        if missing.is_empty() {
            return super::print("The tables are up to date.\n");
        }
        if args.plan {
            let plan = missing.iter().map(|(number, name, sql)| format!("-- {number:04} {name}\n{}\n\n", sql.trim()));
            return super::print(&plan.collect::<String>());
        }
        settings.database.migrate = true;
        let store = Store::open(&settings.database).await.map_err(|error| failed(&error))?;
        store.close().await;
        for (number, name, _) in missing {
            super::print(&format!("applied {number:04} {name}\n"))?;
        }
        Ok(())
    })
}

fn failed(error: &crate::store::StoreError) -> Failure {
    Failure::Missing(format!("{error}\nRun `visage doctor` for details."))
}
