//! `visage` as a process of its own.

use std::path::Path;
use std::process::{Child, Command};

use super::clips::Models;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_visage");

/// Returns the command `visage` with these arguments. Its settings are in `home`, see [`set_up`].
pub fn visage(home: &Path, models: &Models, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments);
    set_up(&mut command, home, models);
    command
}

/// Sets the environment of a `visage` whose settings, database, videos and mails are in the folder `home`. It listens at
/// a free port.
pub fn set_up(command: &mut Command, home: &Path, models: &Models) {
    // An empty file, so that the files in `config/` are not read.
    let config = home.join("settings.toml");
    std::fs::write(&config, "").unwrap();
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("VISAGE_CONFIG", config)
        .env("VISAGE_DATABASE__URL", format!("sqlite://{}/visage.db", home.display()))
        .env("VISAGE_STORAGE__FOLDER", home.join("videos"))
        .env("VISAGE_MAIL__OUTBOX", home.join("outbox"))
        .env("VISAGE_HTTP__LISTEN", "127.0.0.1:0")
        .env("VISAGE_MODELS__FOLDER", models.path())
        .env("VISAGE_ENGINE__DEVICE", "cpu")
        .env_remove("VISAGE_LOG");
}

/// A process that is killed on drop.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
